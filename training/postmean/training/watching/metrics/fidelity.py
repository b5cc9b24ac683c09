"""FID, KID, precision, recall and Inception Score while a model trains, on a budget of images."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from postmean.contract.image_store import ImageStore
    from postmean.training.model.preconditioning import Denoiser


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """What `postmean evaluate` would measure of as many images of seed 0."""

    name: str = "scores"
    every_kimg: float
    images: int
    feature_extractor_weights: Path | None = None
    """Inception weights in torch-fidelity's format; None: downloaded once."""

    def measure(self, model: "Denoiser", images: "np.ndarray", store: "ImageStore") -> dict[str, Any]:
        """The fields of `Scores`."""
        from postmean.training.scores import ArrayImages, score  # here: torch-fidelity takes a second

        device = next(model.parameters()).device
        return asdict(score(ArrayImages([images]), store, device, self.feature_extractor_weights))
