"""Learning-rate schedules, one file each. `AnySchedule` is the table of schedules that the commands can name."""

from postmean.training.schedules.constant import ConstantSchedule
from postmean.training.schedules.cosine import CosineSchedule
from postmean.training.schedules.inverse_sqrt import InverseSqrtSchedule
from postmean.training.schedules.schedule import Schedule

AnySchedule = ConstantSchedule | CosineSchedule | InverseSqrtSchedule

__all__ = ["AnySchedule", "ConstantSchedule", "CosineSchedule", "InverseSqrtSchedule", "Schedule"]
