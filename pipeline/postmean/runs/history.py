"""How the records of a run grew over time: a few hundred points, whatever the length of the run."""

_SPACING = 1 / 64
"""Of the time since the first point: nearer points are thinned out, so the number grows with the logarithm of time."""

Point = tuple[float, int]
"""Unix time, and records committed by then."""


class History:
    """The points of a run's earlier drivers and of this one.

    Args:
        earlier: points of before, rising in time.
    """

    def __init__(self, earlier: tuple[Point, ...] = ()) -> None:
        self._points = list(earlier)

    @property
    def points(self) -> tuple[Point, ...]:
        """Rising in time; the first and the last are always kept."""
        return tuple(self._points)

    def add(self, time: float, records: int) -> None:
        """The run has this many records now. A clock that went back begins the history anew."""
        if self._points and time < self._points[-1][0]:
            self._points = []
        if len(self._points) >= 2:
            spacing = (time - self._points[0][0]) * _SPACING
            if time - self._points[-2][0] < spacing:
                self._points.pop()
        self._points.append((time, records))
