"""A population of which only a sample of the members is at hand: what a run over more images is planned on."""

from dataclasses import dataclass

from postmean.engine.population import Population


@dataclass(frozen=True)
class SampledPopulation(Population):
    """The members of a sample, each of which stands for several like it.

    What is decided by a number of members is then decided as over all those that the sample represents.

    Args:
        stands_for: members of the planned data set for each one at hand.
    """

    stands_for: float = 1.0

    @property
    def represented(self) -> float:
        return len(self) * self.stands_for

    def at_hand(self, total: float) -> float:
        return total / self.stands_for

    def at_hand_with_source(self, count: float) -> float:
        return 1 + (count - 1) / self.stands_for  # the source stands for itself alone
