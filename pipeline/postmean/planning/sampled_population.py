"""A population with only a sample of its members at hand, to plan a run over more images."""

from dataclasses import dataclass

from postmean.engine.population import Population


@dataclass(frozen=True)
class SampledPopulation(Population):
    """The members of a sample, each standing for several like it.

    Decisions that depend on a number of members are made as for all members that the sample represents.

    Args:
        stands_for: members of the planned data set per member at hand.
    """

    stands_for: float = 1.0

    @property
    def represented(self) -> float:
        return len(self) * self.stands_for

    def at_hand(self, total: float) -> float:
        return total / self.stands_for

    def at_hand_with_source(self, count: float) -> float:
        return 1 + (count - 1) / self.stands_for  # the source stands only for itself
