"""Target presets: recipes of targets by name. Generate and train share them, so they agree.

Hyper-parameters: EDM Karras et al. 2022, EDM2 Karras et al. 2024, iCT Song & Dhariwal 2024 (with KNN targets: Niedoba
et al. 2024, Table 3), ECT Geng et al. 2024, VP Song et al. 2021, flow matching Lipman et al. 2023, Esser et al. 2024,
CT Song et al. 2023, sCM Lu & Song 2024, MeanFlow Geng et al. 2025.
docs/recipes.md compares each field with its source. Presets with a data set's name are a paper's training on it; the
others are those for CIFAR-10 (edm2: for ImageNet-64) without flips and classes. ECT's stages and q, k, b need no
targets of their own with Euler.
"""

from dataclasses import dataclass
from typing import Any

from postmean.contract.noise import (
    CTNoise,
    ECTNoise,
    ICTNoise,
    LogitNormalTimeNoise,
    LogNormalNoise,
    MeanFlowNoise,
    UniformTimeNoise,
)
from postmean.contract.process import FlowMatchingProcess, VPProcess
from postmean.contract.recipe import TargetRecipe


@dataclass(frozen=True, kw_only=True)
class TargetPreset:
    """A recipe of targets for a training run of a given length."""

    summary: str
    recipe: TargetRecipe
    tuples: int
    """Tuples of the whole training run, which is the number of training images seen."""

    def settings(self) -> dict[str, Any]:
        """The settings of a job that the preset decides, by name."""
        return {"recipe": self.recipe, "tuples": self.tuples}


PRESETS: dict[str, TargetPreset] = {
    "edm": TargetPreset(
        summary="EDM denoiser, any images, 200 Mimg",
        recipe=TargetRecipe(noise=LogNormalNoise()),
        tuples=200_000_000,
    ),
    "edm2": TargetPreset(
        summary="EDM2 targets, any images, 200 Mimg",
        recipe=TargetRecipe(noise=LogNormalNoise(P_mean=-0.8, P_std=1.6)),
        tuples=200_000_000,
    ),
    "ict": TargetPreset(
        summary="iCT with KNN targets, any images, 400k x 1024, Heun pairs",
        recipe=TargetRecipe(noise=ICTNoise(), solver="heun"),
        tuples=400_000 * 1024,
    ),
    "ect": TargetPreset(
        summary="ECT, any images, 25.6 Mimg",
        recipe=TargetRecipe(noise=ECTNoise()),
        tuples=25_600_000,
    ),
    "vp": TargetPreset(
        summary="variance preserving, any images, t uniform, 200 Mimg",
        recipe=TargetRecipe(process=VPProcess(), noise=UniformTimeNoise()),
        tuples=200_000_000,
    ),
    "flow": TargetPreset(
        summary="flow matching, any images, t logit-normal, velocity as derived target, 200 Mimg",
        recipe=TargetRecipe(process=FlowMatchingProcess(), noise=LogitNormalTimeNoise()),
        tuples=200_000_000,
    ),
    "ct": TargetPreset(
        summary="CT, any images, 800k x 512",
        recipe=TargetRecipe(noise=CTNoise()),
        tuples=800_000 * 512,
    ),
    "scm": TargetPreset(
        summary="sCM, any images, 400k x 512",
        recipe=TargetRecipe(noise=LogNormalNoise(P_mean=-1.0, P_std=1.4)),
        tuples=400_000 * 512,
    ),
    "meanflow": TargetPreset(
        summary="MeanFlow, any images, 800k x 1024, two times",
        recipe=TargetRecipe(process=FlowMatchingProcess(), noise=MeanFlowNoise()),
        tuples=800_000 * 1024,
    ),
    "edm-cifar10": TargetPreset(
        summary="EDM denoiser, CIFAR-10, 200 Mimg, flips",
        recipe=TargetRecipe(noise=LogNormalNoise(), flips=True),
        tuples=200_000_000,
    ),
    "edm-imagenet64": TargetPreset(
        summary="EDM denoiser, ImageNet-64, class-conditional, 2500 Mimg",
        recipe=TargetRecipe(noise=LogNormalNoise(), conditional=True),
        tuples=2_500_000_000,
    ),
    "edm2-imagenet64": TargetPreset(
        summary="EDM2 targets, ImageNet-64, class-conditional, 2147 Mimg",
        recipe=TargetRecipe(noise=LogNormalNoise(P_mean=-0.8, P_std=1.6), conditional=True),
        tuples=2_147_483_648,
    ),
    "ict-cifar10": TargetPreset(
        summary="iCT with KNN targets, CIFAR-10, 400k x 1024, Heun pairs, flips",
        recipe=TargetRecipe(noise=ICTNoise(), solver="heun", flips=True),
        tuples=400_000 * 1024,
    ),
    "ict-imagenet64": TargetPreset(
        summary="iCT, ImageNet-64, class-conditional, 800k x 4096, Heun pairs",
        recipe=TargetRecipe(noise=ICTNoise(total_steps=800_000, batch_size=4096), solver="heun", conditional=True),
        tuples=800_000 * 4096,
    ),
    "ect-cifar10": TargetPreset(
        summary="ECT, CIFAR-10, 25.6 Mimg",
        recipe=TargetRecipe(noise=ECTNoise()),
        tuples=25_600_000,
    ),
    "ect-imagenet64": TargetPreset(
        summary="ECT, ImageNet-64, class-conditional, 12.8 Mimg",
        recipe=TargetRecipe(noise=ECTNoise(P_mean=-0.8, P_std=1.6, q=4.0, stage_tuples=3_200_000), conditional=True),
        tuples=12_800_000,
    ),
    "vp-cifar10": TargetPreset(
        summary="variance preserving, CIFAR-10, t uniform",
        recipe=TargetRecipe(process=VPProcess(), noise=UniformTimeNoise(), flips=True),
        tuples=200_000_000,
    ),
    "flow-cifar10": TargetPreset(
        summary="flow matching, CIFAR-10, t logit-normal, velocity as derived target",
        recipe=TargetRecipe(process=FlowMatchingProcess(), noise=LogitNormalTimeNoise(), flips=True),
        tuples=200_000_000,
    ),
    "ct-cifar10": TargetPreset(
        summary="CT, CIFAR-10, 800k x 512, flips",
        recipe=TargetRecipe(noise=CTNoise(), flips=True),
        tuples=800_000 * 512,
    ),
    "ct-imagenet64": TargetPreset(
        summary="CT, ImageNet-64, class-conditional, 800k x 2048, flips",
        recipe=TargetRecipe(noise=CTNoise(s1=200, batch_size=2048), flips=True, conditional=True),
        tuples=800_000 * 2048,
    ),
    "ect-cifar10-1h": TargetPreset(
        summary="ECT in one hour, CIFAR-10, 1.024 Mimg; the targets of ect-cifar10 serve too",
        recipe=TargetRecipe(noise=ECTNoise(q=256.0, stage_tuples=128_000_000)),
        tuples=8_000 * 128,
    ),
    "scm-cifar10": TargetPreset(
        summary="sCM, CIFAR-10, 400k x 512, flips",
        recipe=TargetRecipe(noise=LogNormalNoise(P_mean=-1.0, P_std=1.4), flips=True),
        tuples=400_000 * 512,
    ),
    "meanflow-cifar10": TargetPreset(
        summary="MeanFlow, CIFAR-10, 800k x 1024, two times, flips",
        recipe=TargetRecipe(process=FlowMatchingProcess(), noise=MeanFlowNoise(), flips=True),
        tuples=800_000 * 1024,
    ),
    "edm-digits": TargetPreset(
        summary="EDM denoiser for the 8x8 digits of the demo",
        recipe=TargetRecipe(noise=LogNormalNoise()),
        tuples=200_000,
    ),
    "ict-digits": TargetPreset(
        summary="iCT for the 8x8 digits of the demo",
        recipe=TargetRecipe(noise=ICTNoise(total_steps=1000, batch_size=256, s1=160)),
        tuples=1000 * 256,
    ),
    "edm2-digits": TargetPreset(
        summary="EDM2's loss and averages for the 8x8 digits of the demo",
        recipe=TargetRecipe(noise=LogNormalNoise(P_mean=-0.8, P_std=1.6)),
        tuples=200_000,
    ),
    "flow-digits": TargetPreset(
        summary="flow matching for the 8x8 digits of the demo",
        recipe=TargetRecipe(process=FlowMatchingProcess(), noise=LogitNormalTimeNoise()),
        tuples=200_000,
    ),
    "ct-digits": TargetPreset(
        summary="CT for the 8x8 digits of the demo",
        recipe=TargetRecipe(noise=CTNoise(total_steps=1000, batch_size=256, s1=20)),
        tuples=1000 * 256,
    ),
    "ect-digits": TargetPreset(
        summary="ECT for the 8x8 digits of the demo",
        recipe=TargetRecipe(noise=ECTNoise(stage_tuples=64_000)),
        tuples=1000 * 256,
    ),
    "scm-digits": TargetPreset(
        summary="sCM for the 8x8 digits of the demo",
        recipe=TargetRecipe(noise=LogNormalNoise(P_mean=-1.0, P_std=1.4)),
        tuples=1000 * 256,
    ),
    "meanflow-digits": TargetPreset(
        summary="MeanFlow for the 8x8 digits of the demo",
        recipe=TargetRecipe(process=FlowMatchingProcess(), noise=MeanFlowNoise(mean=-0.4, std=1.0)),
        tuples=1000 * 256,
    ),
}
