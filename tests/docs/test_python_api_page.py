"""The Python that docs/python-api.md and the README show runs from top to bottom, on digits as PNG files."""

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.support.stores import digits

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["docs/python-api.md", "README.md"])
def test_its_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow: each starts Ray."""
    monkeypatch.chdir(tmp_path)
    for number, (image, label) in enumerate(zip(*(each[:300] for each in digits()), strict=True)):
        path = tmp_path / "photos" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    fences = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    source = "\n".join(fence for fence in fences if "my_package" not in fence)
    assert source
    exec(compile(source, page, "exec"), {"__name__": "__main__"})
