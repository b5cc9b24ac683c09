"""Public modules whose names are imported when they are first used.

Such a module lists its names once, as `from module import Name as Name` in an `if TYPE_CHECKING:` block. Type checkers
read the block; `exports` reads it at run time.
"""

import ast
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any


def exports(module: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a public module.

    Args:
        module: its `__name__`.
    """
    where = {
        alias.asname or alias.name: (block.module or "", alias.name)
        for statement in ast.parse(inspect.getsource(sys.modules[module])).body
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
        for block in statement.body
        if isinstance(block, ast.ImportFrom)
        for alias in block.names
    }

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        source, original = where[name]
        value = getattr(importlib.import_module(source), original)
        setattr(sys.modules[module], name, value)  # the next use does not come here
        return value

    return get, lambda: sorted(where), sorted(where)


class LazyModule:
    """A module that is imported when one of its names is first used.

    For modules that the command line needs only after it has parsed: numpy alone takes a quarter of a second.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)
