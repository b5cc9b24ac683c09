"""`postmean plan` and --dry-run: the numbers that generate then comes to, and nothing written."""

import json
from pathlib import Path

import pytest
from fleet_runs import make_by_hand

from pipeline.cli.main import run as postmean
from pipeline.contract.image_store import ImageStore
from pipeline.contract.manifest import ShardFormat
from pipeline.contract.noise import ICTNoise, LogNormalNoise
from pipeline.fleet.config import GenerateConfig


@pytest.mark.parametrize(
    ("records_per_shard", "format", "self_contained", "heun"),
    [
        (60, "webdataset", False, True),
        (200, "zarr", False, False),
        (700, "webdataset", True, True),
        (700, "zarr", False, True),
        (700, "zarr", True, False),
    ],
)
def test_plan_tells_records_shards_and_bytes_of_the_run(
    store: ImageStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    records_per_shard: int,
    format: ShardFormat,
    self_contained: bool,
    heun: bool,
) -> None:
    config = GenerateConfig(
        store=store.path,
        out=str(tmp_path / "run"),
        tuples=1500,
        records_per_shard=records_per_shard,
        estimator="exact",
        format=format,
        self_contained=self_contained,
        noise=ICTNoise(total_steps=1000, batch_size=256, s1=160) if heun else LogNormalNoise(),
        solver="heun" if heun else "euler",
    )
    preset = "ict-digits" if heun else "edm-digits"
    flags = [f"--store={store.path}", "--tuples=1500", f"--records-per-shard={records_per_shard}"]
    flags += ["--estimator=exact", f"--format={format}", "--json", "--actors=2"]
    flags += ["--self-contained"] if self_contained else []
    flags += ["--solver=heun"] if heun else []
    assert postmean("plan", [preset, *flags]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert postmean("generate", [preset, *flags, f"--out={config.out}", "--dry-run"]) == 0
    dry = json.loads(capsys.readouterr().out)
    assert not list(tmp_path.iterdir())

    run = make_by_hand(config)
    plan = run.read_plan()
    for report in (planned, dry):
        assert (report["tuples"], report["records"], report["shards"]) == (1500, plan.total_records, len(plan))
        assert report["certified_share"] == 1 - plan.total_records / 1500
        assert report["actors"] == 2
        sizes = [file.size for shard in range(len(plan)) for file in run.read_commit(shard).files]
        assert report["bytes"] == pytest.approx(sum(sizes), rel=0.25)


def test_plan_of_a_run_without_records(store: ImageStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert postmean("plan", ["edm-digits", f"--store={store.path}", "--tuples=99", "--noise.P-mean=-9", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["records"], report["shards"], report["bytes"], report["certified_share"]) == (0, 0, 0, 1)
