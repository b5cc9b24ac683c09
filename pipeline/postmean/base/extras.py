"""Third-party packages that not every command needs: a missing one is an error of one line that says what to install.

pyproject.toml lists the packages of each extra.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from postmean.base.errors import ConfigError

_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "torch_fidelity": "torch-fidelity"}
"""Import names that are not the name of the distribution."""


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around imports of third-party modules: raise ConfigError, which names the extra, where one is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise _missing(error.name or str(error), extra) from error


def check_installed(extra: str, *modules: str) -> None:
    """Raise the same error before long work that ends with these imports; nothing is imported."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise _missing(module, extra)


def _missing(module: str, extra: str) -> ConfigError:
    package = module.partition(".")[0]
    return ConfigError(f"needs {_DISTRIBUTIONS.get(package, package)}: pip install 'postmean[{extra}]'")
