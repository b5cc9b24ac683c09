"""The table of estimators: one row each, with everything the rest of the code needs to know about it.

A new estimator is one file with a `make` function, and one row in `ROWS`. An estimator outside the package declares its
row, an `EstimatorTraits`, as an entry point of the group `postmean.estimators`, where actors on every machine find it.
No torch here: the command line reads the table.
"""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Literal

from postmean.base.errors import ConfigError

ENTRY_POINTS = "postmean.estimators"
"""Entry point group for estimators from outside the package."""


@dataclass(frozen=True, kw_only=True)
class EstimatorTraits:
    """What the rest of the code needs to know about an estimator."""

    name: str
    make: str
    """`module:function` of (EstimatorSettings, Population, max_support) -> Estimator; imported when needed."""
    estimates_exact_mean: bool
    """Whether it estimates E[x | z, sigma], to which the certificate applies; stf and single-sample do not."""
    promise: Literal["each", "expected"] | None = None
    """What keeps the tolerance: each record, or the expectation over eps. None: no promise, the error is sampling's."""
    searches: bool = False
    """Whether it searches for neighbours, with k, index and nprobe."""
    draws: bool = False
    """Whether it draws random numbers: without, the same queries have the same means every time."""
    support_is_drawn: bool = False
    """Whether the members of a support are n draws, so that their number does not grow with the data set."""
    keeps_directions: bool = False
    """Whether it keeps coordinates of every member along the leading directions (see `candidates`)."""
    colour: str = "#555555"
    """Colour of its curves in pictures."""
    marker: str = "o"
    """Marker of its curves in pictures, as matplotlib names it."""


ROWS = (
    EstimatorTraits(
        name="auto",
        make="postmean.estimators.auto:make",
        estimates_exact_mean=True,
        promise="expected",
        keeps_directions=True,
        colour="#c51b3a",
        marker="*",
    ),
    EstimatorTraits(
        name="knn-snis",
        make="postmean.estimators.knn_snis:make",
        estimates_exact_mean=True,
        searches=True,
        draws=True,
        support_is_drawn=True,
        colour="#2166ac",
    ),
    EstimatorTraits(
        name="knn-stratified",
        make="postmean.estimators.knn_stratified:make",
        estimates_exact_mean=True,
        searches=True,
        draws=True,
        colour="#1b9e77",
        marker="v",
    ),
    EstimatorTraits(
        name="exact",
        make="postmean.estimators.exact:make",
        estimates_exact_mean=True,
        promise="each",
        colour="#555555",
        marker="P",
    ),
    EstimatorTraits(
        name="posterior-mc",
        make="postmean.estimators.posterior_mc:make",
        estimates_exact_mean=True,
        draws=True,
        support_is_drawn=True,
        colour="#222222",
        marker="D",
    ),
    EstimatorTraits(
        name="stf",
        make="postmean.estimators.stf:make",
        estimates_exact_mean=False,
        draws=True,
        support_is_drawn=True,
        colour="#e08214",
        marker="^",
    ),
    EstimatorTraits(
        name="single-sample",
        make="postmean.estimators.single_sample:make",
        estimates_exact_mean=False,
        colour="#8c8c8c",
        marker="s",
    ),
)


@cache
def table() -> dict[str, EstimatorTraits]:
    """The row of every estimator by name; those from outside the package come last.

    Raises:
        ConfigError: an entry point of the group is not an `EstimatorTraits`, or has the name of another estimator.
    """
    rows = {row.name: row for row in ROWS}
    for point in entry_points(group=ENTRY_POINTS):
        row = point.load()
        if not isinstance(row, EstimatorTraits) or row.name in rows:
            raise ConfigError(
                f"entry point {point.name} of {ENTRY_POINTS}: expected an EstimatorTraits of a new name, got {row!r}: "
                "correct or remove the package that declares it"
            )
        rows[row.name] = row
    return rows


def traits_of(name: str) -> EstimatorTraits:
    """The row of an estimator; ConfigError if there is none of this name."""
    for row in ROWS:  # first, so that built-in estimators need no look at the entry points
        if row.name == name:
            return row
    if name not in table():
        raise ConfigError(f"estimator {name!r}: expected one of {', '.join(table())}")
    return table()[name]
