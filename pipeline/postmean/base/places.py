"""The type of settings that name an image store: a folder or a URL."""

from pathlib import Path
from typing import Annotated, TypeAlias

from tyro.conf import Positional, arg

Place: TypeAlias = Annotated[str | Path, arg(metavar="PATH|URL")]
"""A folder's path, or a URL, which is a str."""
PositionalStore: TypeAlias = Annotated[Positional[str | Path], arg(metavar="STORE")]
"""The same, as an argument without a flag."""
