"""diffusers loads what training saves: the averaged network, and a consistency model as a whole pipeline."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from postmean.base.errors import DataError
from postmean.base.flags import with_flags
from postmean.contract.noise import ICTNoise
from postmean.training.checkpoint import load_denoiser, read_card
from postmean.training.model.ema import ConstantEMA
from postmean.training.model.sampling import ConsistencySampler, Noise
from postmean.training.optimiser import OptimiserConfig
from postmean.training.presets import PRESETS
from tests.support.exact_runs import make_run
from tests.support.small_training import train
from tests.support.stores import digits_store


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A denoiser and a consistency model after a few steps at a high rate."""
    folder = tmp_path_factory.mktemp("export")
    store = digits_store(folder / "store", 50, channels=3)  # diffusers' pipeline takes only 3 channels
    noise = ICTNoise(total_steps=8, batch_size=16, s0=4, s1=16)
    make_run(folder / "edm", store, 128, max_support=50)
    make_run(folder / "ict", store, 128, max_support=50, noise=noise)
    paths = {}
    quick = dict(ema=ConstantEMA(decay=0.0), optimiser=OptimiserConfig(name="adam", lr=3e-2), batch_size=16, steps=8)
    for name, change in (("edm", {}), ("ict", dict(noise=noise, solver="euler"))):
        config = with_flags(PRESETS[f"{name}-digits"], **quick, **change)
        paths[name] = train(config, folder / name, store.path, folder / f"run-{name}").checkpoint
    return paths


def test_diffusers_loads_the_averaged_network(checkpoints: dict[str, str]) -> None:
    from diffusers import UNet2DModel

    theirs = UNet2DModel.from_pretrained(checkpoints["edm"] + "/unet", low_cpu_mem_usage=False).eval()
    ours = load_denoiser(checkpoints["edm"])
    z, sigma = torch.randn(3, 3, 8, 8), torch.tensor([0.1, 1.0, 20.0])
    c = sigma[:, None, None, None]
    with torch.no_grad():
        output = theirs(z / (c**2 + 0.25).sqrt(), sigma.log() / 4).sample
    by_hand = 0.25 / (c**2 + 0.25) * z + c * 0.5 / (c**2 + 0.25).sqrt() * output
    torch.testing.assert_close(ours(z, sigma), by_hand)
    assert output.abs().max() > 1e-3


@pytest.mark.parametrize("evaluations", [1, 2])
def test_diffusers_consistency_pipeline_samples_as_we_do(
    checkpoints: dict[str, str], evaluations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import ConsistencyModelPipeline
    from diffusers.schedulers import scheduling_consistency_models

    pipeline = ConsistencyModelPipeline.from_pretrained(checkpoints["ict"], low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    noise = Noise(0, range(4), (3, 8, 8), "cpu")
    first, second = noise.draw(), noise.draw()
    monkeypatch.setattr(scheduling_consistency_models, "randn_tensor", lambda *_, **__: second.float())
    theirs = pipeline(
        batch_size=4, num_inference_steps=evaluations, latents=first.float(), output_type="pt", return_dict=False
    )[0]
    sigmas = tuple(pipeline.scheduler.sigmas[:evaluations].tolist())
    sampler = ConsistencySampler(sigmas=sigmas)
    ours = sampler.sample(load_denoiser(checkpoints["ict"]), Noise(0, range(4), (3, 8, 8), "cpu"), None)
    assert sigmas[0] == pytest.approx(80.0)
    shown = (ours.clamp(-1, 1) / 2 + 0.5).float()
    torch.testing.assert_close(theirs.reshape(shown.shape), shown, rtol=1e-4, atol=1e-4)
    assert float(shown.std()) > 0.01


def test_card_says_how_the_network_is_used(checkpoints: dict[str, str]) -> None:
    plain = json.loads((Path(checkpoints["ict"]) / "denoiser.json").read_text())
    assert plain["time_conditioning"] == "250 ln sigma" and plain["preconditioning"]["kind"] == "cm"
    card = read_card(checkpoints["edm"])
    assert card.time_conditioning == "0.25 ln sigma" and not card.consistency and card.image_shape == (3, 8, 8)


def test_no_file_of_a_checkpoint_is_a_pickle(checkpoints: dict[str, str]) -> None:
    names = {p.suffix for c in checkpoints.values() for p in Path(c).rglob("*") if p.is_file()}
    assert names == {".safetensors", ".json"}


def test_a_folder_without_a_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="postmean train"):
        load_denoiser(tmp_path)


def test_denoiser_is_ready_for_use(checkpoints: dict[str, str]) -> None:
    denoiser = load_denoiser(checkpoints["edm"])
    assert not denoiser.training and not any(p.requires_grad for p in denoiser.parameters())
    assert np.isfinite(denoiser(torch.zeros(1, 3, 8, 8), torch.ones(1)).numpy()).all()
