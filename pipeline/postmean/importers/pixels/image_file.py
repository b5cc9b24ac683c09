"""An image file: its pixels upright, its kind of pixels, and what it says that the store does not keep."""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from functools import cache

from postmean.base.extras import needs
from postmean.base.one_line import brief
from postmean.importers import limits
from postmean.importers.pixels.suffixes import formats_of
from postmean.importers.pixels.whole import damage

with needs("generate"):
    from PIL import ExifTags, Image, ImageOps

NOTES = {
    "turned": "turned upright, as their EXIF orientation says",
    "exif": "with EXIF data that cannot be read: taken as upright",
    "frames": "of several frames or pages: the first is read",
    "profile": "with a colour profile other than sRGB, which is not applied",
    "alpha": "with transparency, which is not kept",
    "deep": "of 16 bits a channel, of which the upper 8 are kept",
}
"""What a file can say beside its pixels -> how a note goes on after `n images`."""

_DAMAGE = (
    *(OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, EOFError, AttributeError, OverflowError),
    *(MemoryError, RuntimeError, AssertionError, ZeroDivisionError, struct.error, zlib.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
_TRANSPARENT = ("RGBA", "RGBa", "LA", "La", "PA")
_SRGB = (b"sRGB", "sRGB".encode("utf-16-be"))


class CorruptError(Exception):
    """An image that cannot be decoded, or is too large."""


@dataclass(frozen=True)
class ImageFile:
    """A decoded image file."""

    image: Image.Image
    """Upright."""
    mode: str
    """Pillow's mode; 16-bit, 32-bit or colour key where Pillow's mode hides it."""
    says: tuple[str, ...]
    """Keys of NOTES."""


def read_image(payload: bytes, name: str = "") -> ImageFile:
    """Decode an image file.

    Args:
        name: its name, whose suffix says which of the formats without a mark it may have.

    Raises:
        CorruptError: it is of no format that is read, damaged, cut off or too large.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata, in several lines
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return _read(payload, _formats(name))
        except Image.UnidentifiedImageError as error:
            raise CorruptError(f"none of {', '.join(_formats(name))}") from error
        except _DAMAGE as error:
            raise CorruptError(brief(error)) from error


def _read(payload: bytes, formats: tuple[str, ...]) -> ImageFile:
    image = Image.open(io.BytesIO(payload), formats=formats)
    if max(image.size) > limits.MAX_SIDE:
        raise CorruptError(f"{image.width}x{image.height} pixels, more than {limits.MAX_SIDE:,} on a side")
    if (what := damage(payload, image.format)) is not None:
        raise CorruptError(what)
    mode = _mode(image, payload)
    says = ["frames"] if getattr(image, "is_animated", False) else []
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and not any(name in profile for name in _SRGB):
        says.append("profile")
    if mode in _TRANSPARENT or "transparency" in image.info:
        says.append("alpha")
    if mode == "16-bit":
        says.append("deep")
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    except _DAMAGE:
        says.append("exif")
        image.load()
        return ImageFile(image, mode, tuple(says))
    image.load()
    if turned:
        says.append("turned")
        image = ImageOps.exif_transpose(image)  # Pillow has turned a TIFF already: then this changes nothing
    return ImageFile(image, mode, tuple(says))


def _mode(image: Image.Image, payload: bytes) -> str:
    """Pillow's mode, or what it hides: that a channel had more than 8 bits, or that one colour is transparent."""
    bits = 8
    if image.format == "PNG":
        bits = payload[24]
    elif image.format == "TIFF":
        depth = image.tag_v2.get(258, (8,))  # type: ignore[attr-defined]
        bits = max(depth if isinstance(depth, tuple) else (depth,))
    elif image.format == "PPM":
        arguments = image.tile[0].args  # type: ignore[attr-defined]
        largest = arguments[1] if isinstance(arguments, tuple) and len(arguments) > 1 else 255
        bits = 16 if isinstance(largest, int) and largest > 255 else 8
    if image.mode == "F" or bits > 16:
        return "32-bit"
    if bits > 8 or image.mode.startswith("I"):
        return "16-bit"
    return "colour key" if image.mode in ("L", "RGB") and "transparency" in image.info else image.mode


def _formats(name: str) -> tuple[str, ...]:
    _load_plugins()
    return tuple(form for form in formats_of(name) if form in Image.OPEN)


@cache
def _load_plugins() -> None:
    Image.init()
