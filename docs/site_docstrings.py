"""Docstrings as the site's parser wants them: an empty line before each section, examples as code."""

import re
from typing import Any

import griffe

_SECTION = re.compile(r"(?<=[^\n])\n(?=(?:Args|Returns|Raises|Yields):\n)")
_EXAMPLE = re.compile(r"^>>> .*?(?=\n\n|\n(?:Args|Returns|Raises|Yields):\n|\Z)", re.MULTILINE | re.DOTALL)


class Docstrings(griffe.Extension):
    """Changes what griffe has read, not the sources."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for each object."""
        if obj.docstring is not None:
            obj.docstring.value = tidy(obj.docstring.value)


def tidy(text: str) -> str:
    """A docstring with sections apart and examples fenced."""
    return _SECTION.sub("\n\n", _EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```\n", text))
