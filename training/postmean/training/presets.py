"""Training presets: the recipe of each paper over the targets of `postmean.contract.presets`.

    preset            network             batch  images  optimiser          dropout       average of weights
    edm-cifar10       DDPM++ 128 [2,2,2]    512  200 M   Adam 1e-3          0.13          half-life 0.5 M, ramp 0.05
    edm-imagenet64    ADM 192 [1,2,3,4]    4096  2500 M  Adam 1e-4          0.10          half-life 50 M, ramp 0.05
    edm2-imagenet64   EDM2-M 256           2048  2147 M  Adam 9e-3, 1/sqrt  0.10          powers 0.05 and 0.10
    ct-cifar10        NCSN++ 128 [2,2,2]    512  410 M   RAdam 4e-4         0             0.9999
    ct-imagenet64     ADM 192 [1,2,3,4]    2048  1638 M  RAdam 1e-4         0             0.999943 and two more
    ict-cifar10       NCSN++ 128 [2,2,2]   1024  410 M   RAdam 1e-4         0.3           0.99993
    ict-imagenet64    ADM 192 [1,2,3,4]    4096  3277 M  RAdam 1e-4         0.2           0.99997
    ect-cifar10       DDPM++ 128 [2,2,2]    128  25.6 M  RAdam 1e-4         0.2           0.9999
    ect-cifar10-1h    DDPM++ 128 [2,2,2]    128  1.02 M  RAdam 1e-4         0.2           0.9993
    ect-imagenet64    EDM2-S 192           128  12.8 M  Adam 1e-3, 1/sqrt  0.4 at <= 16  0.9999 and three powers
    scm-cifar10       DDPM++ 128 [2,2,2]    512  205 M   RAdam 1e-4         0.2           half-life 0.5 M, ramp 0.05
    meanflow-cifar10  DDPM++, two times    1024  819 M   Adam 6e-4          0.2           0.99995
    edm, ct, ict, ect, scm, meanflow, vp, flow: as those for CIFAR-10, without flips
    vp-, flow-cifar10: as edm-cifar10, with the noise levels of those processes; flow with its own loss and input

EDM: Karras et al. 2022, Table 7. CT: Song et al. 2023, Table 3. iCT: Song & Dhariwal 2024; Niedoba et al. 2024,
Table 3. ECT: Geng et al. 2024, which starts from an EDM checkpoint: pass --init. sCM: Lu & Song 2024, from a checkpoint
of `edm-cifar10 --preconditioning trigflow`. MeanFlow: Geng et al. 2025. docs/recipes.md compares each field with its
source, and has the hours, hardware and FID of the papers, and the commands. Consistency training is in fp32: at a fine
grid the error of bf16 exceeds the difference of student and teacher.
"""

from dataclasses import replace
from typing import Any

from postmean.training.config import TrainConfig
from postmean.training.digits_presets import DIGITS as DIGITS
from postmean.training.digits_presets import DIGITS_PRESETS
from postmean.training.for_targets import for_targets
from postmean.training.model.ema import ConstantEMA, HalfLifeEMA, PowerEMA
from postmean.training.model.losses import CTLoss, ECTLoss, EDM2Loss, EDMLoss, FlowLoss, ICTLoss, MeanFlowLoss, SCMLoss
from postmean.training.model.networks import ADMNetwork, AnyNetwork, DDPMppNetwork, EDM2Network, NCSNppNetwork
from postmean.training.model.preconditionings import (
    CMPreconditioning,
    EDMPreconditioning,
    FlowPreconditioning,
    TrigFlowPreconditioning,
)
from postmean.training.optimiser import OptimiserConfig
from postmean.training.schedules import ConstantSchedule, InverseSqrtSchedule

DDPMPP, ADM = DDPMppNetwork(), ADMNetwork()
NCSNPP = NCSNppNetwork(frequency_scale=0.02)
EDM2_S = EDM2Network(channels=192, dropout=0.40, dropout_side=16)
EDM2_M = EDM2Network(channels=256, dropout=0.10)


def _edm(name: str) -> TrainConfig:
    return for_targets(
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
    return for_targets(
        name,
        batch_size,
        network=replace(network, dropout=dropout),
        optimiser=OptimiserConfig(name="radam", lr=1e-4),
        ema=ConstantEMA(decay=decay),
        **settings,
    )


def _flow(name: str) -> TrainConfig:
    return replace(_edm(name), preconditioning=FlowPreconditioning(), loss=FlowLoss())


def _ct(name: str) -> TrainConfig:
    return for_targets(
        name,
        512,
        network=NCSNppNetwork(),
        preconditioning=CMPreconditioning(time_conditioning="0.25 ln sigma"),
        loss=CTLoss(mu0=0.9),
        optimiser=OptimiserConfig(name="radam", lr=4e-4),
        ema=ConstantEMA(decay=0.9999),
    )


def _scm(name: str) -> TrainConfig:
    return for_targets(
        name,
        512,
        network=replace(DDPMPP, dropout=0.2),
        preconditioning=TrigFlowPreconditioning(),
        loss=SCMLoss(warmup_kimg=10_000 * 512 / 1000),  # 10 000 steps
        optimiser=OptimiserConfig(name="radam", lr=1e-4, beta2=0.99),
        ema=HalfLifeEMA(half_life_kimg=500),
    )


def _meanflow(name: str) -> TrainConfig:
    return for_targets(
        name,
        1024,
        network=DDPMppNetwork(dropout=0.2, second_time=True),
        preconditioning=FlowPreconditioning(),
        loss=MeanFlowLoss(p=0.75),
        optimiser=OptimiserConfig(name="adam", lr=6e-4),
        schedule=ConstantSchedule(warmup_kimg=10_000),  # 200 epochs
        ema=ConstantEMA(decay=0.99995),
    )


_ICT: dict[str, Any] = dict(preconditioning=CMPreconditioning(), loss=ICTLoss())
_ICT_CIFAR: dict[str, Any] = _ICT | dict(preconditioning=CMPreconditioning(time_conditioning="0.25 ln sigma"))
_ECT: dict[str, Any] = dict(preconditioning=EDMPreconditioning(), loss=ECTLoss())

PRESETS: dict[str, TrainConfig] = {
    "edm": _edm("edm"),
    "ict": _consistency("ict", 1024, NCSNPP, 0.3, 0.99993, **_ICT_CIFAR),
    "ect": _consistency("ect", 128, DDPMPP, 0.2, 0.9999, **_ECT),
    "vp": _edm("vp"),
    "flow": _flow("flow"),
    "ct": _ct("ct"),
    "scm": _scm("scm"),
    "meanflow": _meanflow("meanflow"),
    "edm-cifar10": _edm("edm-cifar10"),
    "edm-imagenet64": for_targets(
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
    "edm2-imagenet64": for_targets(  # edm2-img64-m of the published code
        "edm2-imagenet64",
        2048,
        network=EDM2_M,
        preconditioning=EDMPreconditioning(),
        loss=EDM2Loss(channels=128),
        optimiser=OptimiserConfig(name="adam", lr=9e-3, beta2=0.99),
        schedule=InverseSqrtSchedule(decay_kimg=71_680, warmup_kimg=10_000),  # 35 000 batches
        ema=PowerEMA(sigma_rel=0.05),
        more_emas=(PowerEMA(sigma_rel=0.10),),
        snapshot_every=4096,  # 8 Mi images
        precision="bf16",
    ),
    "ict-cifar10": _consistency("ict-cifar10", 1024, NCSNPP, 0.3, 0.99993, **_ICT_CIFAR),
    "ict-imagenet64": _consistency("ict-imagenet64", 4096, ADM, 0.2, 0.99997, **_ICT),
    "ect-cifar10": _consistency("ect-cifar10", 128, DDPMPP, 0.2, 0.9999, **_ECT),
    "ect-imagenet64": for_targets(
        "ect-imagenet64",
        128,
        network=EDM2_S,
        preconditioning=EDMPreconditioning(),
        loss=ECTLoss(c=0.06, weight="edm"),
        optimiser=OptimiserConfig(name="adam", lr=1e-3, beta2=0.99),
        schedule=InverseSqrtSchedule(decay_kimg=256),  # 2000 batches
        ema=ConstantEMA(decay=0.9999),
        more_emas=(PowerEMA(sigma_rel=0.01), PowerEMA(sigma_rel=0.05), PowerEMA(sigma_rel=0.10)),
        snapshot_every=10_000,
    ),
    "vp-cifar10": _edm("vp-cifar10"),
    "flow-cifar10": _flow("flow-cifar10"),
    "ct-cifar10": _ct("ct-cifar10"),
    "ct-imagenet64": for_targets(
        "ct-imagenet64",
        2048,
        network=ADM,
        preconditioning=CMPreconditioning(),
        loss=CTLoss(mu0=0.95),
        optimiser=OptimiserConfig(name="radam", lr=1e-4),
        ema=ConstantEMA(decay=0.9999432189950708),
        more_emas=(ConstantEMA(decay=0.9999), ConstantEMA(decay=0.99994)),
    ),
    "ect-cifar10-1h": _consistency("ect-cifar10-1h", 128, DDPMPP, 0.2, 0.9993, **_ECT),
    "scm-cifar10": _scm("scm-cifar10"),
    "meanflow-cifar10": _meanflow("meanflow-cifar10"),
    **DIGITS_PRESETS,
}
