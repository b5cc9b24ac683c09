"""The bounds on what a source may cost, in time, depth and memory: whatever is beyond them is refused by one line.

Two bounds are other libraries': Pillow refuses images of more than 89 million pixels (`Image.MAX_IMAGE_PIXELS`), and
Python JSON and pickles that nest deeper than its recursion limit, some 1 000 levels.
"""

MAX_FILES = 2**24
"""Most files and folders below a folder, or in an archive."""

MAX_NAME_BYTES = 4096
"""Longest path of a file in a source, as on Linux."""

MAX_MEMBER_BYTES = 2**28
"""Largest file that is read, so that one member of a compressed archive cannot fill the memory."""

MAX_PICKLE_BYTES = 2**32
"""Largest pickle: it is read into memory. ImageNet-64 has batches of 1.6 GB."""

MAX_TAR_HEADER_BYTES = 2**16
"""Most bytes that describe one member of a tar: its header, long name and extended attributes."""

SPOOL_BYTES = 2**30
"""Members of a compressed tar are held in memory up to this total size, above it in an unnamed temporary file."""

COPY_BYTES = 2**24
"""Copies of archives and tables inside other archives are held in memory up to this size each."""

MAX_DEPTH = 3
"""Archives in archives in archives are opened."""

OPEN_ARCHIVES = 400
"""Archives of one source that are open at once: each may hold a file."""

MAX_SIDE = 2**15
"""Longest side of an image, in pixels."""

MAX_SCANS = 200
"""Most scans of a JPEG, each as much work as the whole image; others have ten."""

MAX_JSON_VALUES = 2**24
"""Most values in a JSON file: Python takes some 100 bytes for each."""

NAMES_KEPT = 1000
"""Most names of skipped images kept in the header."""

NAMES_SAID = 20
"""Most names in one line of a note."""


def most_unpacked(packed: int) -> int:
    """Most bytes that an archive of `packed` bytes may hold: pixels do not compress to a two-hundredth."""
    return 2**30 + 200 * packed


def most_classes(images: int) -> int:
    """Most classes of so many images: a larger label is an identity number, not a class 0..n-1."""
    return max(2**16, images)
