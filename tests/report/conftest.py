"""A tiny store, and reports of it."""

import numpy as np
import pytest

from postmean.contract.image_store import ImageStore, StoreWriter
from postmean.report.settings import ReportSettings


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """60 random images of 3x4x4; tests may add indexes that no other test names."""
    pixels = np.random.default_rng(3).integers(0, 256, (60, 3, 4, 4)).astype(np.uint8)
    with StoreWriter(tmp_path_factory.mktemp("report") / "tiny.store", None, {"importer": "test"}) as writer:
        writer.append(pixels, None)
        return writer.finish()


@pytest.fixture(scope="session")
def settings() -> ReportSettings:
    """Sizes of a report that takes a second."""
    return ReportSettings(
        points=4, repeats=3, sigmas=(0.4, 2.0), k=8, n=16, m=8, sweep_k=(4, 8), sweep_n=(16, 4), images=3
    )
