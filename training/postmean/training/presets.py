"""Training presets: the recipe of each paper over the targets of `postmean.contract.presets`.

    preset          network              batch  images   optimiser       dropout        average of weights
    edm-cifar10     DDPM++ 128 [2,2,2]     512  200 M    Adam 1e-3       0.13           half-life 0.5 M, ramp 0.05
    edm-imagenet64  ADM 192 [1,2,3,4]     4096  2500 M   Adam 1e-4       0.10           half-life 50 M, ramp 0.05
    ict-cifar10     NCSN++ 128 [2,2,2]    1024  410 M    RAdam 1e-4      0.3            0.99993
    ict-imagenet64  ADM 192 [1,2,3,4]     4096  3277 M   RAdam 1e-4      0.2            0.99997
    ect-cifar10     DDPM++ 128 [2,2,2]     128  25.6 M   RAdam 1e-4      0.2            0.9999
    ect-imagenet64  EDM2-S 192 [1,2,3,4]    128  12.8 M   Adam 1e-3, 1/sqrt  0.40 at <= 16  0.9999
    edm, ict, ect, vp, flow: as those for CIFAR-10, without flips
    vp-, flow-cifar10: as edm-cifar10, with the noise levels of those processes; flow with the weight of a velocity

EDM: Karras et al. 2022, Table 7. iCT: Song & Dhariwal 2024; Niedoba et al. 2024, Table 3. ECT: Geng et al. 2024, which
starts from an EDM checkpoint: pass --init. docs/recipes.md compares each field with its source, and says what differs.
Consistency training is in fp32: at a fine grid the error of bf16 exceeds the difference of student and teacher.
"""

from dataclasses import replace
from typing import Any

from postmean.contract.presets import PRESETS as TARGETS
from postmean.training.config import TrainConfig
from postmean.training.model.ema import ConstantEMA, HalfLifeEMA
from postmean.training.model.losses import ECTLoss, EDMLoss, ICTLoss
from postmean.training.model.networks import (
    ADMNetwork,
    AnyNetwork,
    DDPMppNetwork,
    EDM2Network,
    NCSNppNetwork,
    UNet2DNetwork,
)
from postmean.training.model.preconditionings import CMPreconditioning, EDMPreconditioning
from postmean.training.optimiser import OptimiserConfig
from postmean.training.schedules import ConstantSchedule, InverseSqrtSchedule

DDPMPP, ADM = DDPMppNetwork(), ADMNetwork()
NCSNPP = NCSNppNetwork(frequency_scale=0.02)
EDM2_S = EDM2Network(channels=192, dropout=0.40, dropout_side=16)
DIGITS = UNet2DNetwork(
    architecture="ddpm++", channels=32, channel_mult=(1, 2), layers_per_block=1, attention_resolutions=(4,)
)


def _recipe(name: str, batch_size: int, **settings: Any) -> TrainConfig:
    targets = TARGETS[name]
    return TrainConfig(
        recipe=targets.recipe,
        batch_size=batch_size,
        steps=targets.tuples // batch_size,
        **settings,
    )


def _edm(name: str) -> TrainConfig:
    return _recipe(
        name,
        512,
        network=replace(DDPMPP, dropout=0.13),
        preconditioning=EDMPreconditioning(),
        loss=EDMLoss(),
        optimiser=OptimiserConfig(name="adam", lr=1e-3),
        schedule=ConstantSchedule(warmup_kimg=10_000),
        ema=HalfLifeEMA(half_life_kimg=500),
    )


def _consistency(
    name: str, batch_size: int, network: AnyNetwork, dropout: float, decay: float, **settings: Any
) -> TrainConfig:
    return _recipe(
        name,
        batch_size,
        network=replace(network, dropout=dropout),
        optimiser=OptimiserConfig(name="radam", lr=1e-4),
        ema=ConstantEMA(decay=decay),
        **settings,
    )


_ICT: dict[str, Any] = dict(preconditioning=CMPreconditioning(), loss=ICTLoss())
_ICT_CIFAR: dict[str, Any] = _ICT | dict(preconditioning=CMPreconditioning(time_conditioning="0.25 ln sigma"))
_ECT: dict[str, Any] = dict(preconditioning=EDMPreconditioning(), loss=ECTLoss())

PRESETS: dict[str, TrainConfig] = {
    "edm": _edm("edm"),
    "ict": _consistency("ict", 1024, NCSNPP, 0.3, 0.99993, **_ICT_CIFAR),
    "ect": _consistency("ect", 128, DDPMPP, 0.2, 0.9999, **_ECT),
    "vp": _edm("vp"),
    "flow": replace(_edm("flow"), loss=EDMLoss(weight="velocity")),
    "edm-cifar10": _edm("edm-cifar10"),
    "edm-imagenet64": _recipe(
        "edm-imagenet64",
        4096,
        network=replace(ADM, dropout=0.10),
        preconditioning=EDMPreconditioning(),
        loss=EDMLoss(),
        optimiser=OptimiserConfig(name="adam", lr=1e-4),
        schedule=ConstantSchedule(warmup_kimg=10_000),
        ema=HalfLifeEMA(half_life_kimg=50_000),
        precision="bf16",
    ),
    "ict-cifar10": _consistency("ict-cifar10", 1024, NCSNPP, 0.3, 0.99993, **_ICT_CIFAR),
    "ict-imagenet64": _consistency("ict-imagenet64", 4096, ADM, 0.2, 0.99997, **_ICT),
    "ect-cifar10": _consistency("ect-cifar10", 128, DDPMPP, 0.2, 0.9999, **_ECT),
    "ect-imagenet64": _recipe(
        "ect-imagenet64",
        128,
        network=EDM2_S,
        preconditioning=EDMPreconditioning(),
        loss=ECTLoss(c=0.06, weight="edm"),
        optimiser=OptimiserConfig(name="adam", lr=1e-3, beta2=0.99),
        schedule=InverseSqrtSchedule(decay_kimg=256),  # 2000 batches
        ema=ConstantEMA(decay=0.9999),
    ),
    "vp-cifar10": _edm("vp-cifar10"),
    "flow-cifar10": replace(_edm("flow-cifar10"), loss=EDMLoss(weight="velocity")),
    "edm-digits": _recipe(
        "edm-digits",
        256,
        network=DIGITS,
        preconditioning=EDMPreconditioning(),
        loss=EDMLoss(),
        optimiser=OptimiserConfig(name="adam", lr=2e-3),
        schedule=ConstantSchedule(warmup_kimg=10),
        ema=HalfLifeEMA(half_life_kimg=5),
        checkpoint_every=200,
    ),
    "ict-digits": _recipe(
        "ict-digits",
        256,
        network=DIGITS,
        optimiser=OptimiserConfig(name="radam", lr=2e-3),
        ema=ConstantEMA(decay=0.99),
        checkpoint_every=200,
        **_ICT,
    ),
}
