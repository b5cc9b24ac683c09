"""What of a checkpoint diffusers can load besides the network: a scheduler that goes with it, or a whole pipeline.

A pipeline is a `ConsistencyModelPipeline`, whose loop of scaling, network and step suits every scheduler that scales
its input. The others need a loop of one's own, as docs/python-api.md shows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from postmean.training.model.networks.modules.diffusers_unet import DiffusersUNet
from postmean.training.model.preconditionings import CMPreconditioning

if TYPE_CHECKING:
    from postmean.training.checkpoint import DenoiserCard


@dataclass(frozen=True, kw_only=True)
class Export:
    """How diffusers samples from a UNet2DModel."""

    scheduler: str
    """Name of the class."""
    settings: dict[str, Any]
    is_pipeline: bool = True
    """Whether a ConsistencyModelPipeline runs it."""
    steps: str = "any number of steps"

    def __str__(self) -> str:
        how = "ConsistencyModelPipeline" if self.is_pipeline else "UNet2DModel, in a loop of your own"
        return f"{how}, with {self.scheduler}, {self.steps}"


def export_of(card: "DenoiserCard", has_unet: bool) -> Export | str:
    """How diffusers samples from the model of a card, or in a line why it cannot.

    Args:
        has_unet: whether its network is diffusers' own.
    """
    if not has_unet:
        return "none: its network is not diffusers' UNet2DModel, as --network unet2d is"
    preconditioning, data = card.preconditioning, {"sigma_data": card.preconditioning.sigma_data}
    if isinstance(preconditioning, CMPreconditioning):
        if preconditioning.time_conditioning != "250 ln sigma":
            return "UNet2DModel alone: diffusers' consistency scheduler gives the network 250 ln sigma as time"
        settings = data | {"sigma_min": preconditioning.sigma_min}
        return Export(scheduler="CMStochasticIterativeScheduler", settings=settings)
    found = {
        ("edm", False): Export(scheduler="EDMDPMSolverMultistepScheduler", settings=data),
        ("edm", True): Export(scheduler="EDMEulerScheduler", settings=data, steps="one step"),
        ("flow", False): Export(
            scheduler="FlowMatchEulerDiscreteScheduler", settings={"num_train_timesteps": 1}, is_pipeline=False
        ),
        ("trigflow", True): Export(scheduler="SCMScheduler", settings=data, is_pipeline=False),
    }.get((preconditioning.kind, card.consistency))
    kind = "consistency model" if card.consistency else "denoiser"
    return found or f"UNet2DModel alone: diffusers has no scheduler for a {kind} with {preconditioning.kind}"


def write_export(folder: Path, network: nn.Module, card: "DenoiserCard") -> None:
    """Write scheduler/ and model_index.json into a checkpoint, as far as diffusers has them for its model."""
    export = export_of(card, isinstance(network, DiffusersUNet))
    if isinstance(export, str) or not isinstance(network, DiffusersUNet):
        return
    import diffusers

    scheduler = getattr(diffusers, export.scheduler)(**export.settings)
    scheduler.save_pretrained(folder / "scheduler")
    if export.is_pipeline:
        from diffusers.pipelines.consistency_models.pipeline_consistency_models import ConsistencyModelPipeline

        ConsistencyModelPipeline(network.unet, scheduler).save_config(folder)  # model_index.json
