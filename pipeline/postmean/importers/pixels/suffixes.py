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
"""Pillow's name of a format that shows itself by its first bytes -> its suffixes."""

NAMED_FORMATS = {
    "TGA": (".tga", ".targa", ".icb", ".vda", ".vst"),
    "PCX": (".pcx",),
    "DCX": (".dcx",),
    "SGI": (".sgi", ".bw", ".rgb", ".rgba"),
    "SUN": (".ras",),
    "QOI": (".qoi",),
    "PSD": (".psd",),
    "DDS": (".dds",),
    "ICO": (".ico",),
    "ICNS": (".icns",),
    "IM": (".im",),
    "MSP": (".msp",),
    "XBM": (".xbm",),
    "XPM": (".xpm",),
    "BLP": (".blp",),
    "FTEX": (".ftc", ".ftu"),
    "PIXAR": (".pxr",),
}
"""Formats that are read only from files of these suffixes: they have no mark of their own, or few use them.

Pillow has more: EPS runs another program, and HDF5, GRIB, BUFR and WMF are read by add-ons alone.
"""

_READ = tuple(suffix for suffixes in (FORMATS | NAMED_FORMATS).values() for suffix in suffixes)
_UNREAD = (
    *(".heic", ".heif", ".hif", ".jxl", ".jxr", ".svg", ".exr", ".eps", ".fits", ".fit", ".wmf", ".emf"),
    *(".dcm", ".mng", ".jls", ".bpg", ".fli", ".flc", ".xcf", ".cdr", ".ai"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
)


def formats_of(name: str) -> tuple[str, ...]:
    """Pillow's names of the formats that a file of this name may have."""
    small = name.lower()
    return (*FORMATS, *(form for form, suffixes in NAMED_FORMATS.items() if small.endswith(suffixes)))


def is_image(name: str) -> bool:
    """Whether the file's suffix is that of an image which is read."""
    return name.lower().endswith(_READ)


def is_unread_image(name: str) -> bool:
    """Whether the file's suffix is that of an image which is not read."""
    return name.lower().endswith(_UNREAD)
