"""The cost of `postmean index`: its pairs of images times the measured cost of a pair."""

import time
from dataclasses import dataclass

from postmean.engine.population import Population
from postmean.engine.process_setup import threads
from postmean.neighbours.block_join import BlockJoin, Nearest
from postmean.planning.machines import Machines
from postmean.planning.measure import product_seconds
from postmean.planning.workload import Workload

_ROWS, _COLUMNS = 1024, 8192  # joined to measure: half a second for images of 64x64
_NEAREST = 64


@dataclass(frozen=True, kw_only=True)
class IndexCost:
    """Hours for the self-join of the planned data set, on all cores or GPUs together."""

    core_hours: float
    """0 on GPUs"""
    gpu_hours: float
    """0 on CPUs"""


def index_cost(work: Workload, machines: Machines | None) -> IndexCost:
    """Measure some pairs in this process, on one core or GPU, and extrapolate.

    Args:
        machines: where the index is made; None: here.
    """
    recipe, on_gpu = work.manifest.recipe, work.manifest.device == "cuda"
    halves, dim, rest = 2 if recipe.flips else 1, work.store.dim, 0.0
    with threads(1):
        seconds = _pair_seconds(work)
        if machines is not None and not on_gpu:
            # a log-weight takes the products of two bytes of z, a distance that of one
            rest = max(0.0, seconds - halves * product_seconds(work, _ROWS) / 2)
    if machines is not None:
        on_gpu = bool(machines.node.gpus)
        seconds = halves * machines.distance_seconds(dim) + rest * (not on_gpu)
    populations = work.classes if recipe.conditional else 1
    hours = seconds * work.images**2 / populations / 2 / 3600
    return IndexCost(core_hours=0.0 if on_gpu else hours, gpu_hours=hours if on_gpu else 0.0)


def _pair_seconds(work: Workload) -> float:
    """Seconds of one core, or of the GPU, that a pair of images takes here."""
    population = Population(work.store, work.manifest.recipe.flips, device=work.manifest.device, exact_products=True)
    images = len(work.store)
    rows = range(min(_ROWS, max(1, images // 48 * 16)))
    columns = range(rows.stop, min(rows.stop + _COLUMNS, images)) if images > rows.stop else rows
    fastest = float("inf")
    for _ in range(2):
        near = [(part, Nearest(len(part), min(_NEAREST, len(columns)), population.device)) for part in (rows, columns)]
        join = BlockJoin(population, *near)
        began = time.perf_counter()
        join.run()
        _ = near[0][1].distance2.cpu()  # a GPU has finished then
        fastest = min(fastest, time.perf_counter() - began)
    return fastest / (len(rows) * len(columns))
