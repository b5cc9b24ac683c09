"""A training that takes a second: six steps of a tiny network on digits."""

from dataclasses import replace

from postmean.training.config import HalfLifeEMA
from postmean.training.presets import PRESETS

BATCH = 8
CONFIG = replace(
    PRESETS["edm-digits"],
    batch_size=BATCH,
    steps=6,
    network=replace(PRESETS["edm-digits"].network, channels=8, dropout=0.2),
    ema=HalfLifeEMA(half_life_kimg=0.05),
)
