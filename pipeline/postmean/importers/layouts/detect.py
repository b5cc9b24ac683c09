"""Choice of the importer for a source."""

from collections.abc import Callable

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.importers.config import Kind, Split
from postmean.importers.files.source import Source
from postmean.importers.layouts.celeba import CelebA
from postmean.importers.layouts.cifar_batches import CifarBatches
from postmean.importers.layouts.class_folders import ClassFolders
from postmean.importers.layouts.edm_zip import EdmZip
from postmean.importers.layouts.layout import Importer
from postmean.importers.layouts.tiny_imagenet import TinyImageNet
from postmean.importers.layouts.webdataset_samples import WebDatasetSamples
from postmean.importers.notes import listed
from postmean.importers.pixels.suffixes import is_image, is_unread_image

_BY_CONTENT = (CifarBatches, EdmZip, TinyImageNet, CelebA, WebDatasetSamples)
"""Layouts that show themselves, in the order in which they are looked for; class folders show nothing."""
_IMPORTERS: dict[str, Callable[[Source, Split], Importer]] = {
    importer.kind: importer for importer in (*_BY_CONTENT, ClassFolders)
}


def open_importer(source: Source, kind: Kind, split: Split) -> Importer:
    """The importer of this kind; auto chooses by the files in the source.

    Raises:
        DataError: the source is empty or of unknown layout, holds images that are not read, or the importer refuses it.
    """
    importer = _IMPORTERS[_detect(source) if kind == "auto" else kind](source, split)
    for name in importer.ignored:
        if is_unread_image(name):
            raise DataError(
                f"{source.place(name)}: an image of a format that is not read: convert it to PNG, or remove it"
            )
    return importer


def _detect(source: Source) -> str:
    if not source.names:
        but = f", but for hidden {listed(source.hidden)}" if source.hidden else ""
        raise DataError(f"{source.path}: empty{but}: check the path")
    for importer in _BY_CONTENT:
        if importer.found_in(source):
            return importer.kind
    if any(map(is_image, source.names)):
        return ClassFolders.kind
    raise DataError(
        f"{source.path}: unknown layout, {len(source.names)} files such as {printable(source.names[0])}: "
        "expected class folders of images such as .jpg and .png, CIFAR-10 python batches, a WebDataset tar, CelebA, "
        "Tiny ImageNet, or an EDM zip with dataset.json"
    )
