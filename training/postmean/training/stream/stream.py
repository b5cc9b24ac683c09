"""The stream of training targets: batches of consecutive tuples, in order, prepared ahead of the training step."""

import os
import queue
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.data import IterableDataset

from postmean.base.errors import ConfigError, MismatchError, ShardError
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.recipe import TargetRecipe
from postmean.shards.positions import Position
from postmean.shards.retention import deleted_shards
from postmean.shards.run_folder import RunFolder
from postmean.shards.run_reader import RunReader
from postmean.storage.open import OBJECT_STORES, open_reader, open_storage
from postmean.storage.storage import Storage
from postmean.training.stream.agreement import check_agreement, check_enough, check_kept
from postmean.training.stream.batch import TargetBatch
from postmean.training.stream.follow import Follower
from postmean.training.stream.iteration import Iteration
from postmean.training.stream.opening import Opening
from postmean.training.stream.place import Place, Worker, from_state
from postmean.training.stream.position_report import PositionReport
from postmean.training.stream.reader import OpenRun
from postmean.training.stream.share import Share

_SECONDS_BETWEEN_NOTICES = 1.0


class TargetStream(IterableDataset[TargetBatch]):
    """The batches of a run, in order: iterate over it, or give it to a DataLoader with `batch_size=None`.

    Global batch b holds tuples [b B, (b + 1) B); rank r of W yields the r-th of W equal parts of each, so every rank
    yields the same number of batches. Tuples after the last whole batch are dropped. Each tuple is yielded once:
    another iteration goes on after the last batch, and is an error where none is left.

    `state_dict` and `load_state_dict` save and restore the place, at no cost. Worker processes of a DataLoader share
    the batches, and the loader yields them in the same order as without workers; `StatefulDataLoader` of torchdata then
    keeps the state. With targets in an object store, pass it `multiprocessing_context="spawn"`.

    >>> with TargetStream.open(targets, digits, batch_size=100) as stream:
    ...     for batch in stream:
    ...         z, sigma, mean = batch.z, batch.sigma, batch.mean  # mean is the target
    ...         if stream.next_tuple == 300:
    ...             break
    >>> mean.shape
    torch.Size([100, 1, 8, 8])
    >>> state = stream.state_dict()
    >>> resumed = TargetStream.open(targets, digits, batch_size=100)
    >>> resumed.load_state_dict(state)
    >>> int(next(iter(resumed)).tuple_id[0])
    300
    """

    def __init__(self, run: OpenRun, share: Share, opening: Opening, report: PositionReport | None) -> None:
        """Use `open`."""
        self.where: str = run.where
        """Folder or URL of the run."""
        self.manifest: Manifest = run.manifest
        self.wait_seconds: float = 0.0
        """Time that the consumer spent waiting for batches."""
        self._run, self._share, self._opening = run, share, opening
        self._place = Place(start=share.tuples.start, taken=0, worker=Worker(), batch_size=share.tuples.step)
        self._report = report
        self._iteration: Iteration | None = None
        self._process = os.getpid()
        self._has_ended = False
        self._has_begun_empty = False

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
            store: the image store that the run was generated from, or its folder or URL.
            batch_size: global, over all ranks.
            start_tuple: first tuple, a multiple of batch_size.
            recipe: the recipe that the trainer needs. What the targets must share with it is compared; the rest, such
                as ECT's q with Euler steps, is the trainer's own. None accepts any run as it is.
            steps: batches to yield; None for all whole batches of the run.
            depth: most batches prepared ahead.
            pin: whether batches are in page-locked memory.
            follow_seconds: if above 0, the run may be unfinished or not begun: longest wait for it to begin, and for
                each shard.
            trainer: name (letters, digits, hyphens) under which to report the position to a followed run, so that the
                run keeps --ahead of it and deletes consumed shards; "" reports nothing and prints no waiting notice.
        Raises:
            MismatchError: run, store and recipe do not agree, or the run has too few tuples, or no whole batch.
            ShardError: the run is damaged, or did not begin in time.
            ConfigError: a size is out of range, or sizes do not divide.
        """
        opening = Opening(
            targets=str(targets),
            store=store.url if isinstance(store, ImageStore) else store,
            batch_size=batch_size,
            start_tuple=start_tuple,
            rank=rank,
            world_size=world_size,
            recipe=recipe,
            steps=steps,
            depth=depth,
            pin=pin,
            follow_seconds=follow_seconds,
            trainer=trainer,
        )
        where = str(targets)
        follows = follow_seconds > 0
        folder = None if follows else RunFolder(open_storage(where))
        reader = folder or RunReader(open_reader(where))
        if follows:
            Follower(reader, follow_seconds).wait_for_beginning(says_so=bool(trainer))
        manifest = reader.read_manifest()
        store = store if isinstance(store, ImageStore) else ImageStore.open(store)
        check_agreement(manifest, store, batch_size, recipe, where)
        store.fetch()  # here: a forked worker of a DataLoader could not
        plan = reader.read_plan()
        ready = folder.listed() if folder else None  # records are checked as they are read
        asked, steps = steps, check_enough(manifest, plan, ready, start_tuple, batch_size, steps, where)
        if asked is None and steps == 0:
            raise MismatchError(
                f"{where}: tuples {manifest.tuples}, there is no whole batch of {batch_size} from {start_tuple} on: "
                "generate more: `postmean generate` with a larger --tuples, or pass a smaller batch_size"
            )
        if steps:
            check_kept(plan, deleted_shards(reader), start_tuple, where)
        tuples = range(start_tuple, start_tuple + steps * batch_size, batch_size)
        share = Share(tuples=tuples, rank=rank, world_size=world_size)
        run = OpenRun.of(where, reader, store, recipe, follow_seconds)
        storage = reader.reader  # a live run is read-only: it is told nothing
        report = _report(storage, trainer, tuples) if follows and trainer and isinstance(storage, Storage) else None
        return cls(run, share, replace(opening, steps=steps), report)

    @property
    def next_tuple(self) -> int:
        """First tuple of the next batch that this stream yields."""
        return self._place.here().next_tuple

    def state_dict(self) -> dict[str, Any]:
        """The place in the stream as plain values. It is the same for all ranks, and fits any number of ranks."""
        return self._place.here().to_state(self.manifest.fingerprint)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on at the place of this state, which `state_dict` gave. Ends an open iteration.

        Raises:
            ConfigError: it is no such state, or one of another number of DataLoader workers.
            MismatchError: it is of another run or batch size, or of a place that this stream does not have.
        """
        place = from_state(state_dict, self.manifest.fingerprint, self._share.tuples, self.where)
        self._end_iteration()
        self._place, self._has_ended, self._has_begun_empty = place, False, False
        if self._report is not None:
            self._report.at(self.next_tuple)

    def __enter__(self) -> "TargetStream":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        self.close(failed=kind is not None)

    def __getstate__(self) -> dict[str, Any]:
        return {"opening": self._opening, "place": self._place}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In another process: open the run again."""
        opening: Opening = state["opening"]
        self.__dict__.update(vars(TargetStream.open(**vars(opening))))
        self._place = state["place"]

    def __len__(self) -> int:
        """Batches left."""
        return len(self._place.here().left(self._share.tuples.stop))

    def __iter__(self) -> Generator[TargetBatch, None, None]:
        """`batches` without `on_wait`."""
        return self.batches()

    def batches(self, on_wait: Callable[[], None] = lambda: None) -> Generator[TargetBatch, None, None]:
        """Batches from `next_tuple` on; a background thread prepares up to `depth` of them ahead.

        Leaving the iteration, also by an exception, ends all waits for shards. A new iteration continues at
        `next_tuple` and ends an earlier one that is still open.

        Args:
            on_wait: called about once a second while the consumer waits for a batch.
        Raises:
            MismatchError: no batch is left.
            ShardError: a shard is missing or damaged, or was not there in time.
            ConfigError: the stream cannot be read in this worker process of a DataLoader.
        """
        if self._is_at_end():
            # torchdata begins an iteration for its state alone; Lightning begins one after the other, for ever
            if self._has_begun_empty:
                raise self._no_batch_left()
            self._has_begun_empty = True
        return self._batches(on_wait)

    def _batches(self, on_wait: Callable[[], None]) -> Generator[TargetBatch, None, None]:
        self._end_iteration()
        self._place = self._place.here()
        self._check_process()
        tuples = self._share.tuples
        if self._is_at_end():
            raise self._no_batch_left()
        if self._report is not None:
            self._report.start()
        places, opening = self._place.left(tuples.stop), self._opening
        iteration = Iteration(self._run, self._share, places, opening.depth, opening.pin)
        self._iteration = iteration
        try:
            while self.next_tuple < tuples.stop and self._iteration is iteration:
                batch = self._take(iteration, on_wait)
                self._place = self._place.moved()
                if self._report is not None:
                    self._report.at(self.next_tuple)
                yield batch
            self._has_ended = self.next_tuple >= tuples.stop
        finally:
            iteration.close()
            if self._iteration is iteration:
                self._iteration = None

    def never_before(self, tuple_id: int) -> None:
        """Tell the followed run that this trainer will not go back before this tuple, that of its oldest checkpoint."""
        if self._report is not None:
            self._report.never_before(tuple_id)

    def close(self, failed: bool = False) -> None:
        """End the iteration, and tell the followed run whether this trainer has finished.

        Args:
            failed: whether the trainer ends by an exception, unfinished; the last report then takes at most 2 s.
        """
        self._end_iteration()
        if self._report is None:
            return
        if failed:
            self._report.abandon()
        else:
            self._report.close(finished=self.next_tuple >= self._share.tuples.stop)

    def _is_at_end(self) -> bool:
        # one of several workers may have no batch, once
        at_end = self.next_tuple >= self._share.tuples.stop
        return at_end and (self._place.here().worker == Worker() or self._has_ended)

    def _no_batch_left(self) -> MismatchError:
        return MismatchError(
            f"{self.where}: no batch is left: all {len(self._share.tuples)} of this stream were taken: open it again "
            "for another pass, or generate more: `postmean generate` with a larger --tuples"
        )

    def _check_process(self) -> None:
        if self._report is not None and self._place.worker.count > 1:
            raise ConfigError("trainer: workers cannot report one place: pass num_workers=0 to the DataLoader")
        if self._process != os.getpid() and self.where.partition("://")[0] in OBJECT_STORES:
            raise ConfigError(
                f"{self.where}: the client of an object store does not work in a forked process: "
                'pass multiprocessing_context="spawn" to the DataLoader'
            )

    def _end_iteration(self) -> None:
        iteration, self._iteration = self._iteration, None
        if iteration is not None:
            iteration.close()

    def _take(self, iteration: Iteration, on_wait: Callable[[], None]) -> TargetBatch:
        while True:
            began = time.perf_counter()
            try:
                return iteration.take(_SECONDS_BETWEEN_NOTICES)
            except queue.Empty:
                pass
            except CancelledError:
                raise ShardError(f"{self.where}: the stream was closed") from None
            finally:
                self.wait_seconds += time.perf_counter() - began
            on_wait()


def _report(storage: Storage, trainer: str, tuples: range) -> PositionReport:
    position = Position(next_tuple=tuples.start, batch_size=tuples.step, resume_tuple=tuples.start, finished=False)
    return PositionReport(storage, trainer, position)
