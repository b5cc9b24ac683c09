"""`postmean export` writes every record once, the same bytes whatever was there before, and plain pyarrow reads it."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from postmean.base.errors import MismatchError
from postmean.cli.main import run as command
from postmean.contract.records import QUALITY_COLUMNS, Records
from postmean.runs.config import ExportConfig
from postmean.runs.export import ExportReport, export
from postmean.shards.codec import Layout
from tests.shards.test_plain_readers import write_run
from tests.support.runs import assert_one_line, files_of
from tests.support.shard_examples import LAYOUT

LAYOUTS = {
    "euler": LAYOUT,
    "heun, no labels": replace(LAYOUT, has_next=True, has_sigma_next=True, labels=False),
    "self-contained": replace(LAYOUT, self_contained=True),
}


def to_parquet(targets: Path, out: Path | None = None) -> ExportReport:
    return export(ExportConfig(targets=str(targets), out=None if out is None else str(out)))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("format", ["webdataset", "zarr"])
def test_rows_are_the_records(layout: Layout, format: str, tmp_path: Path) -> None:
    records = write_run(tmp_path / "run", layout, format)
    report = to_parquet(tmp_path / "run")
    assert (report.out, report.exported, report.written, report.records) == (str(tmp_path / "run-parquet"), 2, 2, 40)
    table = pq.read_table(tmp_path / "run-parquet/records").to_pydict()
    numbers = [
        n for n in ("tuple_id", "sigma", "sigma_next", "label", *QUALITY_COLUMNS) if getattr(records, n) is not None
    ]
    for name in numbers:
        np.testing.assert_array_equal(table.pop(name), getattr(records, name))
    for name, images in records.plain.items():
        np.testing.assert_array_equal(table.pop(name), images.reshape(len(records), -1))
    for target in ("mean", "mean_next") if layout.has_next else ("mean",):
        check_means(table, records, target, layout)
    assert not table


def check_means(table: dict, records: Records, target: str, layout: Layout) -> None:
    means, dense = getattr(records, target), iter(getattr(records, target).dense)
    pixels = table.pop(target)
    if layout.self_contained:
        np.testing.assert_array_equal(np.array(pixels, np.float16), means.dense.reshape(len(records), -1))
        return
    assert table.pop(f"{target}_count") == means.count.tolist()
    entries, weights = (table.pop(f"{target}_{name}") for name in ("entry", "weight"))
    assert [*chain(*entries)] == means.entry.tolist() and [*chain(*weights)] == means.weight.tolist()
    for count, row, entry, weight in zip(means.count, pixels, entries, weights, strict=True):
        assert len(entry) == len(weight) == max(0, count)
        np.testing.assert_array_equal(np.array(row, np.float16), next(dense).reshape(-1) if count < 0 else [])


def test_a_second_call_writes_what_is_missing_and_the_same_bytes(tmp_path: Path) -> None:
    write_run(tmp_path / "run", LAYOUT, "webdataset")
    to_parquet(tmp_path / "run", tmp_path / "whole")
    commit = tmp_path / "run/commits/000000.json"
    kept = commit.read_bytes()
    commit.unlink()
    assert to_parquet(tmp_path / "run", tmp_path / "parts").exported == 1
    commit.write_bytes(kept)
    assert to_parquet(tmp_path / "run", tmp_path / "parts").written == 1
    assert to_parquet(tmp_path / "run", tmp_path / "parts").written == 0
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "parts")


def test_the_formats_of_a_run_export_the_same_bytes(tmp_path: Path) -> None:
    for format in ("webdataset", "zarr"):
        write_run(tmp_path / format, LAYOUT, format)
        to_parquet(tmp_path / format, tmp_path / f"out-{format}")
    assert files_of(tmp_path / "out-webdataset/records") == files_of(tmp_path / "out-zarr/records")


def test_an_export_of_another_run_is_left_alone(tmp_path: Path) -> None:
    write_run(tmp_path / "run", LAYOUT, "webdataset")
    write_run(tmp_path / "other", LAYOUT, "zarr")
    to_parquet(tmp_path / "run", tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(MismatchError, match=r"another run.*pass another --out"):
        to_parquet(tmp_path / "other", tmp_path / "out")
    assert files_of(tmp_path / "out") == before


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_run(tmp_path / "run", LAYOUT, "webdataset")
    assert command("export", [str(tmp_path / "run"), "--format", "parquet"]) == 0
    assert "40 records of 2 shards, 2 written now" in capsys.readouterr().out
    assert command("export", [str(tmp_path / "none")]) == 2
    assert_one_line(capsys.readouterr().err, "no run there")
