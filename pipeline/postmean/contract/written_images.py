"""A store of the images that a Python iterator yields."""

from collections.abc import Iterable, Sequence
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore, StoreWriter
from postmean.contract.planes import to_planes

_BATCH = 256
_ORIENTATION = 0x112
_MOST_CLASSES = 2**16


def write_images(
    path: Path | str, images: Iterable[tuple[Any, int | None]], class_names: Sequence[str] | None
) -> ImageStore:
    """See `ImageStore.write`."""
    iterator = enumerate(images)
    first = next(iterator, None)
    if first is None:
        raise DataError(f"{path}: the iterator yields no image")
    labelled = _pair(first)[1] is not None
    names = tuple(class_names or ()) if labelled else None
    largest, count = -1, 0
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    with StoreWriter(path, names, {"importer": "python"}) as writer:

        def flush() -> None:
            if pixels:
                writer.append(np.stack(pixels), np.array(labels, np.int64) if labelled else None)
                pixels.clear()
                labels.clear()

        pending = first
        while pending is not None:
            image, label = _pair(pending)
            count += 1
            planes = _planes(image, f"image {pending[0]}")
            if pixels and planes.shape != pixels[0].shape:
                raise DataError(
                    f"image {pending[0]}: shape {list(planes.shape)}, the one before {list(pixels[0].shape)}"
                )
            pixels.append(planes)
            if (label is not None) != labelled:
                raise DataError(f"image {pending[0]}: {'no label' if labelled else 'a label'}, unlike the first")
            if label is not None:
                labels.append(_integer(label, pending[0]))
                largest = max(largest, labels[-1])
            if len(pixels) == _BATCH:
                flush()
            pending = next(iterator, None)
        flush()
        if labelled and not class_names:
            if largest >= max(_MOST_CLASSES, count):
                raise DataError(f"label {largest}: more than {_MOST_CLASSES:,} classes: give labels 0, 1, 2, ...")
            writer.name_classes([str(number) for number in range(largest + 1)])
        return writer.finish()


def _pair(numbered: tuple[int, Any]) -> tuple[Any, Any]:
    number, pair = numbered
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataError(f"image {number}: expected a pair (image, label), got {type(pair).__name__}")
    return pair[0], pair[1]


def _planes(image: Any, place: str) -> np.ndarray:
    """uint8 [C, H, W]"""
    if hasattr(image, "getexif"):  # of Pillow
        if image.mode not in ("L", "RGB"):
            raise DataError(f'{place}: a Pillow image of mode {image.mode}: convert("RGB") or convert("L") it')
        if image.getexif().get(_ORIENTATION, 1) not in (0, 1):
            raise DataError(f"{place}: not upright, as its EXIF data say: pass it through PIL.ImageOps.exif_transpose")
    array = np.asarray(image)
    if array.ndim not in (2, 3):
        raise DataError(f"{place}: shape {list(array.shape)}, expected [H, W], [H, W, C] or [C, H, W]")
    return to_planes(array[None], place)[0]


def _integer(label: Any, number: int) -> int:
    try:
        value = index(label)
    except TypeError:
        value = index(label.item()) if hasattr(label, "item") and type(label.item()) is int else -1
    if isinstance(label, bool) or value < 0:
        raise DataError(f"image {number}: label {str(label)[:50]}: expected an integer 0, 1, 2, ...")
    return value
