"""What the site has beside docs/: README and its like, the API reference, and the files of the tree that pages link to.

mkdocs calls `on_files` and `on_page_markdown` by their names. The pages are written for the tree, where
`../infra/Containerfile` is a file; in the site it is a copy below `tree/`.
"""

import importlib
import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
"""Pages of the root, and where they are in the site."""
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)]*)?\))")
_FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for source, place in PAGES.items():
        files.append(File.generated(config, place, content=in_site((ROOT / source).read_text(), source, files, config)))
    for module in ("pipeline", "training"):
        files.append(File.generated(config, f"reference/{module}.md", content=reference(f"postmean.{module}")))
    notebook = files.get_file_from_path("quickstart.ipynb")
    if notebook is not None:
        files.remove(notebook)
    files.append(File.generated(config, "quickstart.md", content=notebook_page(ROOT / "docs" / "quickstart.ipynb")))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Point links of a page of docs/ at what they mean in the site."""
    is_ours = page.file.generated_by is None
    return in_site(markdown, f"docs/{page.file.src_uri}", files, config) if is_ours else markdown


def in_site(markdown: str, source: str, files: Files, config: MkDocsConfig) -> str:
    """The page `source` of the tree, with its links to files of the tree as links within the site."""
    parts = _FENCE.split(markdown)
    return "".join(
        p if p.startswith("```") else _LINK.sub(lambda m: _moved(m, source, files, config), p) for p in parts
    )


def _moved(link: re.Match[str], source: str, files: Files, config: MkDocsConfig) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
    if "://" in link[2] or not (ROOT / target).is_file():
        return link[0]
    here = PAGES.get(source, source.removeprefix("docs/"))
    place = PAGES.get(target) or target.removeprefix("docs/")
    if place.endswith(".ipynb"):
        place = place.replace(".ipynb", ".md")
    if not target.startswith("docs/") and target not in PAGES:
        place = f"tree/{target}"
        if files.get_file_from_path(place) is None:
            files.append(File.generated(config, place, content=(ROOT / target).read_bytes()))
    return f"{link[1]}{posixpath.relpath(place, posixpath.dirname(here) or '.')}{link[3]}"


def reference(name: str) -> str:
    """A page with every public name of a module, and the first lines of the module."""
    module = importlib.import_module(name)
    names = sorted(module.__all__, key=lambda each: (each[0].isupper(), each.lower()))
    return "\n\n".join([f"# {name}", str(module.__doc__), *(f"::: {name}.{each}" for each in names)])


def notebook_page(path: Path) -> str:
    """A notebook as a page: its text, code and the text that the code printed."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = "".join(output.get("text", data.get("text/plain", "")))
            if "image/png" in data:
                parts.append(f"![output](data:image/png;base64,{''.join(data['image/png'].split())})")
            elif text and output.get("name") != "stderr":
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts)
