"""The pages in a browser, at the widths of a phone and a desktop: nothing fails, nothing is fetched, all is seen."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from postmean.contract.image_store import ImageStore
from postmean.pages.page import render
from postmean.pages.page_server import Address, PageServer
from postmean.pages.run_page import RunPage
from postmean.pages.store_page import store_page
from postmean.pages.training_page import training_page
from postmean.storage.open import open_storage

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: install chromium"),
]
WIDTHS = {"phone": 390, "desktop": 1280}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # without a sandbox of its own: in containers, where tests run as root, it has none
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def look(browser: Any, url: str, width: int, picture: Path) -> None:
    """Open the page; fail at any message, any request but the page itself, and anything out of sight."""
    context = browser.new_context(viewport={"width": width, "height": 844})
    page, messages, requests = context.new_page(), [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(url)
    page.screenshot(path=picture, full_page=True)
    assert messages == []
    assert [request for request in requests if not request.startswith("data:")] == [url]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    images = page.evaluate("[...document.images].map(i => [i.alt, i.naturalWidth, i.getBoundingClientRect().right])")
    assert images and all(alt and drawn > 0 and right <= width for alt, drawn, right in images)
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('.charts img')].map(i => i.getBoundingClientRect().width))"
    )
    assert smallest >= 300  # their text is drawn for 360 pixels
    # the style is allowed by the page's own policy
    assert page.evaluate("getComputedStyle(document.querySelector('section')).borderRadius") == "8px"
    context.close()


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_run(browser: Any, run: Path, store: ImageStore, tmp_path: Path, width: int) -> None:
    page = tmp_path / "run.html"
    page.write_bytes(render(RunPage(open_storage(run), str(store.path)).make()))
    look(browser, page.as_uri(), width, tmp_path / "run.png")


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_store(browser: Any, store: ImageStore, tmp_path: Path, width: int) -> None:
    page = tmp_path / "store.html"
    page.write_bytes(render(store_page(store, 1e-6)))
    look(browser, page.as_uri(), width, tmp_path / "store.png")


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_training(browser: Any, training: Path, tmp_path: Path, width: int) -> None:
    page = tmp_path / "training.html"
    page.write_bytes(render(training_page(training)))
    look(browser, page.as_uri(), width, tmp_path / "training.png")


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_live(browser: Any, run: Path, store: ImageStore, tmp_path: Path, width: int) -> None:
    with PageServer(Address(port=0), RunPage(open_storage(run), str(store.path)).make) as server:
        look(browser, server.url, width, tmp_path / "live.png")
