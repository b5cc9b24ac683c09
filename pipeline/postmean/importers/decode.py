"""From an encoded image to pixels: the only code that decodes, converts and resizes."""

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from postmean.base.errors import DataError
from postmean.base.extras import needs
from postmean.importers.config import Channels, OnCorrupt, Resize
from postmean.importers.importer import Item

with needs("generate"):
    from PIL import Image

Shape = tuple[int, int, int]

_MODE_NAMES = {"P": "palette", "L": "grey", "RGB": "colour", "1": "black-and-white", "LA": "grey and alpha"}
_DAMAGE = (OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, EOFError, struct.error, zlib.error)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True, kw_only=True)
class PixelRule:
    """How an image becomes pixels. EXIF rotation is ignored, as in torchvision and EDM."""

    resize: Resize = "none"
    resolution: int | None = None
    channels: Channels = "as-is"
    on_corrupt: OnCorrupt = "fail"


@dataclass(frozen=True)
class Decoded:
    """One decoded image, and what was done to it."""

    pixels: np.ndarray
    """uint8 [C, H, W]"""
    converted: bool
    resized: bool


@dataclass
class Batch:
    """Decoded images of consecutive items, in order."""

    pixels: np.ndarray
    """uint8 [n, C, H, W]"""
    labels: list[int | None]
    converted: int = 0
    resized: int = 0
    skipped: list[str] = field(default_factory=list)


class _CorruptError(Exception):
    """An image that cannot be decoded."""


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
        image, mode = _open(item.payload)
        _check(item.place, image, mode, rule, expected)
        return _decode(image, mode, rule)
    except _CorruptError as error:
        if rule.on_corrupt == "skip":
            return None
        raise DataError(f"{item.place}: corrupt image ({error}): replace it, or pass --on-corrupt skip") from error


def _open(payload: bytes | np.ndarray) -> tuple[Image.Image, str]:
    """The image, with pixels not yet decoded, and its mode: Pillow's, or 16-bit."""
    if isinstance(payload, np.ndarray):
        planes = payload[0] if len(payload) == 1 else np.ascontiguousarray(payload.transpose(1, 2, 0))
        image = Image.fromarray(planes)
        return image, image.mode
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(payload), formats=("JPEG", "PNG"))
    except Image.UnidentifiedImageError as error:
        raise _CorruptError("not a JPEG or PNG file") from error
    except (*_DAMAGE, *_BOMB) as error:
        raise _CorruptError(str(error)) from error
    # Pillow hides that a colour PNG has 16 bits per channel: byte 24 of the file is the bit depth
    return image, "16-bit" if image.format == "PNG" and payload[24] == 16 else image.mode


def _check(place: str, image: Image.Image, mode: str, rule: PixelRule, expected: Shape | None) -> None:
    """Raise DataError if the rule forbids this image's mode, or its channels or size differ from the first image's."""
    if rule.channels == "as-is":
        name = _MODE_NAMES.get(mode, mode)
        if mode not in ("L", "RGB"):
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


def _decode(image: Image.Image, mode: str, rule: PixelRule) -> Decoded:
    try:
        image.load()
    except _DAMAGE as error:
        raise _CorruptError(str(error)) from error
    wanted = {"as-is": mode, "rgb": "RGB", "grey": "L"}[rule.channels]
    if mode != wanted:
        image = _convert(image, wanted)
    before = image.size
    if rule.resolution is not None:
        crop = _center_crop if rule.resize == "center-crop" else _center_crop_dhariwal
        image = crop(image, rule.resolution)
    array = np.asarray(image)
    planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return Decoded(planes, mode != wanted, image.size != before)


def _convert(image: Image.Image, wanted: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: keep the high byte, as Pillow does for colour; Pillow would clip
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode == "P":  # transparency may be a table, which only RGBA can represent
        image = image.convert("RGBA")
    return image.convert(wanted)


def _center_crop(image: Image.Image, resolution: int) -> Image.Image:
    """The largest central square, scaled by Lanczos: EDM's `center-crop`."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS)


def _center_crop_dhariwal(image: Image.Image, resolution: int) -> Image.Image:
    """Halve by a box filter while at least twice too large, scale by bicubic, then crop: as in ADM and EDM2."""
    while min(image.size) >= 2 * resolution:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = resolution / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - resolution) // 2, (image.height - resolution) // 2
    return image.crop((left, top, left + resolution, top + resolution))
