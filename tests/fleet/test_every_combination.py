"""Every estimator with every process, noise, solver and posterior makes a run that `verify` passes.

Each pair of an estimator and a process meets two of the four posteriors (of all images or of a class, with or without
flips), so that each estimator and each process meets all four; the slow tests have the others.
"""

from pathlib import Path

import numpy as np
import pytest

from postmean.base.flags import with_flags
from postmean.cli.index import run as index
from postmean.contract.image_store import ImageStore
from postmean.contract.noise import (
    AnyNoise,
    ECTNoise,
    ICTNoise,
    LogitNormalTimeNoise,
    LogNormalNoise,
    UniformTimeNoise,
)
from postmean.contract.process import AnyProcess, EDMProcess, FlowMatchingProcess, VPProcess
from postmean.estimators.traits import table
from postmean.runs.config import GenerateConfig
from postmean.runs.verify import check_run, judge
from tests.support.runs import indexed_store, make_by_hand, postmean
from tests.support.settings import generate_config

TUPLES = 48
KINDS: dict[str, tuple[AnyProcess, AnyNoise]] = {
    "edm": (EDMProcess(), LogNormalNoise(P_mean=0.0)),
    "ict": (EDMProcess(), ICTNoise(batch_size=16, total_steps=3, s0=4, s1=16)),
    "ect": (EDMProcess(), ECTNoise(P_mean=0.0, stage_tuples=20)),
    "vp": (VPProcess(), UniformTimeNoise()),
    "flow": (FlowMatchingProcess(), LogitNormalTimeNoise()),
    "table": (EDMProcess(), UniformTimeNoise(t_min=0.02, t_max=0.95)),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    store = indexed_store(tmp_path_factory.mktemp("small") / "store", 60)
    for flags in ([], ["--flips"]):
        for name in ("flat", "ivf4-sq8"):
            assert index([str(store.path), f"--index={name}", *flags]) == 0
    return store


@pytest.fixture(scope="module")
def cosine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cosine process as a table."""
    path = tmp_path_factory.mktemp("table") / "cosine.csv"
    t = np.linspace(0.01, 0.99, 50)
    rows = [f"{a},{np.cos(a * np.pi / 2)},{np.tan(a * np.pi / 2)}" for a in t]
    path.write_text("\n".join(["t,s,sigma", *rows]) + "\n")
    return path


def check(config: GenerateConfig, store: ImageStore) -> None:
    """Make the run, verify each of its records, and check what was promised."""
    run = make_by_hand(config)
    manifest = run.read_manifest()
    report = check_run(run, store, 2 * TUPLES)
    assert judge(report, manifest) == []
    checked = {kind: sum(row.count for row in report.rows if row.kind == kind) for kind in ("records", "mean_next")}
    assert checked["records"] == run.read_plan().total_records > 0
    assert (checked["mean_next"] > 0) == (config.recipe.solver == "heun")
    assert manifest.estimator.certificate == (config.estimator.name not in ("stf", "single-sample"))
    assert all(np.isfinite(row.worst) for row in report.rows)


@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", table())
def test_every_combination_is_made_and_verified(
    small: ImageStore, cosine: Path, tmp_path: Path, estimator: str, kind: str, part: int
) -> None:
    process, noise = KINDS[kind]
    base = generate_config(
        small,
        "",
        tuples=TUPLES,
        records_per_shard=32,
        estimator=estimator,
        k=20,
        n=10,
        m=10,
        process=process,
        process_table=cosine if kind == "table" else None,
        noise=noise,
        solver="heun" if kind == "ict" else "euler",
    )
    parity = (list(table()).index(estimator) + list(KINDS).index(kind) + part) % 2
    for conditional, flips in ((False, bool(parity)), (True, not parity)):
        out = str(tmp_path / f"{conditional}-{flips}")
        check(with_flags(base, out=out, conditional=conditional, flips=flips), small)


@pytest.mark.parametrize("name", ["flat", "ivf4-sq8"])
@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("estimator", ["knn-snis", "knn-stratified"])
def test_estimators_that_search_take_any_index(
    small: ImageStore, tmp_path: Path, estimator: str, flips: bool, name: str
) -> None:
    settings = {"tuples": TUPLES, "records_per_shard": 32, "k": 20, "n": 10, "m": 10, "nprobe": 3}
    check(
        generate_config(
            small,
            tmp_path,
            estimator=estimator,
            index=name,
            flips=flips,
            noise=LogNormalNoise(P_mean=0.0),
            **settings,  # type: ignore[arg-type]
        ),
        small,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        "ict-digits --solver=heun --conditional --flips --estimator=exact --format=zarr",
        "ict-digits --solver=heun --estimator=knn-snis --k=20 --n=10 --index=ivf4-sq8",
        "edm-digits --estimator=stf --n=20 --no-certificate",
        "flow-cifar10 --estimator=posterior-mc --self-contained",
        "vp-cifar10 --no-flips --estimator=single-sample",
    ],
)
def test_a_run_by_the_command_is_verified_by_the_command(small: ImageStore, tmp_path: Path, flags: str) -> None:
    arguments = [f"--store={small.path}", f"--out={tmp_path}", "--tuples=300", "--records-per-shard=64"]
    done = postmean("generate", *flags.split(), *arguments)
    assert done.returncode == 0, done.stderr
    done = postmean("verify", tmp_path, f"--store={small.path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all is well\n")
