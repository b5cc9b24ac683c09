"""Whether an encoded image is all there. Decoders fill what is missing with grey, black or noise and say nothing.

The tail of a file that was cut off on a network or a full disk is often zeros. JPEG, PNG and GIF end with a mark, and
PNG has checksums. WebP and AVIF have neither, but their compressed data never end in many zeros. BMP, PPM and
uncompressed TIFF cannot tell: there zeros are black pixels.
"""

import re
import zlib

from postmean.importers import limits

_JPEG_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)  # with a length behind it, or the end mark
_ZEROS = bytes(64)


def damage(payload: bytes, form: str | None) -> str | None:
    """What shows that an image is damaged or cut off; None if nothing does.

    Args:
        form: Pillow's name of the format.
    """
    if form in ("JPEG", "MPO"):
        return _jpeg_damage(payload)
    if form == "PNG":
        return _png_damage(payload)
    if form in ("WEBP", "AVIF") and payload.endswith(_ZEROS):
        return "ends in zeros: cut off"
    return None


def _jpeg_damage(payload: bytes) -> str | None:
    """A missing end mark behind the last scan, or scans without end. Marks of thumbnails, in segments, do not count."""
    at, scans = 2, 0
    while marker := _JPEG_MARKER.search(payload, at):
        code = marker[1][0]
        if code == 0xD9 and scans:
            return None
        scans += code == 0xDA
        if scans > limits.MAX_SCANS:
            return f"more than {limits.MAX_SCANS} scans"
        at = marker.end() + max(2, int.from_bytes(payload[marker.end() : marker.end() + 2]))
    return "no end mark: cut off"


def _png_damage(payload: bytes) -> str | None:
    """The first chunk that decides pixels and does not match its checksum, or a missing end."""
    view, at = memoryview(payload), 8
    while at + 12 <= len(view):
        stop = at + 8 + int.from_bytes(view[at : at + 4])
        kind = bytes(view[at + 4 : at + 8])
        decides = kind.isalpha() and kind[:1].isupper()
        if decides and zlib.crc32(view[at + 4 : stop]) != int.from_bytes(view[stop : stop + 4]):
            return f"chunk {kind.decode()} does not match its checksum"
        if kind == b"IEND":
            return None
        at = stop + 4
    return "no end mark: cut off"
