"""What two cores carry of Niedoba et al. 2024, one command after the other, and a page of what came out.

    python benchmarks/paper.py --store cifar10.store --out paper-out [--store64 imagenet64.store]

Each command goes on where it was stopped, so this one does. `make paper STORE=cifar10.store` is the same.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """Figures or tables of the paper, and the command that makes them here."""

    what: str
    command: list[str]
    files: list[str]
    """Below OUT."""


def rows(store: Path, store64: Path | None, out: Path) -> list[Row]:
    python, postmean = sys.executable, [sys.executable, "-m", "postmean"]
    index = [*postmean, "index", str(store), "--index", "ivf256-sq8"]
    report = ["--index", "ivf256-sq8", "--nprobe", "28", "--points", "32", "--repeats", "4"]
    found = [
        Row("App. D.5, the index of the approximate search", index, []),
        Row(
            "Figures 2, 3, 6, 7, 8 and 12: errors of the estimators on CIFAR-10",
            [*postmean, "report", "estimators", str(store), "--out", str(out / "cifar10"), *report],
            [f"cifar10/{name}" for name in ("estimators.md", "estimators.svg", "search.svg", "images-1.png")],
        ),
        Row(
            "Figure 4, before training: errors of knn-snis over k and n",
            [*postmean, "study", str(store), "--out", str(out / "study")],
            ["study/study.md", "study/study.svg"],
        ),
        Row(
            "not in the paper: the loss floor",
            [*postmean, "floor", str(store), "--out", str(out / "floor")],
            ["floor/floor.svg", "floor/floor.parquet"],
        ),
        Row(
            "Tables 1 and 2, Figure 4, at the size of digits: usual targets, STF, knn-snis and exact means",
            [python, str(HERE / "evidence"), "--out", str(out / "evidence"), "--page", str(out / "evidence" / "page")],
            ["evidence/page/digits.md", "evidence/page/digits-errors.svg"],
        ),
    ]
    if store64 is not None:
        sigmas = ["2", "4", "5.6", "8", "11", "16", "22", "32", "45", "80"]
        command = [*postmean, "report", "estimators", str(store64), "--out", str(out / "64x64"), "--sigmas", *sigmas]
        found.append(Row("Figures 10 and 11, on your 64x64 images", [*command, *report[4:]], ["64x64/estimators.md"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True, help="CIFAR-10, made by `postmean import`")
    parser.add_argument("--store64", type=Path, help="images of 64x64")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--list", action="store_true", help="show the commands, and run none")
    options = parser.parse_args()
    lines = ["# The paper on this machine", "", "| in the paper | seconds | here | command |", "|---|---:|---|---|"]
    for row in rows(options.store, options.store64, options.out):
        shown = " ".join("python" if word == sys.executable else word for word in row.command)
        print(f"{row.what}\n  {shown}", flush=True)
        if options.list:
            continue
        began = time.monotonic()
        if subprocess.run(row.command).returncode:
            sys.exit(f"paper: failed: {shown}: the same command again goes on")
        links = ", ".join(f"[{name}]({name})" for name in row.files)
        lines.append(f"| {row.what} | {time.monotonic() - began:.0f} | {links} | `{shown}` |")
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "README.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
