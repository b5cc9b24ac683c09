"""A run that is interrupted and resumed by torchdata, accelerate or Lightning gets every batch once, in order."""

from pathlib import Path
from typing import Any

import pytest
import torch

from postmean.base.errors import MismatchError
from postmean.contract.image_store import ImageStore
from postmean.training.stream.batch import TargetBatch
from postmean.training.stream.stream import TargetStream
from tests.support.exact_runs import make_run
from tests.support.stores import digits_store

pytestmark = pytest.mark.slow

BATCHES, BATCH = 13, 10
ORDER = [number * BATCH for number in range(BATCHES)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImageStore]:
    folder = tmp_path_factory.mktemp("frameworks")
    store = digits_store(folder / "store", 50)
    make_run(folder / "run", store, BATCHES * BATCH, records_per_shard=37)
    return folder / "run", store


def opened(run: tuple[Path, ImageStore]) -> TargetStream:
    return TargetStream.open(run[0], run[1], BATCH)


def first_tuple(batch: TargetBatch) -> int:
    return int(batch.tuple_id[0])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [1, 5, 12])
def test_torchdata_resumes_at_the_next_batch(run: tuple[Path, ImageStore], workers: int, taken: int) -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    loader = StatefulDataLoader(opened(run), batch_size=None, num_workers=workers)
    seen = [first_tuple(batch) for _, batch in zip(range(taken), loader, strict=False)]
    state = loader.state_dict()
    resumed = StatefulDataLoader(opened(run), batch_size=None, num_workers=workers)
    resumed.load_state_dict(state)
    assert seen + [first_tuple(batch) for batch in resumed] == ORDER


@pytest.mark.parametrize("how", ["the stream itself", "a prepared StatefulDataLoader"])
def test_accelerate_resumes_at_the_next_batch(run: tuple[Path, ImageStore], tmp_path: Path, how: str) -> None:
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration
    from torchdata.stateful_dataloader import StatefulDataLoader

    def prepared() -> tuple[Accelerator, Any]:
        loading = DataLoaderConfiguration(use_stateful_dataloader=True, dispatch_batches=False)
        accelerator = Accelerator(cpu=True, dataloader_config=loading)
        stream = opened(run)
        if how == "the stream itself":
            accelerator.register_for_checkpointing(stream)
            return accelerator, stream
        return accelerator, accelerator.prepare(StatefulDataLoader(stream, batch_size=None))

    accelerator, batches = prepared()
    seen = [first_tuple(batch) for _, batch in zip(range(5), batches, strict=False)]
    accelerator.save_state(str(tmp_path / "state"))
    accelerator, batches = prepared()
    accelerator.load_state(str(tmp_path / "state"))
    assert seen + [first_tuple(batch) for batch in batches] == ORDER


@pytest.mark.parametrize("how", ["the stream itself", "a StatefulDataLoader"])
def test_lightning_resumes_at_the_next_batch(run: tuple[Path, ImageStore], tmp_path: Path, how: str) -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    def fit(steps: int, ckpt_path: str | None = None) -> list[int]:
        stream = opened(run)
        batches = stream if how == "the stream itself" else StatefulDataLoader(stream, batch_size=None)
        trainer, model = lightning(tmp_path, max_steps=steps)
        trainer.fit(model, batches, ckpt_path=ckpt_path)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return model.seen

    seen = fit(5)
    assert seen + fit(BATCHES, str(tmp_path / "last.ckpt")) == ORDER


def test_lightning_ends_after_one_epoch_or_with_an_error_that_says_what_to_do(
    run: tuple[Path, ImageStore], tmp_path: Path
) -> None:
    trainer, model = lightning(tmp_path, max_epochs=1)
    trainer.fit(model, opened(run))
    assert model.seen == ORDER
    trainer, model = lightning(tmp_path, max_steps=BATCHES + 1)
    with pytest.raises(MismatchError, match=f"no batch is left: all {BATCHES} of this stream were taken: open it"):
        trainer.fit(model, opened(run))
    assert model.seen == ORDER


def lightning(folder: Path, **limits: int) -> tuple[Any, Any]:
    """A trainer, and a model that learns a number and keeps what it saw."""
    import pytorch_lightning

    class Model(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.number = torch.nn.Parameter(torch.zeros(()))
            self.seen: list[int] = []

        def training_step(self, batch: TargetBatch, index: int) -> torch.Tensor:
            self.seen.append(first_tuple(batch))
            return (self.number - batch.mean).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = pytorch_lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder, **limits
    )
    return trainer, Model()
