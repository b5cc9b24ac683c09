"""The README as package indexes show it: a page that lies in no repository, so its links must be whole addresses."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^]]*)\]\((?![a-z]+:|#)(?P<path>[^)]+)\)")


def with_whole_links(markdown: str, repository: str, tag: str) -> str:
    """Point relative links at the files of this tag in a repository of GitHub's form, and pictures at their bytes."""

    def whole(link: re.Match[str]) -> str:
        kind = "raw" if link["picture"] else "blob"
        return f"{link['picture']}[{link['text']}]({repository.rstrip('/')}/{kind}/{tag}/{link['path']})"

    return _RELATIVE_LINK.sub(whole, markdown)


class ReadmeHook(MetadataHookInterface):
    """Sets the readme. Its links stay relative while pyproject.toml has no `[project.urls] Repository`."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        if repository := metadata.get("urls", {}).get("Repository"):
            text = with_whole_links(text, repository, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
