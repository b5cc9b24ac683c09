"""The page of a run: plan and progress, rates, quality by sigma, certified share, verification, failures, pictures."""

from datetime import UTC, datetime
from pathlib import Path

from postmean.base.errors import PostmeanError
from postmean.base.progress import ShowProgress
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.pages.page import Page
from postmean.pages.run_examples import examples_section
from postmean.pages.run_progress import failures_section, progress_section, rates_section
from postmean.pages.run_quality import certified_section, quality_section, verification_section
from postmean.pages.samples import RunSamples
from postmean.runs.status import read_status
from postmean.runs.verify import last_verification
from postmean.shards.retention import kept_shards
from postmean.shards.run_folder import RunFolder
from postmean.storage.storage import Storage


class RunPage:
    """Makes the page of one run, again and again while it runs.

    Args:
        store: the image store for pictures; None takes the folder that the run was made from, if it is on this machine.
        progress: whether to show what is fetched of a store at a URL.
    Raises:
        DataError: no store there.
    """

    def __init__(self, storage: Storage, store: str | Path | None, progress: bool | ShowProgress = True) -> None:
        self._storage = storage
        self._given = None if store is None else ImageStore.open(store, progress)
        self._samples: tuple[Manifest, RunSamples, ImageStore | None] | None = None

    def make(self) -> Page:
        """The page as the run is now.

        Raises:
            ShardError: manifest or plan is damaged.
            MismatchError: the store is not the run's.
        """
        status = read_status(self._storage)
        run = RunFolder(self._storage)
        sections = [progress_section(status, None)]
        if run.has_manifest():
            samples, store = self._sampled(run)
            shards = kept_shards(run).tolist()
            records, manifest = samples.records(shards), run.read_manifest()
            sections = [
                progress_section(status, manifest),
                failures_section(status),
                rates_section(status.history),
                quality_section(records),
                certified_section(samples.tuples(), manifest),
                verification_section(last_verification(self._storage)),
                examples_section(samples.examples(shards), store),
            ]
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return Page(
            title=status.out,
            state=status.state,
            sections=[section for section in sections if section is not None],
            footer=f"postmean, {now}",
        )

    def _sampled(self, run: RunFolder) -> tuple[RunSamples, ImageStore | None]:
        manifest = run.read_manifest()
        if self._samples is None or self._samples[0] != manifest:  # the run began, or was extended
            store = self._given if self._given is not None else _store_of(run, manifest)
            if store is not None:
                manifest.check_store(store.header.fingerprint, self._storage.url)
            self._samples = (manifest, RunSamples(run, store), store)
        return self._samples[1:]


def _store_of(run: RunFolder, manifest: Manifest) -> ImageStore | None:
    """The store that the run was made from, if it is on this machine and the same."""
    try:
        path = run.named_store()
        if path is None or "://" in path:  # a page is not worth a fetch
            return None
        store = ImageStore.open(path)
        manifest.check_store(store.header.fingerprint, run.url)
    except PostmeanError:
        return None
    return store
