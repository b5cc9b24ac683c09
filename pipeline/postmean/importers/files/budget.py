"""How much an archive may still unpack to: it and all archives inside it share one bound."""

from postmean.importers import limits


class DamagedArchiveError(Exception):
    """The archive is not as it should be."""


class Budget:
    """Bytes that an archive, with the archives inside it, may unpack to.

    Args:
        packed: size of the outermost archive in bytes.
    """

    def __init__(self, packed: int) -> None:
        self.most = limits.most_unpacked(packed)
        self._spent = 0

    def spend(self, count: int) -> None:
        """Count unpacked bytes.

        Raises:
            DamagedArchiveError: they are too many.
        """
        self._spent += count
        if self._spent > self.most:
            raise DamagedArchiveError(f"more than {self.most:,} bytes in it: no data set compresses so well")
