"""`postmean plan` and --dry-run give the numbers that generate then reaches, and write nothing."""

import json
from pathlib import Path

import pytest

from postmean.cli.main import run as postmean
from postmean.contract.image_store import ImageStore
from postmean.contract.noise import ICTNoise, LogNormalNoise
from postmean.contract.settings import ShardFormat
from tests.support.runs import make_by_hand
from tests.support.settings import generate_config


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
    config = generate_config(
        store,
        tmp_path / "run",
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


@pytest.mark.parametrize(("fleet", "nodes", "actors"), [("2x8-h100", 2, 16), ("3xc7i", 3, 192), ("here", 1, 4)])
def test_plan_for_a_fleet_adds_up(
    store: ImageStore, capsys: pytest.CaptureFixture[str], fleet: str, nodes: int, actors: int
) -> None:
    flags = ["edm-digits", f"--store={store.path}", "--tuples=3000", f"--fleet={fleet}", "--images=9000", "--price=48"]
    flags += ["--actors=4"] if fleet == "here" else []
    assert postmean("plan", [*flags, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["nodes"], report["actors"], report["images"]) == (nodes, actors, 9000)
    hours = report["seconds"] / 3600
    assert report["money"] == pytest.approx(48 * nodes * hours)
    assert report["core_hours"] == pytest.approx(actors * hours)
    assert report["gpu_hours"] == pytest.approx(16 * hours if "h100" in fleet else 0)
    assert report["seconds"] > report["plan_seconds"] + report["load_seconds"] > 0
    assert report["shared_memory_bytes"] == 9000 * 64
    assert report["replica_bytes"] == 9000 * (64 + 4)
    network = 0 if fleet == "here" else nodes * report["replica_bytes"] + 2 * report["bytes"]
    assert report["network_bytes"] == network
    assert report["rate_is"] == ("measured" if fleet == "here" else "estimated")
    assert report["fits"]


def test_plan_takes_a_rate_that_was_measured_there(store: ImageStore, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["edm-digits", f"--store={store.path}", "--tuples=40000", "--fleet=1x1-l40s", "--records-per-shard=100"]
    assert postmean("plan", [*flags, "--records-per-second=20", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rate_is"], report["records_per_second_per_actor"]) == ("given", 20)
    assert report["seconds"] == pytest.approx(report["plan_seconds"] + report["load_seconds"] + report["records"] / 20)


def test_plan_says_what_is_not_measured_and_what_does_not_fit(
    store: ImageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["edm-digits", f"--store={store.path}", "--tuples=3000", "--fleet=2x1-l40s", "--images=10000000000"]
    assert postmean("plan", flags) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(rows) == [
        "tuples",
        "certified",
        "records",
        "rate",
        "time",
        "cost",
        "index",
        "bytes",
        "memory",
        "network",
    ]
    assert rows["tuples"] == "3,000 of 10,000,000,000 images, extrapolated from 150"
    assert rows["rate"].endswith("estimated from matrix rates, not measured")
    assert rows["memory"].endswith("DOES NOT FIT")
