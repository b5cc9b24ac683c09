"""The messages in the code, with … for what is filled in."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def messages() -> frozenset[str]:
    """Every string of the packages; an f-string has … in place of each value."""
    found = set()
    for root in ("pipeline", "training"):
        for path in (ROOT / root).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                    found.add("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return frozenset(found)


def is_message(quoted: str) -> bool:
    """Whether the code has a message that holds these words."""
    return any(quoted in message for message in messages())
