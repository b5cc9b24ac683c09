"""Averages of the weights, one file each. `AnyEMA` is the table of averages that the commands can name."""

from postmean.training.model.ema.constant import ConstantEMA
from postmean.training.model.ema.ema import EMA
from postmean.training.model.ema.half_life import HalfLifeEMA
from postmean.training.model.ema.power import PowerEMA

AnyEMA = ConstantEMA | HalfLifeEMA | PowerEMA

__all__ = ["EMA", "AnyEMA", "ConstantEMA", "HalfLifeEMA", "PowerEMA"]
