"""Choice of the layout of a source."""

from contextlib import ExitStack

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.base.progress import NoProgress, ShowProgress
from postmean.importers.files.archives import is_archive
from postmean.importers.files.opened import OpenedArchives
from postmean.importers.files.source import Source
from postmean.importers.layouts import KINDS, layout_class
from postmean.importers.layouts.layout import Layout, Wanted
from postmean.importers.notes import listed
from postmean.importers.pixels.suffixes import is_unread_image


def recognised(
    source: Source, kind: str, stack: ExitStack, progress: ShowProgress = NoProgress
) -> tuple[type[Layout], Source]:
    """The layout of a source, and the source as that layout reads it.

    Archives in the source are opened if nothing else in it is a data set.

    Args:
        kind: its name, or auto to choose by the files.
        stack: closes what is opened.
    Raises:
        DataError: the source is empty or of unknown layout, or an archive in it is damaged.
    """
    if not source.names:
        but = f", but for hidden {listed(source.hidden)}" if source.hidden else ""
        raise DataError(f"{source.path}: no files in it{but}: pass the folder or archive that holds the images")
    kinds = KINDS if kind == "auto" else (kind,)
    inner = source
    for name in kinds:
        if (layout := layout_class(name)).found_in(inner):
            return layout, inner
    if any(map(is_archive, inner.names)):
        inner = stack.enter_context(OpenedArchives(inner, progress))
        for name in kinds:
            if (layout := layout_class(name)).found_in(inner):
                return layout, inner
    if kind != "auto":
        return layout_class(kind), inner
    if source.single:
        raise DataError(f"{source.path}: neither a folder nor a tar or zip archive, nor a file of images that is read")
    raise DataError(
        f"{source.path}: unknown layout, {len(inner.names)} files such as {printable(inner.names[0])}: "
        "expected class folders of images such as .jpg and .png, or one of the layouts in docs/importing.md"
    )


def open_layout(
    source: Source, kind: str, wanted: Wanted, stack: ExitStack, progress: ShowProgress = NoProgress
) -> Layout:
    """The layout of this kind, opened; auto chooses by the files in the source.

    Raises:
        DataError: see `recognised`; or the source holds images that are not read, or the layout refuses it.
    """
    found, inner = recognised(source, kind, stack, progress)
    layout = found(inner, wanted)  # type: ignore[call-arg]
    layout.hidden = inner.hidden
    for name in layout.ignored:
        if is_unread_image(name):
            raise DataError(
                f"{inner.place(name)}: an image of a format that is not read: convert it to PNG, or remove it"
            )
    if wanted.label is not None and not layout.label_choices:
        raise DataError(f"{source.path}: no choice of labels in it: leave out --label {printable(wanted.label)}")
    return layout
