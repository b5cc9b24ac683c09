"""The stream in data loaders: workers share the batches in order, and a saved state goes on with the next tuple."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from postmean.base.errors import ConfigError, MismatchError
from postmean.contract.image_store import ImageStore
from postmean.storage.open import open_storage
from postmean.training.stream.batch import TargetBatch
from postmean.training.stream.stream import TargetStream
from tests.support.exact_runs import make_run
from tests.support.stores import digits_store

TUPLES, BATCH = 210, 10


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImageStore]:
    folder = tmp_path_factory.mktemp("loaders")
    store = digits_store(folder / "store", 50)
    make_run(folder / "run", store, TUPLES, records_per_shard=37)
    return folder / "run", store


def opened(run: tuple[Path, ImageStore], **settings: Any) -> TargetStream:
    return TargetStream.open(run[0], run[1], BATCH, **settings)


def same(ours: list[TargetBatch], theirs: list[TargetBatch]) -> bool:
    """Whether the batches are the same, bit for bit."""
    columns = ("tuple_id", "z", "sigma", "mean", "label", "ess")
    return len(ours) == len(theirs) and all(
        torch.equal(getattr(a, name), getattr(b, name)) for a, b in zip(ours, theirs, strict=True) for name in columns
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_gives_the_batches_of_the_stream_in_order(run: tuple[Path, ImageStore], workers: int) -> None:
    """21 batches do not divide among the workers; a rank's part and a later start are shared too."""
    settings = {"rank": 1, "world_size": 2, "start_tuple": 3 * BATCH}
    loader = DataLoader(opened(run, **settings), batch_size=None, num_workers=workers)
    assert len(loader) == TUPLES // BATCH - 3
    assert same(list(loader), list(opened(run, **settings)))


def test_more_workers_than_batches_is_no_error(run: tuple[Path, ImageStore]) -> None:
    loader = DataLoader(opened(run, steps=1), batch_size=None, num_workers=2)
    assert [batch.tuple_id[0].item() for batch in loader] == [0]


@pytest.mark.slow
def test_a_second_pass_of_workers_that_stay_is_an_error(run: tuple[Path, ImageStore]) -> None:
    """Slow: torch takes ten seconds to end such workers after an error."""
    loader = DataLoader(opened(run, steps=3), batch_size=None, num_workers=2, persistent_workers=True)
    assert len(list(loader)) == 3
    with pytest.raises(MismatchError, match="no batch is left"):
        list(loader)


def test_a_stream_that_was_begun_goes_on_in_workers(run: tuple[Path, ImageStore]) -> None:
    stream = opened(run)
    next(batches := iter(stream))
    batches.close()
    assert same(list(DataLoader(stream, batch_size=None, num_workers=2)), list(opened(run, start_tuple=BATCH)))


@pytest.mark.parametrize("taken", [0, 1, 7, 20, 21])
def test_a_state_goes_on_with_the_next_tuple(run: tuple[Path, ImageStore], taken: int) -> None:
    stream, whole = opened(run), list(opened(run))
    seen = [batch for _, batch in zip(range(taken), stream, strict=False)]
    state = torch.load(_saved(stream.state_dict()))
    resumed = opened(run)
    resumed.load_state_dict(state)
    assert resumed.next_tuple == taken * BATCH and len(resumed) == 21 - taken
    assert same(seen + (list(resumed) if taken < 21 else []), whole)


def _saved(state: dict[str, Any]) -> Any:
    """The state as a file that torch loads with weights_only=True, its default."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def test_a_state_fits_any_number_of_ranks(run: tuple[Path, ImageStore]) -> None:
    stream = opened(run)
    next(iter(stream))
    ranks = [opened(run, rank=rank, world_size=2) for rank in range(2)]
    for rank in ranks:
        rank.load_state_dict(stream.state_dict())
    ids = torch.cat([next(iter(rank)).tuple_id for rank in ranks])
    assert ids.tolist() == list(range(BATCH, 2 * BATCH))


def test_a_state_that_does_not_fit_is_refused_by_name(run: tuple[Path, ImageStore], tmp_path: Path) -> None:
    stream = opened(run)
    list(stream)
    state = stream.state_dict()
    make_run(tmp_path / "other", run[1], TUPLES, seed=8)
    mistakes: list[tuple[TargetStream, dict[str, Any], type[Exception], str]] = [
        (TargetStream.open(tmp_path / "other", run[1], BATCH), state, MismatchError, "of another run"),
        (TargetStream.open(run[0], run[1], 30), state, MismatchError, "batch_size 10, this stream has 30"),
        (opened(run, steps=20), state, MismatchError, r"at tuple 210, this stream has 0\.\.199: open it with"),
        (opened(run), state | {"workers": 2}, ConfigError, "2 worker processes, here are 1: pass num_workers"),
        (opened(run), {}, ConfigError, "batch_size of the state is None: pass what state_dict"),
        (opened(run), state | {"taken": -1}, ConfigError, "taken of the state is -1"),
        (opened(run), state | {"start_tuple": 5}, MismatchError, "at tuple 215"),
    ]
    for other, wrong, kind, message in mistakes:
        before = other.next_tuple
        with pytest.raises(kind, match=message):
            other.load_state_dict(wrong)
        assert other.next_tuple == before


def test_a_trainer_that_reports_its_place_has_no_workers(run: tuple[Path, ImageStore]) -> None:
    stream = opened(run, follow_seconds=1, trainer="one")
    with pytest.raises(ConfigError, match="pass num_workers=0"):
        list(DataLoader(stream, batch_size=None, num_workers=2))


def test_workers_of_an_object_store_must_not_be_forked(run: tuple[Path, ImageStore], s3_url: str) -> None:
    """Its client would hang in a forked process."""
    source, copy = open_storage(run[0]), open_storage(s3_url)
    for path in [str(p.relative_to(run[0])) for p in run[0].rglob("*") if p.is_file()]:
        copy.put(path, source.get(path))
    stream = TargetStream.open(s3_url, run[1], BATCH)
    assert same(list(DataLoader(stream, batch_size=None)), list(opened(run)))
    forked = DataLoader(
        TargetStream.open(s3_url, run[1], BATCH), batch_size=None, num_workers=1, multiprocessing_context="fork"
    )
    with pytest.raises(ConfigError, match='pass multiprocessing_context="spawn"'):
        list(forked)


@pytest.mark.slow
def test_spawned_workers_open_the_run_themselves(run: tuple[Path, ImageStore]) -> None:
    """Slow: each imports torch."""
    loader = DataLoader(opened(run), batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert same(list(loader), list(opened(run)))
