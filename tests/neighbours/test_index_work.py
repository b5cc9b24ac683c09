"""The units of an index: the same self-join in any order, from any blocks, and after damage of any part."""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore
from postmean.neighbours.faiss_search import build
from postmean.neighbours.faiss_spec import FaissSpec
from postmean.neighbours.index_work import IndexSpec, IndexWork
from postmean.neighbours.self_join import SelfJoin, self_join
from postmean.storage.memory import MemoryStorage
from tests.support.mutations import damage
from tests.support.posterior_examples import random_images, store_of
from tests.support.stores import digits_store

NAMES = ("distance2", "others", "table")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return digits_store(tmp_path_factory.mktemp("index") / "store", 300)


def spec_of(store: ImageStore, **changed: object) -> IndexSpec:
    spec = IndexSpec(
        store_fingerprint=store.header.fingerprint,
        flips=False,
        conditional=False,
        nearest=20,
        block=48,
        joins=True,
        faiss=None,
    )
    return replace(spec, **changed)


def make(work: IndexWork, seed: int = 0) -> None:
    """Make the missing units, those of a stage in random order."""
    for stage in work.stages:
        missing = sorted(set(stage.units) - work.committed().keys())
        Random(seed).shuffle(missing)
        for unit in missing:
            done = []
            made = work.make(unit, done.append)
            assert made["work"] == work.units[unit].work and done == sorted(done)
            assert work.units[unit].kind == "rows" or not done or done[-1] == made["work"]


def same(a: SelfJoin, b: SelfJoin) -> bool:
    return a.header == b.header and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in NAMES)


@pytest.mark.parametrize("conditional", [False, True], ids=["unconditional", "conditional"])
@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
def test_the_self_join_does_not_depend_on_blocks_order_or_threads(store: ImageStore, flips: bool, conditional: bool):
    whole = self_join(store, flips, conditional, 20)
    for block, cores, seed in ((16, 1, 1), (48, 2, 2), (48, 1, 3), (300, 2, 4)):
        spec = spec_of(store, flips=flips, conditional=conditional, block=block)
        work = IndexWork(spec, store, MemoryStorage(), "cpu", cores)
        make(work, seed)
        assert same(work.self_join(), whole)


def test_a_part_that_is_damaged_or_gone_is_noticed_and_made_again(store: ImageStore):
    random = Random(0)
    whole, memory = self_join(store, False, False, 20), MemoryStorage()
    make(IndexWork(spec_of(store), store, memory, "cpu", 1))
    files = dict(memory.files)
    for path, data in files.items():
        memory.files = dict(files)
        memory.files[path] = damage(path, data, random)
        if path.startswith("pairs"):  # it counts only while rows have to be merged from it
            memory.files = {p: d for p, d in memory.files.items() if "rows" not in p}
        work = IndexWork(spec_of(store), store, memory, "cpu", 1)
        make(work)
        assert same(work.self_join(), whole), path
    memory.files = {path: data for path, data in files.items() if not path.startswith(("pairs", "rows"))}
    assert same(IndexWork(spec_of(store), store, memory, "cpu", 1).self_join(), whole)


def test_parts_of_other_settings_do_not_count(store: ImageStore):
    memory = MemoryStorage()
    make(IndexWork(spec_of(store), store, memory, "cpu", 1))
    for changed in ({"nearest": 21}, {"block": 64}, {"flips": True}, {"conditional": True}):
        work = IndexWork(spec_of(store, **changed), store, memory, "cpu", 1)
        assert not work.committed()
    other = store_of(Path(store.path).parent / "other", random_images(300))
    with pytest.raises(DataError, match="not the images"):
        IndexWork(spec_of(store), other, memory, "cpu", 1)


@pytest.mark.parametrize("name", ["flat", "ivf4-sq8"])
def test_a_faiss_index_is_trained_once_and_has_the_bytes_of_one_built_at_once(store: ImageStore, name: str):
    path = build(store, FaissSpec(name), False)
    whole = path.read_bytes()
    path.unlink()
    memory, spec = MemoryStorage(), spec_of(store, joins=False, faiss=name)
    work = IndexWork(spec, store, memory, "cpu", 1)
    assert [stage.what for stage in work.stages] == ([f"train {name}"] if "ivf" in name else []) + [f"index {name}"]
    for unit in range(len(work.units)):
        assert unit not in work.committed()
        again = IndexWork(spec, store, memory, "cpu", 1)  # as after a kill
        again.make(unit)
    assert path.read_bytes() == whole
    assert len(IndexWork(spec, store, memory, "cpu", 1).committed()) == len(work.units)
    path.unlink()
    assert len(work.committed()) == len(work.units) - 1
