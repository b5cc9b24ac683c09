"""Samplers against closed forms; determinism; files on disk."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from postmean.base.errors import ConfigError, DataError
from postmean.training.images import ImageFolder, begin_folder, write_grid, write_images
from postmean.training.model.guidance import guided
from postmean.training.model.preconditioning import Denoiser
from postmean.training.model.sampler_config import SamplerConfig
from postmean.training.model.sampling import (
    ConsistencySampler,
    DenoiserFunction,
    HeunSampler,
    Noise,
    Sampler,
    make_sampler,
    random_labels,
    sample_batches,
)
from postmean.training.presets import DIGITS, PRESETS

SHAPE = (1, 4, 4)


def gaussian_denoiser(mean: float, std: float) -> DenoiserFunction:
    """E[x | z, sigma] of x ~ N(mean, std^2)."""

    def denoise(z: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        sigma = sigma[:, None, None, None]
        return mean + (z - mean) * std**2 / (std**2 + sigma**2)

    return denoise


def gaussian_flow(z: torch.Tensor, sigma: float, mean: float, std: float) -> torch.Tensor:
    """End of the probability-flow ODE from z at sigma to 0: deviations shrink like the marginal's width."""
    return mean + (z - mean) * std / math.sqrt(std**2 + sigma**2)


@pytest.mark.parametrize("sigma_max", [10.0, 80.0])
def test_heun_converges_to_the_exact_flow_at_second_order(sigma_max: float) -> None:
    errors = []
    for steps in (64, 128):
        noise = Noise(3, range(5), SHAPE, "cpu")
        drawn = HeunSampler(steps=steps, sigma_max=sigma_max).sample(gaussian_denoiser(0.2, 0.3), noise, None)
        z = sigma_max * Noise(3, range(5), SHAPE, "cpu").draw()
        errors.append(float((drawn - gaussian_flow(z, sigma_max, 0.2, 0.3)).abs().max()))
    assert errors[1] < 1e-3
    assert errors[0] / errors[1] > 3


def test_churned_samples_have_the_distribution_of_the_data() -> None:
    sampler = HeunSampler(steps=40, churn=20, s_noise=1.0)
    noise = Noise(0, range(1500), (1, 1, 2), "cpu")
    drawn = sampler.sample(gaussian_denoiser(0.2, 0.3), noise, None)
    assert float(drawn.mean()) == pytest.approx(0.2, abs=0.03)
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.06)


def test_consistency_sampling_evaluates_where_the_algorithm_says() -> None:
    seen: list[tuple[torch.Tensor, float]] = []

    def f(z: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        seen.append((z.double(), float(sigma[0])))
        return torch.full_like(z, 0.25)

    drawn = ConsistencySampler(sigmas=(80.0, 0.8)).sample(f, Noise(1, range(2), SHAPE, "cpu"), None)
    noise = Noise(1, range(2), SHAPE, "cpu")
    first, second = noise.draw(), noise.draw()
    torch.testing.assert_close(seen[0][0], 80 * first, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(seen[1][0], 0.25 + math.sqrt(0.8**2 - 0.002**2) * second, rtol=1e-6, atol=1e-6)
    assert [s for _, s in seen] == [80.0, pytest.approx(0.8)]
    assert float(drawn.min()) == 0.25


def test_one_step_consistency_of_the_exact_function_is_the_flow() -> None:
    def exact(z: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        return gaussian_flow(z, float(sigma[0]), 0.2, 0.3)

    drawn = make_sampler(SamplerConfig(), True).sample(exact, Noise(3, range(4), SHAPE, "cpu"), None)
    z = 80 * Noise(3, range(4), SHAPE, "cpu").draw()
    torch.testing.assert_close(drawn, gaussian_flow(z, 80.0, 0.2, 0.3), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_consistency_levels_fall_from_sigma_max(steps: int) -> None:
    sampler = make_sampler(SamplerConfig(steps=steps), True)
    assert isinstance(sampler, ConsistencySampler)
    assert len(sampler.sigmas) == steps and sampler.sigmas[0] == 80.0 and sampler.sigmas[-1] > 0.002


@pytest.mark.parametrize("side, second", [(32, 0.821), (64, 1.526)])
def test_the_second_of_two_levels_is_that_of_the_image_size(side: int, second: float) -> None:
    sampler = make_sampler(SamplerConfig(steps=2), True, side)
    assert isinstance(sampler, ConsistencySampler) and sampler.sigmas == (80.0, second)
    given = make_sampler(SamplerConfig(sigmas=(80.0, 5.0, 1.1)), True, side)
    assert isinstance(given, ConsistencySampler) and given.sigmas == (80.0, 5.0, 1.1)
    for consistency in (True, False):
        with pytest.raises(ConfigError, match="--sigmas"):
            make_sampler(SamplerConfig(steps=3, sigmas=(80.0, second)), consistency)


def test_heun_steps_go_through_given_levels() -> None:
    seen: list[float] = []

    def denoise(z: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        seen.append(float(sigma[0]))
        return gaussian_denoiser(0.2, 0.3)(z, sigma, label)

    sampler = make_sampler(SamplerConfig(sigmas=(10.0, 2.0, 0.5)), False)
    sampler.sample(denoise, Noise(0, range(1), SHAPE, "cpu"), None)
    assert seen == [10.0, 2.0, 2.0, 0.5, 0.5] and sampler.evaluations == len(seen)


def test_guidance_extrapolates_from_the_guide() -> None:
    asked: list[torch.Tensor | None] = []

    def guide(z: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        asked.append(label)
        return torch.full_like(z, 0.1)

    def denoise(z: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        return torch.full_like(z, 0.3)

    z, sigma, label = torch.zeros(2, *SHAPE), torch.ones(2), torch.tensor([3, 4])
    for own, labels, theirs in ((None, True, [3, 4]), (None, False, None), (10, False, [10, 10])):
        out = guided(denoise, guide, 2.0, own, labels)(z, sigma, label)
        torch.testing.assert_close(out, torch.full_like(z, 0.5))
        given = asked.pop()
        assert (None if given is None else given.tolist()) == theirs


def test_churn_s_settings_reach_the_sampler() -> None:
    config = SamplerConfig(steps=40, churn=40, s_min=0.1, s_max=9.0, s_noise=1.01)
    sampler = make_sampler(config, False)
    assert isinstance(sampler, HeunSampler)
    assert (sampler.churn, sampler.s_min, sampler.s_max, sampler.s_noise) == (40, 0.1, 9.0, 1.01)


@pytest.mark.parametrize("sampler", [HeunSampler(steps=4, churn=3), ConsistencySampler(sigmas=(80.0, 0.8))])
def test_images_depend_on_seed_and_number_alone(sampler: Sampler) -> None:
    torch.manual_seed(0)
    network = DIGITS.build((1, 8, 8), 10)
    torch.nn.init.normal_(network.unet.conv_out.weight, std=0.1)
    denoiser = Denoiser(network, PRESETS["edm-digits"].preconditioning).eval()

    def draw(count: int, batch_size: int, seed: int = 5) -> np.ndarray:
        labels = random_labels(seed, range(count), 10)
        batches = sample_batches(denoiser, sampler, count, (1, 8, 8), seed, batch_size, labels)
        return np.concatenate(list(batches)).astype(int)

    whole = draw(7, 7)
    assert np.array_equal(whole, draw(7, 7))
    # convolutions of another batch size may round differently, by at most one grey level
    assert abs(whole - draw(7, 3)).max() <= 1
    assert abs(whole[:4] - draw(4, 2)).max() <= 1
    assert abs(whole - draw(7, 7, seed=6)).max() > 10


def test_noise_does_not_depend_on_the_batch() -> None:
    together = Noise(1, range(6), SHAPE, "cpu")
    apart = [Noise(1, range(n, n + 1), SHAPE, "cpu") for n in range(6)]
    for _ in range(2):
        assert torch.equal(together.draw(), torch.cat([noise.draw() for noise in apart]))


@pytest.mark.parametrize(
    "bad", [dict(steps=0), dict(sigma_min=0.0), dict(sigma_max=0.001), dict(churn=-1.0), dict(s_noise=0.0)]
)
def test_heun_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        HeunSampler(**bad)


@pytest.mark.parametrize("sigmas", [(), (1.0, 2.0), (80.0, 80.0), (80.0, -1.0), (80.0, 0.001)])
def test_consistency_levels_out_of_range_are_refused(sigmas: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="sampler"):
        ConsistencySampler(sigmas=sigmas)


@pytest.mark.parametrize("channels", [1, 3])
def test_written_images_read_back_in_order(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, channels, 6, 6), np.uint8)
    begin_folder(tmp_path / "out")
    (tmp_path / "out" / "samples.json").write_text("{}")
    write_images(tmp_path / "out", pixels[::2], range(0, 5, 2))
    write_images(tmp_path / "out", pixels[1::2], range(1, 5, 2))
    write_grid(tmp_path / "out" / "grid.png", pixels, 2)
    folder = ImageFolder(tmp_path / "out")
    assert np.array_equal(np.stack([folder[n] for n in range(len(folder))]), pixels)
    assert sorted(p.name for p in (tmp_path / "out").glob("0*.png"))[-1] == "000004.png"
    with Image.open(tmp_path / "out" / "grid.png") as grid:
        shown = np.asarray(grid).reshape(3 * 63 + 3, 2 * 63 + 3, -1)  # 10 times as large, with gaps of 3 pixels
    for number, image in enumerate(pixels):
        top, left = 3 + number // 2 * 63, 3 + number % 2 * 63
        assert np.array_equal(shown[top : top + 60 : 10, left : left + 60 : 10].transpose(2, 0, 1), image)
    assert (shown[:3] == 128).all() and (shown[:, 63:66] == 128).all() and (shown[63:66] == 128).all()
    begin_folder(tmp_path / "out")  # a second call removes the images of the first
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_folder_of_other_peoples_images_is_left_alone(tmp_path: Path) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "000000.png")
    with pytest.raises(DataError, match="another --out"):
        begin_folder(tmp_path)
    assert (tmp_path / "000000.png").exists()
    with pytest.raises(DataError, match="postmean sample"):
        ImageFolder(tmp_path / "nowhere")


def test_a_folder_of_two_sizes_is_refused_by_the_image_that_differs(tmp_path: Path) -> None:
    for number in range(4):
        Image.new("RGB", (8, 8 if number != 2 else 9)).save(tmp_path / f"{number}.png")
    with pytest.raises(DataError, match=r"2\.png: 8x9 pixels, 0\.png has 8x8"):
        ImageFolder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.png").write_bytes(content)
    with pytest.raises(DataError, match=r"0\.png: "):
        ImageFolder(tmp_path)


def test_an_image_cut_short_is_named_when_it_is_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 1, 20, 20), np.uint8)
    write_images(tmp_path, pixels, [0])
    whole = (tmp_path / "000000.png").read_bytes()
    (tmp_path / "000000.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"000000\.png: "):
        ImageFolder(tmp_path)[0]
