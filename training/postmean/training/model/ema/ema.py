"""The form of an average of the weights.

A new average is one file with a frozen dataclass of this form, and one entry in `AnyEMA`.
"""

from typing import ClassVar, Protocol


class EMA(Protocol):
    """A decay for each step: average = decay average + (1 - decay) weights."""

    kind: ClassVar[str]
    """Name in config.json and on the command line."""

    def decay_at(self, images: int, batch_size: int) -> float:
        """Decay of the step that takes the run to `images` images."""
        ...
