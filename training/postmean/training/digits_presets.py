"""Small twins of the published recipes, for the 8x8 digits of scikit-learn: readable digits in minutes on two cores.

Losses, preconditionings and noise are those of the papers. Network, rates and lengths are ours, and what a paper fits
to its length is fitted to ours. CT's teacher lags by 1 / (1 - mu) steps at each of N levels: on CIFAR-10 that is 13 %
of the published training, and 14 % here. ECT tunes a trained network: pass --init with a model of edm-digits.
"""

from typing import Any

from postmean.training.config import TrainConfig
from postmean.training.for_targets import for_targets
from postmean.training.model.ema import ConstantEMA, HalfLifeEMA, PowerEMA
from postmean.training.model.losses import (
    CTLoss,
    ECTLoss,
    EDM2Loss,
    EDMLoss,
    FlowLoss,
    ICTLoss,
    MeanFlowLoss,
    SCMLoss,
)
from postmean.training.model.networks import DDPMppNetwork, UNet2DNetwork
from postmean.training.model.preconditionings import (
    CMPreconditioning,
    EDMPreconditioning,
    FlowPreconditioning,
    TrigFlowPreconditioning,
)
from postmean.training.optimiser import OptimiserConfig
from postmean.training.schedules import ConstantSchedule, InverseSqrtSchedule

DIGITS = UNet2DNetwork(
    architecture="ddpm++", channels=32, channel_mult=(1, 2), layers_per_block=1, attention_resolutions=(4,)
)
TWO_TIMES = DDPMppNetwork(
    channels=32, channel_mult=(1, 2), layers_per_block=1, attention_resolutions=(4,), second_time=True
)


def _denoiser(name: str, **settings: Any) -> TrainConfig:
    shared = dict(network=DIGITS, optimiser=OptimiserConfig(name="adam", lr=2e-3), ema=HalfLifeEMA(half_life_kimg=5))
    shared |= dict(schedule=ConstantSchedule(warmup_kimg=10))
    return for_targets(name, 256, checkpoint_every=200, **(shared | settings))


RADAM = OptimiserConfig(name="radam", lr=2e-3)
QUICK_RADAM = OptimiserConfig(name="radam", lr=2e-3, beta2=0.99)
"""With beta2 0.999 the warm-up that RAdam has inside would last longer than the training."""


def _one_step(name: str, **settings: Any) -> TrainConfig:
    shared = dict(network=DIGITS, optimiser=RADAM, ema=ConstantEMA(decay=0.99))
    return for_targets(name, 256, checkpoint_every=200, **(shared | settings))


DIGITS_PRESETS: dict[str, TrainConfig] = {
    "edm-digits": _denoiser("edm-digits", preconditioning=EDMPreconditioning(), loss=EDMLoss()),
    "edm2-digits": _denoiser(
        "edm2-digits",
        preconditioning=EDMPreconditioning(),
        loss=EDM2Loss(channels=32),
        schedule=InverseSqrtSchedule(decay_kimg=50, warmup_kimg=10),
        ema=PowerEMA(sigma_rel=0.05),
        more_emas=(PowerEMA(sigma_rel=0.10),),
        snapshot_every=100,
    ),
    "flow-digits": _denoiser("flow-digits", preconditioning=FlowPreconditioning(), loss=FlowLoss()),
    "ct-digits": _one_step(
        "ct-digits", preconditioning=CMPreconditioning(), loss=CTLoss(mu0=0.2), optimiser=QUICK_RADAM
    ),
    "ict-digits": _one_step("ict-digits", preconditioning=CMPreconditioning(), loss=ICTLoss()),
    "ect-digits": _one_step(
        "ect-digits",
        preconditioning=EDMPreconditioning(),
        loss=ECTLoss(),
        optimiser=OptimiserConfig(name="radam", lr=1e-3, beta2=0.99),
    ),
    "scm-digits": _one_step(
        "scm-digits", preconditioning=TrigFlowPreconditioning(), loss=SCMLoss(warmup_kimg=25, channels=32)
    ),
    "meanflow-digits": _one_step(
        "meanflow-digits",
        network=TWO_TIMES,
        preconditioning=FlowPreconditioning(),
        loss=MeanFlowLoss(),
    ),
}
