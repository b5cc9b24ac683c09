"""Choice of the importer for a source."""

from postmean.base.errors import DataError
from postmean.importers.cifar_batches import CifarBatches
from postmean.importers.class_folders import ClassFolders
from postmean.importers.config import Kind, Split
from postmean.importers.edm_zip import EdmZip
from postmean.importers.importer import Importer, is_image
from postmean.importers.sources import Source


def open_importer(source: Source, kind: Kind, split: Split) -> Importer:
    """The importer of this kind; auto chooses by the files in the source.

    Raises:
        DataError: the source is empty or of unknown layout, or the importer refuses it.
    """
    if kind == "auto":
        kind = _detect(source)
    if kind == "cifar":
        return CifarBatches(source, split)
    if kind == "edm":
        return EdmZip(source, split)
    return ClassFolders(source, split)


def _detect(source: Source) -> Kind:
    if not source.names:
        raise DataError(f"{source.path}: empty: check the path")
    if CifarBatches.found_in(source):
        return "cifar"
    if EdmZip.found_in(source):
        return "edm"
    if any(map(is_image, source.names)):
        return "folders"
    raise DataError(
        f"{source.path}: unknown layout, {len(source.names)} files such as {source.names[0]}: "
        "expected class folders of .jpg or .png images, CIFAR-10 python batches, or an EDM zip with dataset.json"
    )
