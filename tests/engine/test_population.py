"""Members of a population: which entries, in which order, with which pixels."""

import numpy as np
import pytest
import torch

from postmean.base.errors import ConfigError
from postmean.engine import pixels
from postmean.engine.population import SCALE, Population, queries_per_pass
from tests.support.posterior_examples import images_x, random_images, store_of

PIXELS = random_images(23, (3, 4, 5))
LABELS = np.arange(23) % 4


@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
@pytest.mark.parametrize("label", [None, 0, 3])
@pytest.mark.parametrize("signed_bytes", [0, 1 << 20], ids=["memory map", "signed copy"])
def test_members_are_the_images_and_then_their_mirror_images(tmp_path, monkeypatch, flips, label, signed_bytes):
    monkeypatch.setattr(pixels, "SIGNED_BYTES", signed_bytes)
    store = store_of(tmp_path / "store", PIXELS, LABELS)
    population = Population(store, flips, label)
    chosen = np.arange(23) if label is None else np.flatnonzero(label == LABELS)
    x = images_x(PIXELS, flips, chosen)
    assert len(population) == len(x) == len(population.entry)
    assert population.dim == 60
    assert np.array_equal(population.member(population.entry), np.arange(len(x)))
    s = population.rows(np.arange(len(x)))
    assert s.dtype == torch.int8
    assert np.abs((s.numpy().astype(np.float64) + 0.5) / SCALE - x).max() < 1e-12
    stored = torch.empty((len(x), 60), dtype=torch.uint8)
    population.copy_bytes(np.arange(len(x)), stored)
    assert np.array_equal(stored.numpy(), s.numpy().astype(np.int64) + 128)
    tiles = torch.cat([tile[: stop - start, :60] for start, stop, tile in population.pixels.tiles()])
    assert torch.equal(torch.cat([tiles, population.flip(tiles)]) if flips else tiles, s)
    centred = {start: part.clone() for start, _, part in population.centred_tiles(torch.zeros(60))}
    assert torch.equal(torch.cat([centred[start] for start in sorted(centred)]), s.to(torch.float32))
    assert np.array_equal(population.norm2.numpy(), np.square(s.numpy().astype(np.int64)).sum(1))
    assert np.abs(population.mean.numpy() - x.mean(0)).max() < 1e-12


def test_label_without_labels_is_refused(tmp_path):
    population = Population(store_of(tmp_path / "store", PIXELS), False, label=1)
    with pytest.raises(ConfigError, match="labels"):
        len(population)


def test_queries_that_share_a_pass_follow_from_the_device_and_the_number_of_members():
    assert [queries_per_pass(device, 10**7) for device in ("cuda", "cpu")] == [512, 256]
    assert [queries_per_pass(device, 100_000) for device in ("cuda", "cpu")] == [512, 512]
    assert [queries_per_pass(device, 50_000) for device in ("cuda", "cpu")] == [512, 1024]
