"""The Ray actor of `postmean index`: makes units of one job, on one GPU or on CPU threads."""

from functools import cached_property

from postmean.base.environment import store_cache_of_driver
from postmean.contract.image_store import ImageStore
from postmean.engine.process_setup import prepare_process
from postmean.neighbours.index_work import IndexWork, UnitDone, read_spec
from postmean.storage.open import open_storage


class IndexActor:
    """Commits its units beside the store.

    Args:
        parts: URL of the job's parts.
        store: URL of the image store, or its path on a file system that this machine sees.
        device: where distances are computed, cpu or cuda.
        threads: CPU threads.
        cache: the driver's POSTMEAN_STORE_CACHE; this node's own comes first.
    """

    def __init__(self, parts: str, store: str, device: str, threads: int, cache: str | None = None) -> None:
        store_cache_of_driver(cache)
        self._parts, self._store, self._device, self._threads = open_storage(parts), store, device, threads

    def placed(self) -> None:
        """Returns once Ray has found room for the actor and started it."""

    def load(self) -> None:
        """Load the images: a second per GB."""
        self._work.load()

    def make(self, unit: int) -> UnitDone:
        """Make a unit and commit it."""
        return self._work.make(unit)

    @cached_property
    def _work(self) -> IndexWork:
        prepare_process(self._threads)
        store = ImageStore.open(self._store)
        return IndexWork(read_spec(self._parts), store, self._parts, self._device, self._threads)
