"""From an encoded image to pixels of one shape: the only code that checks and converts them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from postmean.base.errors import DataError
from postmean.base.extras import needs
from postmean.importers.config import Channels, OnCorrupt, Resize
from postmean.importers.layouts.layout import Item

with needs("generate"):
    from PIL import Image

from postmean.importers.pixels.image_file import CorruptError, ImageFile, read_image
from postmean.importers.pixels.resize import WrongSizeError, pixels_between, resized

Shape = tuple[int, int, int]

_MODE_NAMES = {
    "P": "palette",
    "L": "grey",
    "RGB": "colour",
    "1": "black-and-white",
    "LA": "grey and alpha",
    "colour key": "partly transparent",
}
_CONVERTIBLE = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "16-bit", "colour key")


@dataclass(frozen=True, kw_only=True)
class PixelRule:
    """How an image becomes pixels. It is turned upright first, as its EXIF orientation says."""

    resize: Resize = "none"
    size: tuple[int, int] | None = None
    """Width and height for `resize`."""
    channels: Channels = "as-is"
    on_corrupt: OnCorrupt = "fail"


@dataclass(frozen=True)
class Decoded:
    """One decoded image, and what was done to it."""

    pixels: np.ndarray
    """uint8 [C, H, W]"""
    converted: bool
    resized: bool
    says: tuple[str, ...]
    """What the file says beside the pixels: keys of `image_file.NOTES`."""


@dataclass
class Batch:
    """Decoded images of consecutive items, in order."""

    pixels: np.ndarray
    """uint8 [n, C, H, W]"""
    labels: list[int | None]
    converted: int = 0
    resized: int = 0
    skipped: list[str] = field(default_factory=list)
    says: dict[str, list[str]] = field(default_factory=dict)
    """Key of `image_file.NOTES` -> the images whose files say so."""


def decode_batch(items: Sequence[Item], rule: PixelRule, expected: Shape) -> Batch:
    """Decode items to images of shape `expected`; see `decode`."""
    batch = Batch(np.empty((len(items), *expected), np.uint8), [])
    for item in items:
        decoded = decode(item, rule, expected)
        if decoded is None:
            batch.skipped.append(item.place)
            continue
        batch.pixels[len(batch.labels)] = decoded.pixels
        batch.labels.append(item.label)
        batch.converted += decoded.converted
        batch.resized += decoded.resized
        for key in decoded.says:
            batch.says.setdefault(key, []).append(item.place)
    batch.pixels = batch.pixels[: len(batch.labels)]
    return batch


def decode(item: Item, rule: PixelRule, expected: Shape | None) -> Decoded | None:
    """Decode one image; None if it is corrupt and `rule` says to skip corrupt images.

    Args:
        expected: C, H, W of the first image that could be decoded; None until there is one.
    Raises:
        DataError: the image has another shape or needs --channels, or is corrupt and must not be skipped.
    """
    try:
        file = _of_array(item.payload) if isinstance(item.payload, np.ndarray) else read_image(item.payload, item.name)
        _check(item.place, file, rule, expected)
        return _pixels(file, rule)
    except CorruptError as error:
        if rule.on_corrupt == "skip":
            return None
        raise DataError(f"{item.place}: corrupt image ({error}): replace it, or pass --on-corrupt skip") from error


def _of_array(planes: np.ndarray) -> ImageFile:
    image = Image.fromarray(planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0)))
    return ImageFile(image, image.mode, ())


def _check(place: str, file: ImageFile, rule: PixelRule, expected: Shape | None) -> None:
    """Raise DataError if the rule forbids this image's mode, or its channels or size differ from the first image's."""
    image, name = file.image, _MODE_NAMES.get(file.mode, file.mode)
    if file.mode not in _CONVERTIBLE:
        raise DataError(f"{place}: {name} image: convert it to 8-bit RGB or grey, or remove it")
    if rule.channels == "as-is":
        if file.mode not in ("L", "RGB"):
            raise DataError(
                f"{place}: {name} image, expected 8-bit RGB or grey: pass --channels rgb or --channels grey"
            )
        if expected and len(image.getbands()) != expected[0]:
            first = "grey" if expected[0] == 1 else "colour"
            raise DataError(f"{place}: {name} image, the first is {first}: pass --channels rgb or --channels grey")
    if expected and rule.resize == "none" and image.size != (expected[2], expected[1]):
        raise DataError(
            f"{place}: {image.width}x{image.height} pixels, the first image is {expected[2]}x{expected[1]}: "
            f"pass --resize center-crop --resolution {min(expected[1:])}, or remove it"
        )
    if rule.size is not None:
        between = pixels_between(image.size, rule.resize, rule.size)
        if between > (Image.MAX_IMAGE_PIXELS or between):
            raise CorruptError(f"{image.width}x{image.height} pixels, too narrow for --resize {rule.resize}")


def _pixels(file: ImageFile, rule: PixelRule) -> Decoded:
    image = file.image
    wanted = {"as-is": file.mode, "rgb": "RGB", "grey": "L"}[rule.channels]
    if file.mode != wanted:
        image = _convert(image, wanted)
    # the others leave an image of the right size as it is
    resize = rule.size is not None and (image.size != rule.size or rule.resize in ("center-crop-wide", "celeba"))
    if resize and rule.size is not None:
        try:
            image = resized(image, rule.resize, rule.size)
        except WrongSizeError as error:
            raise CorruptError(f"{error}, for --resize {rule.resize}") from error
    array = np.asarray(image)
    planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return Decoded(planes, file.mode != wanted, resize, file.says)


def _convert(image: Image.Image, wanted: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: keep the high byte, as Pillow does for colour; Pillow would clip
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("P", "PA"):  # transparency may be a table, which only RGBA can represent
        image = image.convert("RGBA")
    return image.convert(wanted)
