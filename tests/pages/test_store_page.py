"""The page of a store: duplicates as brute force finds them, classes, certified sigmas."""

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from postmean.cli.index import run as index
from postmean.cli.main import run as command
from postmean.contract.image_store import ImageStore
from postmean.neighbours.certificate import certified_sigma
from postmean.neighbours.self_join import SelfJoin
from postmean.pages.page import Page, Section, render
from postmean.pages.store_page import store_page
from tests.pages.conftest import HOSTILE, Parsed, brute_nearest


@pytest.fixture(scope="module")
def page(store: ImageStore) -> Page:
    return store_page(store, 1e-6)


def section(page: Page, title: str) -> Section:
    return next(s for s in page.sections if s.title == title)


def test_it_is_one_file_that_runs_nothing(page: Page) -> None:
    html = render(page)
    Parsed(html).check_alone()
    assert b"<script" not in html and HOSTILE in Parsed(html).text
    assert page.state == "indexed"


def test_near_duplicates_are_those_of_brute_force(page: Page, store: ImageStore) -> None:
    squared = brute_nearest(store.images)
    rms = np.sqrt(squared / store.dim)
    table = section(page, "Near duplicates").table
    assert table is not None
    limits = {"identical": 0.0} | {f"at most {limit}": float(limit) for limit in (1, 2, 4, 8)}
    assert {head: int(count) for head, count in table.rows} == {k: (rms <= v).sum() for k, v in limits.items()}
    assert dict(table.rows)["identical"] == "3" and dict(table.rows)["at most 1"] == "5"


def test_the_pairs_shown_are_nearest_others(page: Page, store: ImageStore) -> None:
    squared = brute_nearest(store.images)
    shown = []
    for card in section(page, "Near duplicates").cards:
        first, second = (int(re.sub(r"[^\d].*", "", p.name)) for p in card.pictures)
        difference = store.images[first].astype(int) - store.images[second]
        assert first != second and np.square(difference).sum() == squared[first]
        assert card.title == f"difference {np.sqrt(squared[first] / store.dim):.3g}"
        shown.append({first, second})
    assert any(pair <= {7, 197, 198} for pair in shown) and {9, 199} in shown


def test_the_oddest_are_farthest_from_all_others(page: Page, store: ImageStore) -> None:
    squared = brute_nearest(store.images)
    cards = section(page, "The oddest images").cards
    shown = [int(card.pictures[0].name.split(",")[0]) for card in cards]
    assert sorted(squared[shown]) == sorted(squared)[-12:]
    pixels = np.asarray(Image.open(io.BytesIO(cards[0].pictures[0].png)))
    np.testing.assert_array_equal(pixels, store.images[shown[0], 0])


def test_certified_sigmas_are_those_of_the_certificate(page: Page, store: ImageStore) -> None:
    sigma = certified_sigma(SelfJoin.load(store, False, False), 1e-6, store.dim)
    assert dict(section(page, "Certified σ").facts)["median"] == f"{np.median(sigma):.3g}"


def test_partners_may_be_flipped_and_of_the_same_class(store: ImageStore, tmp_path: Path) -> None:
    path = Path(shutil.copytree(store.path, tmp_path / "flipped.store"))
    shutil.rmtree(path / "index")
    assert index([str(path), "--flips", "--conditional"]) == 0
    copy = ImageStore.open(path)
    assert copy.labels is not None
    for card in section(store_page(copy, 1e-6), "Near duplicates").cards:
        images = [int(re.sub(r"[^\d].*", "", p.name)) for p in card.pictures]
        first, second = (copy.images[image].astype(int) for image in images)
        second = second[..., ::-1] if "flipped" in card.pictures[1].name else second
        assert card.title == f"difference {np.sqrt(np.square(first - second).mean()):.3g}"
        assert copy.labels[images[0]] == copy.labels[images[1]]


def test_a_store_without_an_index_says_so(store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = Path(shutil.copytree(store.path, tmp_path / "plain.store"))
    shutil.rmtree(path / "index")
    assert command("report", ["store", str(path)]) == 0
    assert "not indexed" in capsys.readouterr().out
    assert f"postmean index {path}" in Parsed((path / "report.html").read_bytes()).text
    assert ImageStore.open(path).header == store.header  # the page does not disturb the store
