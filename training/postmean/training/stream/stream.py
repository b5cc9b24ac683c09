"""The stream of training targets: batches of consecutive tuples, in order, made ahead of the training step."""

import queue
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from postmean.base.errors import ConfigError
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.recipe import TargetRecipe
from postmean.shards.positions import Position
from postmean.shards.retention import deleted_shards
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_reader, open_storage
from postmean.storage.storage import Storage
from postmean.training.stream.agreement import check_agreement, check_enough, check_kept
from postmean.training.stream.ahead import Ahead
from postmean.training.stream.follow import Follower
from postmean.training.stream.position_report import PositionReport
from postmean.training.stream.targets import TargetReader

_SECONDS_BETWEEN_NOTICES = 1.0
_SECONDS_TO_END = 2.0  # that leaving an iteration waits for its thread, whose request a storage may answer much later


@dataclass(frozen=True)
class TargetBatch:
    """B tuples as torch tensors on the CPU; images are float32 [B, C, H, W] in [-1, 1] (z and eps unbounded)."""

    tuple_id: torch.Tensor
    """int64 [B]"""
    z: torch.Tensor
    """x + sigma eps, the canonical noisy image"""
    sigma: torch.Tensor
    """float32 [B]"""
    sigma_next: torch.Tensor | None
    """float32 [B], level of the teacher point; None where the noise distribution has none"""
    x: torch.Tensor
    """the image that the tuple was made from"""
    eps: torch.Tensor
    mean: torch.Tensor
    """E[x | z, sigma], or E[x | z, sigma, label] of a conditional run"""
    mean_next: torch.Tensor | None
    """posterior mean at the Euler point of level sigma_next; only with solver = heun"""
    label: torch.Tensor | None
    """int64 [B], None where the store has no labels"""
    certified: torch.Tensor
    """bool [B], where mean is x by the certificate"""

    def __len__(self) -> int:
        return len(self.tuple_id)

    def to(self, device: torch.device | str) -> "TargetBatch":
        """The batch on another device; from pinned memory the copy does not wait."""
        return self._map(lambda column: column.to(device, non_blocking=True))

    def rows(self, start: int, stop: int) -> "TargetBatch":
        """Tuples start .. stop - 1 of the batch."""
        return self._map(lambda column: column[start:stop])

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "TargetBatch":
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        columns = {name: None if c is None else change(c) for name, c in columns.items()}
        return TargetBatch(**columns)


class TargetStream:
    """Iterates the batches of a run. Its whole state is `next_tuple`: open with that as `start_tuple` to go on.

    Global batch b holds tuples [b B, (b + 1) B); rank r of W yields the r-th of W equal parts of each, so every rank
    yields the same number of batches. Tuples past the last whole batch are left out.
    """

    def __init__(
        self,
        where: str,
        manifest: Manifest,
        reader: TargetReader,
        tuples: range,
        rank: int,
        world_size: int,
        depth: int,
        pin: bool,
        report: PositionReport | None,
    ) -> None:
        """Use `open`; `tuples` are the first tuples of the batches, its step the global batch size."""
        self.where = where
        """Folder or URL of the run."""
        self.manifest = manifest
        self.next_tuple = tuples.start
        """First tuple of the next batch that this stream yields."""
        self.wait_seconds = 0.0
        """Time that the consumer spent waiting for batches."""
        self.on_wait: Callable[[], None] = lambda: None
        """Called about once a second while the consumer waits for a batch."""
        self._reader = reader
        self._batch_size, self._stop_tuple = tuples.step, tuples.stop
        self._share = tuples.step // world_size
        self._offset = rank * self._share
        self._depth, self._pin = depth, pin
        self._report = report
        self._ahead: Ahead[TargetBatch] | None = None

    @classmethod
    def open(
        cls,
        targets: str | Path,
        store: str | Path | ImageStore,
        batch_size: int,
        start_tuple: int = 0,
        rank: int = 0,
        world_size: int = 1,
        recipe: TargetRecipe | None = None,
        steps: int | None = None,
        depth: int = 4,
        pin: bool = False,
        follow_seconds: float = 0.0,
        trainer: str = "",
    ) -> "TargetStream":
        """Open the targets of a run of `postmean generate`.

        Args:
            targets: folder or URL of the run, or http:// URL of `postmean serve`.
            store: the image store that the run was generated from.
            batch_size: global, over all ranks.
            start_tuple: first tuple, a multiple of batch_size.
            recipe: what the trainer needs the targets to be made for; None takes the run as it is.
            steps: batches to yield; None for all whole batches of the run.
            depth: batches prepared ahead, at most.
            pin: whether to give tensors in page-locked memory.
            follow_seconds: above 0, the run may still be in the making, or not begun: shards are waited for, each for
                so long at most.
            trainer: name, of letters, digits and hyphens, under which to tell a run that is followed how far this is,
                so that it keeps --ahead of it and deletes what was consumed; "" tells nothing, to the user neither.
        Raises:
            MismatchError: run, store and recipe do not agree, or the run has too few tuples.
            ShardError: the run is damaged, or did not begin in time.
            ConfigError: sizes that do not divide.
        """
        if batch_size < 1 or depth < 1 or not 0 <= rank < world_size:
            raise ConfigError(
                f"stream: expected batch_size, depth >= 1 and 0 <= rank < world_size, got batch_size {batch_size}, "
                f"depth {depth}, rank {rank}, world_size {world_size}"
            )
        if batch_size % world_size:
            raise ConfigError(f"batch_size {batch_size} does not divide by the {world_size} ranks: pass a multiple")
        where = str(targets)
        storage = open_reader(where) if follow_seconds > 0 else open_storage(where)
        run = RunFolder(storage)
        follower = Follower(run, follow_seconds) if follow_seconds > 0 else None
        if follower is not None:
            follower.wait_for_beginning(says_so=bool(trainer))
        manifest = run.read_manifest()
        store = store if isinstance(store, ImageStore) else ImageStore.open(store)
        check_agreement(manifest, store, batch_size, recipe, where)
        plan = run.read_plan()
        ready = range(len(plan)) if follower is not None else run.listed()  # records are checked as they are read
        steps = check_enough(manifest, plan, ready, start_tuple, batch_size, steps, where)
        if steps:
            check_kept(plan, deleted_shards(run), start_tuple, where)
        tuples = range(start_tuple, start_tuple + steps * batch_size, batch_size)
        reader = TargetReader(run, manifest, plan, store, tuples.stop, follower)
        report = None
        if follower is not None and trainer and isinstance(storage, Storage):
            position = Position(next_tuple=start_tuple, batch_size=batch_size, resume_tuple=start_tuple, finished=False)
            report = PositionReport(storage, trainer, position)
        return cls(where, manifest, reader, tuples, rank, world_size, depth, pin, report)

    def __len__(self) -> int:
        """Batches left."""
        return (self._stop_tuple - self.next_tuple) // self._batch_size

    def __iter__(self) -> Generator[TargetBatch, None, None]:
        """Batches from `next_tuple` on; a background thread makes up to `depth` of them ahead.

        Leaving the iteration, by an exception too, ends all waiting for shards. Another one goes on at `next_tuple`,
        and ends an earlier one that was not left.
        """
        if self._ahead is not None:
            self._ahead.stop()
            self._reader.stop()
            self._ahead.join()  # it uses the reader until it ends
            self._reader.restart()
        if self._report is not None:
            self._report.start()
        places = range(self.next_tuple, self._stop_tuple, self._batch_size)
        self._ahead = ahead = Ahead(self._make, places, self._depth, "postmean-stream")
        try:
            while self.next_tuple < self._stop_tuple and not ahead.is_stopped():
                batch = self._take(ahead)
                self.next_tuple += self._batch_size
                if self._report is not None:
                    self._report.at(self.next_tuple)
                yield batch
        finally:
            ahead.stop()
            if self._ahead is ahead:
                self._reader.stop()
            ahead.join(_SECONDS_TO_END)

    def _take(self, ahead: Ahead[TargetBatch]) -> TargetBatch:
        while True:
            began = time.perf_counter()
            try:
                return ahead.take(_SECONDS_BETWEEN_NOTICES)
            except queue.Empty:
                pass
            finally:
                self.wait_seconds += time.perf_counter() - began
            self.on_wait()

    def never_before(self, tuple_id: int) -> None:
        """Tell a run that is followed that this trainer will not go back before this tuple: its oldest checkpoint's."""
        if self._report is not None:
            self._report.never_before(tuple_id)

    def close(self, failed: bool = False) -> None:
        """Release the threads that read ahead, and tell a run that is followed whether this trainer has it all.

        Args:
            failed: whether the trainer ends by an exception: it has not got it all, and waits for nothing any more.
        """
        self._reader.stop()
        if self._report is None:
            return
        if failed:
            self._report.abandon()
        else:
            self._report.close(finished=self.next_tuple >= self._stop_tuple)

    def _make(self, place: int) -> TargetBatch:
        first = place + self._offset
        read = self._reader.read(first, first + self._share)
        columns: dict[str, Any] = {f.name: getattr(read, f.name) for f in fields(read)}
        columns = {name: None if c is None else torch.from_numpy(c) for name, c in columns.items()}
        batch = TargetBatch(**columns)
        return batch._map(torch.Tensor.pin_memory) if self._pin else batch
