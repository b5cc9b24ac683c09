"""The notebook in docs/ runs from its first cell to its last; it uses public names alone."""

import ast
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"


def code_cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_it_uses_public_names_and_was_saved_without_an_error() -> None:
    for cell in code_cells():
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("postmean"):
                assert node.module in ("postmean.pipeline", "postmean.training")
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names)
        assert cell["execution_count"] and not [o for o in cell["outputs"] if o["output_type"] == "error"]


@pytest.mark.slow
def test_it_runs_and_shows_bars_and_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow: it starts a kernel and Ray, and trains."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = "".join(output.text for output in outputs if output.get("name") == "stderr")
    for bar in (r"generate: 100%|", r"train: 100%|"):
        assert bar in said
    assert "Missing packages" not in said  # Ray asks for ipywidgets, which nothing here needs
    shown = [output.data["text/plain"] for output in outputs if output.output_type == "execute_result"]
    assert shown[0] == "(1797, (1, 8, 8), 10)" and "[]" in shown  # no problem was found
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
