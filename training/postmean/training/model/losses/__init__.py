"""Training losses, one file each. `AnyLoss` is the table of losses that the commands can name."""

from postmean.training.model.losses.ect import ECTLoss
from postmean.training.model.losses.edm import EDMLoss
from postmean.training.model.losses.ict import ICTLoss
from postmean.training.model.losses.loss import Loss

AnyLoss = EDMLoss | ICTLoss | ECTLoss

__all__ = ["AnyLoss", "ECTLoss", "EDMLoss", "ICTLoss", "Loss"]
