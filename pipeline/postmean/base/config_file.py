"""Settings from and to YAML or JSON files: the tree of the dataclass, as in the config.json of a run."""

import dataclasses
import json
import re
import typing
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from postmean.base.errors import ConfigError
from postmean.base.flags import incomplete, is_missing
from postmean.base.json_files import to_json
from postmean.base.paths import local_path
from postmean.base.serialise import check_names, convert, to_dict

T = TypeVar("T")
Unpack = Callable[[dict[str, Any], Path], dict[str, Any]]
"""Takes the settings out of the content of a file, at a path, that holds more; returns others as they are."""


def read_settings(cls: type[T], path: Path, base: T | None, unpack: Unpack = lambda plain, path: plain) -> T:
    """Settings of a file over those of `base`.

    Args:
        base: settings that the file need not have, such as a preset's.
    Returns:
        settings that are not validated if required ones are missing.
    Raises:
        ConfigError: no such file, not YAML or JSON, unknown names, wrong types, or values that the dataclass refuses.
    """
    plain = _parse(path)
    if not isinstance(plain, dict):
        raise ConfigError(f"{path}: expected names and values, such as `tuples: 20000`, got {type(plain).__name__}")
    plain = _merged(to_plain(base) if base is not None else {}, unpack(plain, path))
    check_names(cls, plain, str(path), missing_allowed=True)
    hints = typing.get_type_hints(cls)
    return incomplete(cls, **{name: convert(hints[name], value, f"{path}: {name}") for name, value in plain.items()})


def write_settings(settings: Any, path: Path) -> None:
    """Write a file that `read_settings` reads: JSON if its name ends so, else YAML."""
    data = to_json(settings) if path.suffix == ".json" else to_yaml(settings).encode()
    try:
        local_path(path).write_bytes(data)
    except OSError as error:
        raise ConfigError(f"{path}: cannot write: {error.strerror}: pass another --save-config") from error


def to_plain(settings: Any) -> dict[str, Any]:
    """The tree of the settings as plain values, without what is missing."""
    missing = {f.name for f in dataclasses.fields(settings) if is_missing(getattr(settings, f.name))}
    return {name: value for name, value in to_dict(settings).items() if name not in missing}


def to_yaml(settings: Any) -> str:
    """The settings as YAML, without what is missing."""
    import yaml

    return yaml.safe_dump(to_plain(settings), sort_keys=False, allow_unicode=True)


def _merged(base: Any, plain: Any) -> Any:
    """`plain` over `base`; a part of another kind replaces all of the base's."""
    if not (isinstance(base, dict) and isinstance(plain, dict)) or plain.get("kind", base.get("kind")) != base.get(
        "kind"
    ):
        return plain
    return base | {name: _merged(base.get(name), value) for name, value in plain.items()}


def _parse(path: Path) -> Any:
    try:
        text = local_path(path).read_bytes().decode()
        return json.loads(text, object_pairs_hook=_once) if path.suffix == ".json" else _parse_yaml(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: pass the YAML or JSON file of settings as --config") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a file of settings: {error}: `postmean config PRESET` prints one") from error


def _once(pairs: Iterable[tuple[Hashable, Any]]) -> dict[Any, Any]:
    """A mapping whose names are each given once: of two values one would be lost in silence."""
    found: dict[Any, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        found[name] = value
    return found


def _parse_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain values only, names once, and 1e-6 a number, as in YAML 1.2."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            return _once(
                (self.construct_object(name, True), self.construct_object(value, True)) for name, value in node.value
            )

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )
    try:
        return yaml.load(text, Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
