"""A page: sections of facts, tables, charts and pictures, rendered as one HTML file that needs nothing else.

It has no script and loads nothing: its policy allows its own style and the images inside it. Jinja2 escapes every text.
"""

import base64
import hashlib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from postmean.base.extras import needs

with needs("report"):
    import jinja2

_TEMPLATES = files("postmean.pages") / "templates"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing with what it shows in words."""

    svg: bytes
    title: str
    alt: str
    """What a reader who cannot see it needs to know."""

    @property
    def uri(self) -> str:
        return _data_uri(self.svg, "image/svg+xml")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A small image with its name below."""

    png: bytes
    name: str

    @property
    def uri(self) -> str:
        return _data_uri(self.png, "image/png")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Pictures side by side, with a line about them."""

    title: str
    pictures: list[Picture]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under heads; all columns but the first are numbers."""

    heads: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page. Only what is given is shown, in the order of the fields."""

    title: str
    text: str = ""
    share: float | None = None
    """How far something is, 0 to 1: a bar."""
    facts: list[tuple[str, str]] = field(default_factory=list)
    table: Table | None = None
    charts: list[Chart] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    grids: list[Picture] = field(default_factory=list)
    """Large pictures."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole page."""

    title: str
    state: str
    """One or two words, such as "running"."""
    sections: list[Section]
    footer: str


def policy(css: str) -> str:
    """The content security policy: this style and images within the page, nothing else."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


def render(page: Page, refresh_seconds: int | None = None) -> bytes:
    """The HTML file.

    Args:
        refresh_seconds: the browser loads the page again after so long.
    """
    html = _template().render(page=page, style=style(), policy=policy(style()), refresh=refresh_seconds)
    return html.encode()


@cache
def style() -> str:
    """The style sheet of every page."""
    return (_TEMPLATES / "style.css").read_text("utf-8")


@cache
def _template() -> "jinja2.Template":
    source = (_TEMPLATES / "page.html").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
