"""The layouts, one file each. A new one is a file and a row here."""

from importlib import import_module

_ROWS = {
    "cifar": "cifar_batches.CifarBatches",
    "cifar-binary": "cifar_binary.CifarBinary",
    "imagenet-batches": "imagenet_batches.ImageNetBatches",
    "mnist": "mnist_idx.MnistIdx",
    "parquet": "parquet.Parquet",
    "arrow": "arrow.Arrow",
    "edm": "edm_zip.EdmZip",
    "tiny-imagenet": "tiny_imagenet.TinyImageNet",
    "celeba": "celeba.CelebA",
    "webdataset": "webdataset_samples.WebDatasetSamples",
    "ilsvrc": "ilsvrc.Ilsvrc",
    "arrays": "arrays.Arrays",
    "adm": "adm_names.AdmNames",
    "flat": "flat.Flat",
    "folders": "class_folders.ClassFolders",
}
"""Kind -> its class, in the order in which they are looked for: those that show themselves first."""

KINDS = tuple(_ROWS)


def layout_class(kind: str) -> "type":
    """The `Layout` of a kind."""
    module, _, name = _ROWS[kind].partition(".")
    return getattr(import_module(f"{__name__}.{module}"), name)
