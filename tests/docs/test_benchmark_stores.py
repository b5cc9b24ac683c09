"""Benchmarks of runs take a store that nobody has indexed: they make the index that their preset needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.indexed import make_index
from postmean.neighbours.self_join import SelfJoin
from tests.docs.messages import ROOT
from tests.support.stores import digits_store


@pytest.mark.parametrize(
    ("preset", "flips", "conditional"),
    [("edm-cifar10", True, False), ("edm-imagenet64", False, True), ("ict", False, False)],
)
def test_the_index_is_the_one_of_the_preset(preset: str, flips: bool, conditional: bool, tmp_path: Path) -> None:
    store = digits_store(tmp_path / "store", 20)
    make_index(store.path, preset)
    kinds = [(f, c) for f in (False, True) for c in (False, True) if SelfJoin.path(store, f, c).exists()]
    assert kinds == [(flips, conditional)]


@pytest.mark.slow
def test_the_efficiency_of_actors_is_measured_on_a_store_without_an_index(tmp_path: Path) -> None:
    """Slow: it starts Ray twice."""
    store = digits_store(tmp_path / "store", 300)
    command = [sys.executable, ROOT / "benchmarks" / "fleet.py", "actors", "--store", store.path]
    done = subprocess.run([*command, "--rounds", "1", "--tuples", "15000"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "efficiency of 2 actors" in done.stdout
