"""Optional third-party packages: a missing one raises an error of one line that says what to install.

pyproject.toml lists the packages of each extra.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from postmean.base.errors import ConfigError

_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "torch_fidelity": "torch-fidelity"}
"""Import name -> distribution, where the two differ."""


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Wrap imports of third-party modules: if one is not installed, raise a ConfigError that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise _missing(error.name or str(error), extra) from error


def check_installed(extra: str, *modules: str) -> None:
    """Raise the same error without importing: call it before long work that imports these modules at its end."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise _missing(module, extra)


def _missing(module: str, extra: str) -> ConfigError:
    package = module.partition(".")[0]
    return ConfigError(f"needs {_DISTRIBUTIONS.get(package, package)}: pip install 'postmean[{extra}]'")
