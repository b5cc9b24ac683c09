import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets, which are not in the repository: POSTMEAN_TEST_DATA, or ../shared/data."""
    folder = Path(os.environ.get("POSTMEAN_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data sets at {folder}: set POSTMEAN_TEST_DATA to the folder that holds them")
    return folder
