"""Is it worth it? Trainings on usual targets, STF, knn-snis and exact means, compared over seeds.

    python benchmarks/evidence --out evidence-out                 # digits: 155 trainings, 16 s of a core each
    python benchmarks/evidence --out evidence-out --data cifar10.store --parts targets --seeds 5

Each training is a cell, kept as JSON in OUT/cells: the same command goes on where it was stopped. It then writes
tables, pictures and Parquet files to --page (default OUT/page).
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when numpy is loaded: threads of BLAS would wait for each other

import torch
from cells import Cell, wanted
from data import cifar16, digits
from measures import Measures
from page import write_page

from postmean.base.progress import Progress
from training import gradient_trace, make_tuples, train, with_target

WATCHED = (0.4, 0.6, 0.8, 1.0)
"""Shares of the steps after which samples are drawn."""
PARTS = ("targets", "noise", "dial", "sweep", "distillation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("evidence-out"))
    parser.add_argument("--page", type=Path, help="folder of the tables and pictures; default OUT/page")
    parser.add_argument("--data", default="digits", help="digits, or a CIFAR-10 store (taken grey at 16x16)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--page-only", action="store_true", help="compute nothing: write the page of what is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    name = "digits" if options.data == "digits" else "cifar16"
    cells = wanted(name, options.seeds, options.steps, tuple(options.parts))
    missing = [cell for cell in cells if cell.read(options.out) is None]
    if missing and not options.page_only:
        data = digits() if name == "digits" else cifar16(Path(options.data))
        measures = Measures(data)
        Cell(data=name, recipe="real", target="real", seed=0).write(options.out, measures.of_real_images())
        with Progress("evidence", len(cells), "trainings") as line:
            line.start_at(len(cells) - len(missing))
            for done, cell in enumerate(missing, len(cells) - len(missing) + 1):
                if cell.read(options.out) is None:  # another process of this job may have made it meanwhile
                    cell.write(options.out, run(cell, measures))
                line.update(done, f"{cell.recipe}, {cell.label}, seed {cell.seed}")
    write_page(options.out, options.page or options.out / "page", name, cells)


def run(cell: Cell, measures: Measures) -> dict:
    """Train a cell and measure it; seconds are those of a core."""
    began = time.process_time()
    tuples = make_tuples(measures.data, cell)
    batch = with_target(measures.data, tuples, cell)
    target_seconds, config = time.process_time() - began, tuples.config
    is_consistency, is_student = config.loss.is_consistency, cell.noise == "8 4 2 1"
    path: list[dict] = []
    found: dict = {"target_seconds": target_seconds, "path": path}

    def watch(step: int, denoiser, average) -> None:
        if step in {round(share * cell.steps) for share in WATCHED}:
            quality = measures.quality(measures.samples(average, is_consistency or is_student))
            path.append({"step": step, **quality})
        if step == round(0.4 * cell.steps):  # of every target's own network, on the same tuples
            found["gradient_trace"] = gradient_trace(config, denoiser, batch, cell.batch, 100)
        if step == cell.steps and not is_student:  # which knows few levels
            found["errors"] = measures.errors(average, is_consistency)
            if not is_consistency:
                found["held_out"] = measures.held_out_errors(average)

    train(measures.data, config, batch, cell, watch)
    return found | {"seconds": time.process_time() - began}


if __name__ == "__main__":
    main()
