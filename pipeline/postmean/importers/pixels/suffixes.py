"""Which files are images, by the ends of their names."""

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k"),
    "AVIF": (".avif",),
}
"""Pillow's name of a format that is read -> its suffixes."""

_READ = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
_UNREAD = (
    *(".heic", ".heif", ".hif", ".jxl", ".jxr", ".psd", ".svg", ".tga", ".pcx", ".qoi", ".exr"),
    *(".dds", ".ras", ".sgi", ".xbm", ".xpm", ".eps", ".fits", ".dcm", ".mng", ".jls", ".bpg"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
)


def is_image(name: str) -> bool:
    """Whether the file's suffix is that of an image which is read."""
    return name.lower().endswith(_READ)


def is_unread_image(name: str) -> bool:
    """Whether the file's suffix is that of an image which is not read."""
    return name.lower().endswith(_UNREAD)
