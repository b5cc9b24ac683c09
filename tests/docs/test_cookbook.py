"""The training loops that docs/cookbook.md shows run from top to bottom, on digits and exact targets."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from postmean.contract.presets import PRESETS
from postmean.training import TargetBatch, TargetStream
from tests.docs.messages import ROOT
from tests.support.exact_runs import make_run
from tests.support.stores import digits_store

PAGE = (ROOT / "docs" / "cookbook.md").read_text()
TUPLES = 128 * 12


def recipe(title: str) -> str:
    """The Python of the section of this title."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section
    return "\n".join(re.findall(r"^```python\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL))


class Network(nn.Module):
    """A network with the contract of EDM's and EDM2's preconditioned ones: D(x, sigma, labels), u(sigma) on request."""

    label_dim = 10

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 16, 3, padding=1), nn.SiLU(), nn.Dropout(0.1), nn.Conv2d(16, 1, 3, padding=1)
        )
        self.classes = nn.Linear(self.label_dim, 1, bias=False)
        self.uncertainty = nn.Linear(1, 1)

    def forward(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        class_labels: torch.Tensor | None = None,
        return_logvar: bool = False,
    ) -> Any:
        sigma = sigma.reshape(-1, 1, 1, 1)
        c_skip, c_out = 0.25 / (sigma**2 + 0.25), 0.5 * sigma / (sigma**2 + 0.25).sqrt()
        time = (sigma.log() / 4).expand_as(x)
        if class_labels is not None:
            time = time + self.classes(class_labels).reshape(-1, 1, 1, 1)
        denoised = c_skip * x + c_out * self.body(torch.cat([x / (sigma**2 + 0.25).sqrt(), time], 1))
        return (denoised, self.uncertainty(sigma.log() / 4)) if return_logvar else denoised


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store and the runs that the page reads."""
    folder = tmp_path_factory.mktemp("cookbook")
    store = digits_store(folder / "photos.store", 200)
    for preset, conditional in (("edm", True), ("edm2", True), ("ect", False), ("vp", False)):
        settings = {"process": PRESETS[preset].recipe.process, "noise": PRESETS[preset].recipe.noise}
        make_run(
            folder / f"{preset}.targets", store, TUPLES, conditional=conditional, records_per_shard=512, **settings
        )
    return folder


@pytest.fixture
def namespace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page takes from the reader's own code."""
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    return {
        "net": Network(),
        "net2": Network(),
        "device": "cpu",
        "torch": torch,
        "TargetBatch": TargetBatch,
        "TargetStream": TargetStream,
    }


def run(title: str, namespace: dict[str, Any]) -> dict[str, Any]:
    exec(compile(recipe(title), f"cookbook.md, {title}", "exec"), namespace)
    return namespace


def error(network: Network, targets: str, labels: bool) -> float:
    """Weighted mean squared error of a denoiser against the means of a run."""
    network.eval()
    with TargetStream.open(targets, "photos.store", batch_size=TUPLES) as stream, torch.no_grad():
        batch = next(iter(stream))
    sigma = batch.sigma.reshape(-1, 1, 1, 1)
    classes = torch.nn.functional.one_hot(batch.label, 10).float() if labels and batch.label is not None else None
    weight = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
    with torch.no_grad():
        return float((weight * (network(batch.z, sigma, classes) - batch.mean) ** 2).mean())


@pytest.mark.parametrize(
    ("title", "name", "labels"), [("EDM", "net", True), ("EDM2", "net2", True), ("ECT", "net", False)]
)
def test_a_loop_trains_the_network_of_the_reader(
    title: str, name: str, labels: bool, namespace: dict[str, Any]
) -> None:
    targets = f"{title.lower()}.targets"
    before = error(namespace[name], targets, labels)
    run(title, namespace)
    assert torch.isfinite(namespace["loss"])
    assert title == "ECT" or error(namespace[name], targets, labels) < before


def test_the_loss_of_edm2_is_its_own_averaged_over_the_posterior(namespace: dict[str, Any]) -> None:
    """An oracle: EDM2's loss of every image that z may come from, weighted by the posterior."""
    loss_fn, network = run("EDM2", namespace)["loss_fn"], namespace["net2"].eval()
    with TargetStream.open("edm2.targets", "photos.store", batch_size=128) as stream:
        batch = next(iter(stream)).rows(0, 16)
        pixels, labels = stream_images(stream)
    one_hot = torch.nn.functional.one_hot(batch.label, 10).float()
    z, sigma = batch.z.double(), batch.sigma.double()
    log_weight = -(z[:, None] - pixels).flatten(2).square().sum(2) / (2 * sigma[:, None] ** 2)
    posterior = log_weight.masked_fill(labels != batch.label[:, None], -torch.inf).softmax(1)
    with torch.no_grad():
        ours = loss_fn(network, batch, one_hot).mean((1, 2, 3))
        denoised, logvar = network(batch.z, batch.sigma, one_hot, return_logvar=True)
        weight = ((sigma**2 + 0.25) / (0.5 * sigma) ** 2)[:, None]
        distance = (denoised[:, None].double() - pixels).square().mean((2, 3, 4))
        theirs = (posterior * (weight / logvar.exp().flatten(1) * distance + logvar.flatten(1))).sum(1)
    assert torch.allclose(ours.double(), theirs, rtol=1e-3)


def stream_images(stream: TargetStream) -> tuple[torch.Tensor, torch.Tensor]:
    """All images in [-1, 1], float64, and their labels."""
    import numpy as np

    from postmean.pipeline import ImageStore, to_unit

    store = ImageStore.open("photos.store")
    rows = np.arange(len(store))
    return torch.from_numpy(to_unit(store.pixels(rows)).astype(np.float64)), torch.from_numpy(store.label(rows))


@pytest.mark.slow
def test_the_loop_with_diffusers_trains_and_samples(namespace: dict[str, Any]) -> None:
    """Slow: diffusers takes seconds to load."""
    pytest.importorskip("diffusers")
    found = run("diffusers", namespace)
    assert torch.isfinite(found["loss"]) and found["images"].shape == (2, 8, 8, 1)


@pytest.mark.slow
def test_the_loop_with_lightning_trains_and_resumes(namespace: dict[str, Any]) -> None:
    """Slow: Lightning takes seconds to load."""
    pytest.importorskip("pytorch_lightning")
    found = run("Lightning", namespace)
    assert found["trainer"].global_step == 12  # the run has twelve batches
