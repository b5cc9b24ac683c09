"""When something happens that is due every so many images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Every:
    """The steps at which the images seen pass a multiple of `images`; 0: no step."""

    images: float
    batch_size: int

    def is_due(self, step: int) -> bool:
        """Whether the step does: a function of the step alone, so a resumed run has the same ones."""
        if self.images <= 0:
            return False
        return step * self.batch_size // self.images > (step - 1) * self.batch_size // self.images
