"""Training losses, one file each. `AnyLoss` is the table of losses that the commands can name."""

from postmean.training.model.losses.ct import CTLoss
from postmean.training.model.losses.ect import ECTLoss
from postmean.training.model.losses.edm import EDMLoss
from postmean.training.model.losses.edm2 import EDM2Loss
from postmean.training.model.losses.flow import FlowLoss
from postmean.training.model.losses.ict import ICTLoss
from postmean.training.model.losses.loss import Loss
from postmean.training.model.losses.meanflow import MeanFlowLoss
from postmean.training.model.losses.scm import SCMLoss

AnyLoss = EDMLoss | EDM2Loss | FlowLoss | CTLoss | ICTLoss | ECTLoss | SCMLoss | MeanFlowLoss

__all__ = [
    "AnyLoss",
    "CTLoss",
    "ECTLoss",
    "EDM2Loss",
    "EDMLoss",
    "FlowLoss",
    "ICTLoss",
    "Loss",
    "MeanFlowLoss",
    "SCMLoss",
]
