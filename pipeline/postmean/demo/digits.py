"""scikit-learn's digits as a class folder of grey PNG files: real images inside a dependency."""

from pathlib import Path

import numpy as np

from postmean.base.extras import needs
from postmean.base.files import move_into_place, temporary_folder


def write_digits(folder: Path) -> None:
    """Write the 1 797 digits of 8x8 pixels as FOLDER/<class>/<number>.png; the folder appears whole or not at all."""
    with needs("demo"):
        from PIL import Image
        from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    pixels = np.rint(values * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)  # values are 0..16
    with temporary_folder(folder) as temporary:
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            path = temporary / str(label) / f"{number:04d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(path)
        move_into_place(temporary, folder)
