"""Which tuples each rank takes."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Share:
    """Part `rank` of `world_size` equal parts of each global batch: every rank has the same number of batches."""

    tuples: range
    """First tuple of each global batch; its step is the global batch size."""
    rank: int
    world_size: int

    def of(self, first: int) -> range:
        """This rank's tuples of the global batch that begins at tuple `first`."""
        size = self.tuples.step // self.world_size
        return range(first + self.rank * size, first + (self.rank + 1) * size)
