"""What a source is, found without reading all of it: `postmean import --list`."""

import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.base.progress import NoProgress, ShowProgress
from postmean.importers.config import ImportConfig, Split
from postmean.importers.files.archives import stem
from postmean.importers.files.open import open_source
from postmean.importers.files.urls import is_url, without_secrets
from postmean.importers.layouts.detect import open_layout, recognised
from postmean.importers.layouts.layout import SPLITS, Layout, NoSplitError, Wanted
from postmean.importers.notes import images, listed, unread_files
from postmean.importers.pixels.image_file import NOTES, CorruptError, read_image

SAMPLE = 100
"""Images that are looked at, spread over those that are files, the first of others."""
_SIDES = (64, 48, 32, 24, 16, 8, 4, 2, 1)
"""Usual sides, which networks can halve: of images of several sizes, the command has the first that enlarges none."""


@dataclass(frozen=True, kw_only=True)
class SplitSurvey:
    """One part of a source."""

    split: Split
    images: int
    classes: int
    class_names: list[str] | None
    """None without labels."""


@dataclass(frozen=True, kw_only=True)
class SourceSurvey:
    """What a source is, and the command that reads it."""

    source: str
    kind: str
    layout: str
    files: int
    splits: list[SplitSurvey]
    labels: list[str]
    """What --label may choose; empty where there is no choice."""
    sampled: int
    """Images that were looked at for the two fields below."""
    sizes: dict[str, int]
    """WxH -> images."""
    channels: dict[str, int]
    """Pillow's mode -> images."""
    oddities: list[str]
    command: str


def survey_source(config: ImportConfig, progress: ShowProgress = NoProgress) -> SourceSurvey:
    """Look at `config.source`.

    Args:
        progress: shows how much of an archive has been read.
    Raises:
        DataError: it is of no layout, or none of its splits can be read.
    """
    with ExitStack() as stack:
        source = stack.enter_context(open_source(config.source, progress))
        found, inner = recognised(source, config.kind, stack, progress)
        there: dict[Split, Layout] = {}
        refused: list[str] = []
        errors: list[DataError] = []
        for split in SPLITS:
            try:
                there[split] = open_layout(inner, found.kind, Wanted(split, config.label), stack)
            except NoSplitError as error:
                errors.append(error)
            except DataError as error:
                errors.insert(0, error)
                refused.append(f"{split} cannot be read: {error}")
        if not there:
            raise errors[0]
        split = config.split if config.split in there else next(iter(there))
        layout = there[split]
        looked = _look(layout)
        return SourceSurvey(
            source=_shown(config.source),
            kind=layout.kind,
            layout=layout.title,
            files=len(inner.names),
            splits=[_split(name, part) for name, part in there.items()],
            labels=list(layout.label_choices),
            sampled=sum(looked.sizes.values()),
            sizes={f"{w}x{h}": count for (w, h), count in looked.sizes.most_common()},
            channels=dict(looked.modes.most_common()),
            oddities=[*refused, *layout.notes, *unread_files(layout.ignored), *_oddities(looked, layout.hidden)],
            command=_command(config, split, layout.kind, looked),
        )


@dataclass
class _Looked:
    """What the images that were looked at are."""

    sizes: Counter[tuple[int, int]]
    modes: Counter[str]
    says: Counter[str]
    corrupt: list[str]


def _look(layout: Layout) -> _Looked:
    looked = _Looked(Counter(), Counter(), Counter(), [])
    for item in layout.sample(SAMPLE):
        if isinstance(item.payload, np.ndarray):
            channels, height, width = item.payload.shape
            looked.modes[{1: "L", 3: "RGB", 4: "RGBA"}[channels]] += 1
        else:
            try:
                file = read_image(item.payload, item.name)
            except CorruptError as error:
                looked.corrupt.append(f"{item.place} ({error})")
                continue
            width, height = file.image.size
            looked.modes[file.mode] += 1
            looked.says.update(file.says)
        looked.sizes[width, height] += 1
    return looked


def _split(split: Split, layout: Layout) -> SplitSurvey:
    names = None if layout.class_names is None else list(layout.class_names)
    return SplitSurvey(split=split, images=layout.count, classes=len(names or ()), class_names=names)


def _oddities(looked: _Looked, hidden: tuple[str, ...]) -> Iterator[str]:
    total = sum(looked.sizes.values())
    if hidden:
        yield f"hidden files and folders are not read: {listed(hidden)}"
    if len(looked.sizes) > 1:
        smallest, largest = min(looked.sizes), max(looked.sizes)
        ends = f"{smallest[0]}x{smallest[1]} .. {largest[0]}x{largest[1]}"
        yield f"{len(looked.sizes)} sizes among {images(total)}: {ends}"
    if len(looked.modes) > 1:
        yield f"several kinds of pixels: {', '.join(f'{mode} ({count})' for mode, count in looked.modes.most_common())}"
    for key, text in NOTES.items():
        if looked.says[key]:
            yield f"{looked.says[key]} of {images(total)} {text}"
    if looked.corrupt:
        yield f"corrupt: {listed(looked.corrupt)}"


def _shown(source: str | Path) -> str:
    return printable(without_secrets(str(source)) if is_url(source) else str(source))


def _command(config: ImportConfig, split: Split, kind: str, looked: _Looked) -> str:
    """The command that reads this split, with the flags that its images need."""
    name = Path(stem(_shown(config.source).rstrip("/"))).name
    plain = "".join(c for c in name if c.isalnum() or c in "-_.").strip("-_.")
    words = ["postmean", "import", _shown(config.source), str(config.store or f"{plain or 'images'}.store")]
    words += ["--kind", config.kind] if config.kind != "auto" else []
    words += ["--split", split] if split != "train" else []
    words += ["--label", config.label] if config.label else []
    if config.resize != "none":
        words += ["--resize", config.resize, "--resolution", str(config.resolution)]
    elif kind == "celeba" and set(looked.sizes) == {(178, 218)}:
        words += ["--resize", "celeba", "--resolution", str(_SIDES[0])]
    elif len(looked.sizes) > 1:
        shortest = min(map(min, looked.sizes))
        side = next(side for side in _SIDES if side <= shortest)
        words += ["--resize", "center-crop-dhariwal", "--resolution", str(side)]
    if config.channels != "as-is":
        words += ["--channels", config.channels]
    elif len(looked.modes) > 1 or not looked.modes.keys() <= {"L", "RGB"}:
        words += ["--channels", "rgb"]
    words += ["--on-corrupt", "skip"] if looked.corrupt else []
    return shlex.join(words)
