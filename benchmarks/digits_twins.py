"""Small twins of the recipes on scikit-learn's digits: trains each by its commands, scores its samples, draws them.

    python benchmarks/digits_twins.py --out twins                       # all; the same command again goes on
    python benchmarks/digits_twins.py --out twins --twins edm ect       # some

It prints a table, and writes OUT/twins.png: the first 64 samples of each, from the same noise.
"""

import argparse
import json
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from postmean.base.cores import usable_cores
from postmean.base.files import write_file
from postmean.contract.image_store import ImageStore
from postmean.demo.digits import write_digits
from postmean.report.frechet import RandomFeatures, frechet
from postmean.report.nearest import nearest_differences
from postmean.training.images import ImageFolder, grid_of
from postmean.training.presets import PRESETS

TWINS = ("edm", "edm2", "flow", "ct", "ict", "ect", "scm", "meanflow")
BEGINS_WITH = {"ect": "edm"}
"""Twin -> the one whose weights it begins with, as its authors begin with EDM's."""
COUNT = 1000
"""Samples that are scored: a Heun sampler's 35 evaluations for each are a part of the cost."""
SHOWN, COLUMNS, PANELS, TITLE = 64, 8, 3, 14


def commands(twin: str) -> Iterator[tuple[str, ...]]:
    """The commands of a twin, to be run in the folder --out."""
    yield ("generate", f"{twin}-digits", "--store", "digits.store", "--out", f"{twin}.targets")
    begin = ("--init", f"{BEGINS_WITH[twin]}.model") if twin in BEGINS_WITH else ()
    paths = ("--targets", f"{twin}.targets", "--store", "digits.store", "--out", f"{twin}.model")
    yield ("train", f"{twin}-digits", *paths, *begin)
    yield ("sample", f"{twin}.model", "--out", f"{twin}.images", "--count", str(COUNT))


def run(out: Path, command: tuple[str, ...]) -> dict[str, float]:
    """Seconds that a command took; it is not run again if it has ended once."""
    record = out / f"{'-'.join(command[:2])}.json"
    if record.exists() and json.loads(record.read_bytes())["command"] == list(command):
        return json.loads(record.read_bytes())
    print(f"$ postmean {shlex.join(command)}", flush=True)
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "postmean.cli.main", *command, "--quiet"], cwd=out, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"seconds": time.monotonic() - began, "processor_seconds": processor, "command": list(command)}
    write_file(record, json.dumps(found).encode())
    return found


def prepare(out: Path) -> np.ndarray:
    """Make the store of digits; returns them, uint8 [n, 1, 8, 8]."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "digits").is_dir():
        write_digits(out / "digits")
    run(out, ("import", "digits", "digits.store"))
    run(out, ("index", "digits.store"))
    return np.array(ImageStore.open(out / "digits.store").images)


def samples(folder: Path) -> np.ndarray:
    """The images that a twin drew, uint8 [n, 1, 8, 8]."""
    images = ImageFolder(folder)
    return np.stack([images[number] for number in range(len(images))])


def scores(pixels: np.ndarray, digits: np.ndarray, same: bool = False) -> tuple[float, float]:
    """Fréchet distance by random features, and root mean squared difference to the nearest digit in [-1, 1].

    Args:
        same: whether the pixels are digits too, which are not their own nearest.
    """
    a, b = (images.reshape(len(images), -1) / 127.5 - 1 for images in (pixels, digits))
    features = RandomFeatures(b.shape[1])
    return frechet(features(a), features(b)), float(nearest_differences(a, [b])[int(same)].mean())


def picture(path: Path, panels: dict[str, np.ndarray]) -> None:
    """The first images of each as a grid under its name."""
    sheets = {name: grid_of(pixels[:SHOWN], COLUMNS)[0, ::2, ::2] for name, pixels in panels.items()}
    side = len(next(iter(sheets.values())))
    wide, high = side + 8, side + TITLE + 8
    page = Image.new("L", (PANELS * wide, -(-len(sheets) // PANELS) * high), 255)
    draw = ImageDraw.Draw(page)
    for number, (name, sheet) in enumerate(sheets.items()):
        left, top = number % PANELS * wide + 4, number // PANELS * high
        draw.text((left, top + 1), name, fill=0)
        page.paste(Image.fromarray(sheet), (left, top + TITLE))
    page.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("twins-out"))
    parser.add_argument("--twins", nargs="+", choices=TWINS, default=TWINS)
    options = parser.parse_args()
    out = options.out.resolve()
    digits, panels, rows = prepare(out), {}, []
    for twin in (name for name in TWINS if name in options.twins):
        generate, train, _ = (run(out, command) for command in commands(twin))
        panels[f"{twin}-digits"] = samples(out / f"{twin}.images")
        config = PRESETS[f"{twin}-digits"]
        found = scores(panels[f"{twin}-digits"], digits)
        minutes = (train["seconds"] / 60, train["processor_seconds"] / 60)
        rows.append((f"{twin}-digits", config.steps, config.batch_size, generate["seconds"] / 60, *minutes, *found))
    panels["digits"] = digits[:: len(digits) // SHOWN]
    picture(out / "twins.png", panels)
    print(f"\n{usable_cores()} cores; samples: {COUNT} each\n")
    print("| preset | steps × batch | generate, min | train, min | train, min of a core | Fréchet | nearest digit |")
    print("|---|---|---|---|---|---|---|")
    for name, steps, batch, *numbers in rows:
        print(f"| {name} | {steps} × {batch} | {' | '.join(f'{number:.3g}' for number in numbers)} |")
    half = scores(digits[::2], digits[1::2])
    print(f"| half of the digits against the other | | | | | {half[0]:.2g} | {scores(digits, digits, True)[1]:.3g} |")


if __name__ == "__main__":
    main()
