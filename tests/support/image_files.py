"""Real image files and archives for the importer tests."""

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FORMS = ("folder", "tar", "tar.gz", "tar.xz", "tar.bz2", "zip")


def random_images(count: int, shape: tuple[int, ...] = (5, 6, 3), seed: int = 0) -> np.ndarray:
    """uint8 [count, H, W, C] or [count, H, W]"""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def png(image: Any, **options: Any) -> bytes:
    """An array or Pillow image as a PNG file."""
    return encoded(image, "PNG", **options)


def encoded(image: Any, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, form, **options)
    return file.getvalue()


def class_files(images: np.ndarray, classes: tuple[str, ...] = ("cat", "dog", "ant")) -> dict[str, bytes]:
    """Path -> PNG: images dealt to the classes in turn."""
    return {f"{classes[i % len(classes)]}/{i:04d}.png": png(image) for i, image in enumerate(images)}


def make_source(folder: Path, form: str, files: dict[str, bytes]) -> Path:
    """A folder or archive with these files, members in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("source" if form == "folder" else f"source.{form}")
    if form == "folder":
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    elif form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, f"w:{form.partition('.')[2]}") as tar:  # type: ignore[call-overload]
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def planes(images: np.ndarray) -> np.ndarray:
    """Images [n, H, W, C] or [n, H, W] in the layout of a store, [n, C, H, W]."""
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
