"""Noise distributions and discretisation curricula, one file each; `AnyNoise` lists them all."""

from postmean.contract.noise.ct import CTNoise
from postmean.contract.noise.ect import ECTNoise
from postmean.contract.noise.floor import FloorNoise
from postmean.contract.noise.ict import ICTNoise
from postmean.contract.noise.log_normal import LogNormalNoise
from postmean.contract.noise.logit_normal_time import LogitNormalTimeNoise
from postmean.contract.noise.meanflow import MeanFlowNoise
from postmean.contract.noise.noise import Noise, NoiseLevels
from postmean.contract.noise.uniform_time import UniformTimeNoise

AnyNoise = (
    LogNormalNoise
    | CTNoise
    | ICTNoise
    | ECTNoise
    | UniformTimeNoise
    | LogitNormalTimeNoise
    | MeanFlowNoise
    | FloorNoise
)

__all__ = [
    "AnyNoise",
    "CTNoise",
    "ECTNoise",
    "FloorNoise",
    "ICTNoise",
    "LogNormalNoise",
    "LogitNormalTimeNoise",
    "MeanFlowNoise",
    "Noise",
    "NoiseLevels",
    "UniformTimeNoise",
]
