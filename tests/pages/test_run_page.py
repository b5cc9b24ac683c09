"""The page of a run says what the run's files say, and is one file that runs and loads nothing."""

import base64
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from postmean.base.errors import MismatchError
from postmean.cli.main import run as command
from postmean.contract.image_store import ImageStore, to_pixels
from postmean.contract.plan import shard_tuples
from postmean.pages.page import Page, render
from postmean.pages.run_page import RunPage
from postmean.pages.samples import RunSamples
from postmean.runs.config import VerifyConfig
from postmean.runs.failures import write_failure
from postmean.runs.generate import _begin
from postmean.runs.job import prepare
from postmean.runs.verify import verify
from postmean.shards.run_folder import RunFolder
from postmean.storage.memory import MemoryStorage
from postmean.storage.open import open_storage
from tests.pages.conftest import HOSTILE, Parsed
from tests.support.runs import make_by_hand
from tests.support.settings import generate_config
from tests.support.stores import digits_store


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def page_of(out: Path, store: ImageStore | None) -> Page:
    return RunPage(open_storage(out), None if store is None else str(store.path)).make()


def section(page: Page, title: str) -> str:
    """The text of the section of this title."""
    only = replace(page, sections=[s for s in page.sections if s.title.startswith(title)])
    assert len(only.sections) == 1, [s.title for s in page.sections]
    return Parsed(render(only)).text


@pytest.fixture(scope="module")
def page(run: Path, store: ImageStore) -> Page:
    return page_of(run, store)


def test_a_finished_run(run: Path, page: Page) -> None:
    plan = RunFolder(open_storage(run)).read_plan()
    parsed = Parsed(render(page))
    parsed.check_alone()
    assert page.state == "finished"
    progress = section(page, "Plan and progress")
    assert f"{len(plan)} of {len(plan)}" in progress and f"{plan.total_records:,} of {plan.total_records:,}" in progress
    assert "200 images of 1×8×8" in progress
    assert "Not verified yet" in section(page, "Verification")
    assert [s.title for s in page.sections if s.title == "Failures"] == []
    charts = [c.title for s in page.sections for c in s.charts]
    assert {"Effective sample size (ESS)", "Posterior variance per dimension", "Certified share by σ"} <= {*charts}


def test_pictures_are_the_records(run: Path, store: ImageStore, page: Page) -> None:
    folder = RunFolder(open_storage(run))
    samples = RunSamples(folder, store)
    shards = list(range(len(folder.read_plan())))
    found = samples.records(shards)
    everything = [folder.read_shard(shard) for shard in shards]
    assert len(found) == sum(map(len, everything))
    np.testing.assert_array_equal(found.columns["sigma"], np.sort(np.concatenate([r.sigma for r in everything])))
    examples = samples.examples(shards)
    assert len(examples) == 12 and [e.sigma for e in examples] == sorted(e.sigma for e in examples)
    cards = next(s for s in page.sections if s.title == "Records").cards
    source = folder.read_manifest().tuple_source()
    for example, card in zip(examples, cards, strict=True):
        block = source.block(example.tuple_id, example.tuple_id + 1)
        assert block.sigma[0] == pytest.approx(example.sigma)
        pixels = np.asarray(Image.open(io.BytesIO(card.pictures[2].png)))
        np.testing.assert_array_equal(pixels, store.pixels(block.entry)[0, 0])
        shown = np.asarray(Image.open(io.BytesIO(card.pictures[1].png)))
        np.testing.assert_array_equal(shown, to_pixels(example.mean)[0])
        z = np.asarray(Image.open(io.BytesIO(card.pictures[0].png)))
        assert ((z == 0) | (z == 255)).mean() < 0.2  # scaled, not clipped


def test_names_of_classes_are_text(page: Page) -> None:
    html = render(page)
    assert b"<script" not in html and HOSTILE in Parsed(html).text


def test_what_is_missing_failed_and_damaged_is_said(copy: Path, store: ImageStore) -> None:
    folder = RunFolder(open_storage(copy))
    plan = folder.read_plan()
    (copy / "commits/000002.json").unlink()
    write_failure(folder.storage, plan[2], "no memory <b>")
    (copy / "shards/000000.tar").write_bytes(b"damaged")
    page = page_of(copy, None)
    assert page.state == "stopped"
    assert f"{len(plan) - 1} of {len(plan)}" in section(page, "Plan and progress")
    assert "000002 no memory <b>" in section(page, "Failures")
    assert "1 more shards could not be read" in section(page, "Quality")
    assert "Pass --store" in section(page, "Records")


def test_a_store_given_by_a_relative_path_is_found_from_another_folder(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(store.path, tmp_path / "here" / "a.store")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = replace(generate_config(store, tmp_path / "run", tuples=200), store="a.store")
    folder = RunFolder(open_storage(config.out))
    _begin(config, prepare(config, folder), folder)
    make_by_hand(config)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "z = x + σε is shown" in section(page_of(tmp_path / "run", None), "Records")
    moved = (tmp_path / "here").rename(tmp_path / "moved")
    assert "Pass --store" in section(page_of(tmp_path / "run", None), "Records")
    assert "z = x + σε is shown" in section(page_of(tmp_path / "run", ImageStore.open(moved / "a.store")), "Records")


@pytest.mark.slow
def test_verification_is_shown(copy: Path, store: ImageStore) -> None:
    report = verify(VerifyConfig(out=str(copy), store=store.path, records=16))
    assert not report.problems
    shown = section(page_of(copy, None), "Verification")
    assert "All is well." in shown and f"{sum(row.count for row in report.rows if row.kind == 'records')}" in shown
    (copy / "shards/000001.tar").write_bytes(b"damaged")
    verify(VerifyConfig(out=str(copy), store=store.path, records=16))
    assert "1 problems: shard 000001" in section(page_of(copy, None), "Verification")
    for wrong in (b"{", b"[]", b'{"rows": 3}'):
        (copy / "verification.json").write_bytes(wrong)
        assert "Not verified yet" in section(page_of(copy, None), "Verification")


def test_a_folder_without_a_run_and_another_store(run: Path, tmp_path: Path) -> None:
    assert RunPage(MemoryStorage({}), None).make().state == "nothing there"
    other = digits_store(tmp_path / "other.store", 50)
    with pytest.raises(MismatchError, match="made from the data set"):
        page_of(run, other)


@pytest.mark.slow
def test_the_command_writes_one_file(
    copy: Path, store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert command("report", ["run", str(copy), "--store", str(store.path)]) == 0
    assert str(copy / "report.html") in capsys.readouterr().out
    html = (copy / "report.html").read_bytes()
    Parsed(html).check_alone()
    uris = re.findall(rb'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert uris and all(b"<script" not in base64.b64decode(uri) for uri in uris)
    assert command("report", ["run", str(copy), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").is_file()


def test_the_sample_follows_the_whole_run(run: Path) -> None:
    folder = RunFolder(open_storage(run))
    source, certified = folder.read_manifest().tuple_source(), folder.read_certified_sigma()
    assert certified is not None
    sample = RunSamples(folder, None).tuples()
    block = source.block(0, 1500)
    np.testing.assert_array_equal(sample.sigma, block.sigma)
    np.testing.assert_array_equal(sample.certified, block.sigma <= certified[block.entry])
    assert (~sample.certified).sum() == sum(
        len(shard_tuples(source, folder.read_plan()[shard], certified)) for shard in range(len(folder.read_plan()))
    )
