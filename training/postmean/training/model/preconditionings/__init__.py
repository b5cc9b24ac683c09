"""Preconditionings, one file each. `AnyPreconditioning` is the table of those that the commands can name."""

from postmean.training.model.preconditionings.cm import CMPreconditioning
from postmean.training.model.preconditionings.edm import EDMPreconditioning
from postmean.training.model.preconditionings.flow import FlowPreconditioning
from postmean.training.model.preconditionings.preconditioning import Preconditioning
from postmean.training.model.preconditionings.trigflow import TrigFlowPreconditioning

AnyPreconditioning = EDMPreconditioning | CMPreconditioning | FlowPreconditioning | TrigFlowPreconditioning

__all__ = [
    "AnyPreconditioning",
    "CMPreconditioning",
    "EDMPreconditioning",
    "FlowPreconditioning",
    "Preconditioning",
    "TrigFlowPreconditioning",
]
