"""Records of far teacher points, against the probability-flow ODE integrated over the data set in float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from postmean.contract.noise import ECTNoise, ICTNoise
from postmean.contract.noisy import noisy
from postmean.contract.plan import shard_tuples
from postmean.runs.verify import check_run, judge
from tests.support.exact_runs import entries_of, posterior_mean
from tests.support.runs import indexed_store, make_by_hand
from tests.support.settings import generate_config

FAR = ICTNoise(batch_size=16, total_steps=1, s0=6, s1=6, P_mean=0.5)


def end_of_flow(z: np.ndarray, sigma: float, sigma_next: float, x: np.ndarray) -> np.ndarray:
    """z at sigma_next on the path of dz / d ln sigma = z - E[x | z, sigma]."""

    def slope(log_sigma: float, z: np.ndarray) -> np.ndarray:
        return z - posterior_mean(z[None], np.exp([log_sigma]), x)[0][0]

    found = solve_ivp(slope, np.log([sigma, sigma_next]), z, method="DOP853", rtol=1e-8, atol=1e-10)
    return found.y[:, -1]


def test_the_teacher_point_approaches_the_end_of_the_exact_flow(tmp_path: Path) -> None:
    store = indexed_store(tmp_path / "store", 40)
    x, errors = entries_of(store, False), {}
    for solver in ("heun-2", "heun-16"):
        config = generate_config(store, tmp_path / solver, tuples=24, noise=FAR, solver=solver, estimator="exact")
        run = make_by_hand(config)
        manifest = run.read_manifest()
        block = shard_tuples(manifest.tuple_source(), run.read_plan()[0], run.read_certified_sigma())
        assert block.sigma_next is not None
        z = noisy(manifest.tuple_source(), store, block)[2].reshape(len(block), -1).astype(np.float64)
        mean = run.read_shard(0).mean.decode(store).reshape(len(block), -1)
        pairs = list(zip(block.sigma.tolist(), block.sigma_next.tolist(), strict=True))
        reached = np.array([m + b / a * (v - m) for m, v, (a, b) in zip(mean, z, pairs, strict=True)])
        exact = np.array([end_of_flow(v, a, b, x) for v, (a, b) in zip(z, pairs, strict=True)])
        errors[solver] = np.sqrt(np.square(reached - exact).mean())
        assert run.read_shard(0).mean_next is None
    assert errors["heun-16"] < 3e-3 and errors["heun-16"] < errors["heun-2"] / 5


@pytest.mark.parametrize(
    "settings",
    [
        dict(solver="heun-4", noise=FAR),
        dict(solver="heun-2", noise=ECTNoise(P_mean=0.0, stage_tuples=20), flips=True, conditional=True),
        dict(solver="heun-8", noise=FAR, estimator="exact", format="zarr", self_contained=True),
        dict(solver="heun-2", noise=FAR, estimator="knn-snis", k=20, n=10),
    ],
    ids=["auto", "classes and flips to sigma 0", "self-contained", "knn-snis"],
)
def test_a_run_is_verified_with_its_certified_tuples(tmp_path: Path, settings: dict[str, Any]) -> None:
    store = indexed_store(tmp_path / "store", 60)
    run = make_by_hand(generate_config(store, tmp_path / "run", tuples=64, records_per_shard=32, **settings))
    report = check_run(run, store, 128)
    assert judge(report, run.read_manifest()) == []
    assert {row.kind for row in report.rows} == {"records", "certified"}
