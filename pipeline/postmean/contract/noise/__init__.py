"""Noise distributions and discretisation curricula, one file each; `AnyNoise` lists them all."""

from postmean.contract.noise.ect import ECTNoise
from postmean.contract.noise.floor import FloorNoise
from postmean.contract.noise.ict import ICTNoise
from postmean.contract.noise.log_normal import LogNormalNoise
from postmean.contract.noise.logit_normal_time import LogitNormalTimeNoise
from postmean.contract.noise.noise import Noise, NoiseLevels
from postmean.contract.noise.uniform_time import UniformTimeNoise

AnyNoise = LogNormalNoise | ICTNoise | ECTNoise | UniformTimeNoise | LogitNormalTimeNoise | FloorNoise

__all__ = [
    "AnyNoise",
    "ECTNoise",
    "FloorNoise",
    "ICTNoise",
    "LogNormalNoise",
    "LogitNormalTimeNoise",
    "Noise",
    "NoiseLevels",
    "UniformTimeNoise",
]
