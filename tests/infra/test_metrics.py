"""Metrics of a run: the fleet exports what the dashboard draws, and a scrape of a real run finds it."""

import json
import os
import re
import sys
import urllib.request
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import yaml

from postmean.fleet.metrics import SAMPLE, ActorMetrics, DriverMetrics, run_name
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from tests.support.runs import can_import, finish, free_port, indexed_store, start, wait_until

INFRA = Path(__file__).parents[2] / "infra"
SUFFIXES = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_sum", "_count"]}
AGENT = ("aiohttp_cors", "opentelemetry.exporter.prometheus")
"""Modules of ray[default] that Ray's metrics agent imports."""


def exported() -> set[str]:
    """Names as Prometheus sees them."""
    found = set()
    for metrics in (ActorMetrics("out"), DriverMetrics("out", 2, 1)):
        for metric in vars(metrics).values():
            if hasattr(metric, "info"):
                found |= {f"ray_{metric.info['name']}{suffix}" for suffix in SUFFIXES[type(metric).__name__]}
    return found


def expressions() -> list[str]:
    """Every query of the dashboard, including those of its variables."""
    dashboard = json.loads((INFRA / "grafana" / "postmean.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return found + [v["query"]["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]


def test_the_dashboard_asks_only_for_metrics_that_are_exported() -> None:
    asked = [name for query in expressions() for name in re.findall(r"\b(?:ray|postmean)_\w+", query)]
    assert len(asked) >= len(expressions()) > 10
    assert set(asked) <= exported()


def test_the_dashboard_draws_every_metric() -> None:
    drawn = " ".join(expressions())
    stems = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported()}
    assert not [stem for stem in sorted(stems) if stem not in drawn]


def test_every_query_of_a_panel_is_of_the_chosen_runs() -> None:
    panels = [query for query in expressions() if not query.startswith("label_values")]
    for query in panels:
        assert query.count('{run=~"$run"}') == len(re.findall(r"\bray_\w+", query)), query


def test_prometheus_reads_rays_list_of_nodes() -> None:
    config = yaml.safe_load((INFRA / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (files,) = [entry["files"] for entry in job["file_sd_configs"]]
    assert [Path(file).name for file in files] == ["prom_metrics_service_discovery.json"]


@pytest.mark.parametrize(
    ("out", "name"),
    [
        ("/shared/in64.targets/", "in64.targets"),
        ("s3://bucket/some/run", "run"),
        ("https://user:secret@host/run?signature=secret", "run"),
        ("s3://key:secret@bucket", "bucket"),
    ],
)
def test_the_tag_is_the_last_part_of_the_output(out: str, name: str) -> None:
    assert run_name(out) == name


@pytest.mark.slow
def test_a_scrape_finds_the_totals_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing := [module for module in AGENT if not can_import(module)]:
        pytest.skip(f"no {', '.join(missing)}: Ray exports metrics only with ray[default]: pip install -e '.[cluster]'")
    from ray.cluster_utils import Cluster

    store = indexed_store(tmp_path / "store", 300)
    out = tmp_path / "the.run"
    port = free_port()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    head = {"num_cpus": 2, "include_dashboard": False, "metrics_export_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        flags = ["--tuples=12000", "--records-per-shard=128", "--actors=2", "--estimator=knn-stratified"]
        done = finish(start("generate", "edm-digits", f"--store={store.path}", f"--out={out}", *flags))
        assert done.returncode == 0, done.stderr
        run = RunFolder(open_storage(out))
        plan = run.read_plan()
        committed = run.committed()
        assert committed.all()
        total = {
            "records_total": plan.total_records,
            "bytes_total": int(committed.sum()),
            "shard_seconds_count": len(plan),
            "ess_count": int(np.minimum(plan.records, SAMPLE).sum()),
            "tail_mass_count": int(np.minimum(plan.records, SAMPLE).sum()),
            "tuples_total": int((plan.last_tuple - plan.first_tuple + 1).sum()),
        }
        wait_until(lambda: totals(port, total) == total, f"a scrape finds {total}")
    finally:
        cluster.shutdown()


def totals(port: int, names: Iterable[str]) -> dict[str, float]:
    """The expected values of some exported metrics."""
    values = scrape(port)
    return {name: values[f"ray_postmean_{name}"] for name in names}


def scrape(port: int) -> dict[str, float]:
    """Sums of the exported values of the run by name, over actors and nodes."""
    sums: dict[str, float] = defaultdict(float)
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
    except OSError:
        return sums
    for name, tags, value in re.findall(r"^(ray_postmean_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        assert 'run="the.run"' in tags
        sums[name] += float(value)
    return sums
