"""Search of many uniform numbers among fixed edges by a table."""

from postmean.base.lazy_numpy import np

_CELLS = 1 << 16


class EdgeTable:
    """Rising edges in [0, 1), which cut it into intervals.

    A table of equal cells says for most numbers at once which interval they are in; only those in a cell with an edge
    are searched for. With the 1 280 edges of iCT that is one number in fifty.
    """

    def __init__(self, edges: "np.ndarray") -> None:
        below = np.searchsorted(edges, np.arange(_CELLS + 1) / _CELLS, side="right")
        self._edges, self._first, self._has_edge = edges, below[:-1], below[:-1] != below[1:]

    def interval(self, uniform: "np.ndarray") -> "np.ndarray":
        """Number of edges at or below each number, as `np.searchsorted(edges, uniform, side="right")`, int64.

        Args:
            uniform: numbers in [0, 1), float64.
        """
        cell = (uniform * _CELLS).astype(np.int64)  # exact: a power of two
        found = self._first[cell]
        unsure = np.flatnonzero(self._has_edge[cell])
        found[unsure] = np.searchsorted(self._edges, uniform[unsure], side="right")
        return found
