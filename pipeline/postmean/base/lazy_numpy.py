"""numpy, imported when it is first used: for modules of the command line, whose help needs none of it.

Annotations that name it are strings, because Python evaluates others at import.
"""

from typing import TYPE_CHECKING

from postmean.base.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

__all__ = ["np"]
