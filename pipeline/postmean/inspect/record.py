"""What a record holds: its tuple, its mean, and the images that the mean is made of."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from postmean.base.errors import ShardError
from postmean.base.files import write_file
from postmean.base.paths import local_path
from postmean.contract.image_store import ImageStore, to_pixels
from postmean.contract.manifest import Manifest
from postmean.contract.noisy import noisy, noisy_pixels
from postmean.contract.plan import shard_tuples
from postmean.contract.records import Means
from postmean.estimators.float64 import posterior_weights
from postmean.shards.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """An image of a mean."""

    weight: float
    entry: int
    """Of the data set: the image, or N + the image if it is flipped."""
    image: int
    flipped: bool
    label: str | None


@dataclass(frozen=True, kw_only=True)
class RecordView:
    """A record."""

    path: str
    """Of the run."""
    record: int
    shard: int
    tuple_id: int
    sigma: float
    sigma_next: float | None
    source: Neighbour
    """The image that z was made from, with its weight in the mean."""
    ess: float
    top_weight: float
    variance: float
    tail_mass: float
    support_size: int
    stored: str
    """sparse: entries and weights, which the neighbours are; dense: pixels, and the neighbours are computed exactly."""
    neighbours: list[Neighbour]
    """Heaviest images, heaviest first."""
    mse_of_source: float
    """Mean squared difference of the mean and the source image, per dimension."""
    arrays: dict[str, np.ndarray] = field(repr=False)
    """x, z and mean, float32 [C, H, W]; entry and weight of the neighbours."""


def inspect_record(run: RunFolder, store: ImageStore, record: int, count: int) -> RecordView:
    """Look at a record.

    Args:
        record: its number in the run, from 0.
        count: neighbours to show.
    Raises:
        ShardError: there is no such record, or its shard is missing or damaged.
        MismatchError: the run was made from another store.
    """
    manifest, plan = run.read_manifest(), run.read_plan()
    manifest.check_store(store.header.fingerprint, run.url)
    manifest.check_tuples(run.url)
    ends = np.cumsum(plan.records)
    if record >= plan.total_records:
        raise ShardError(f"{run.url}: --record {record}: the run has records 0..{plan.total_records - 1}")
    shard = int(np.searchsorted(ends, record, side="right"))
    row = record - int(ends[shard] - plan.records[shard])
    one = run.read_shard(shard).slice(row, row + 1)
    certificate = manifest.plan_certificate(run.read_certified_sigma())
    block = shard_tuples(manifest.tuple_source(), plan[shard], certificate).select(np.array([row]))
    x, _, z = (values[0] for values in noisy(manifest.tuple_source(), store, block))
    mean = one.mean.decode(store)[0]
    entry, weight = _weights(manifest, store, one.mean, z, block.entry, block.sigma)
    order = np.lexsort((entry, -weight))
    of_source = float(weight[entry == block.entry[0]].sum())
    heaviest = order[:count]
    return RecordView(
        path=run.url,
        record=record,
        shard=shard,
        tuple_id=int(block.tuple_id[0]),
        sigma=float(block.sigma[0]),
        sigma_next=None if block.sigma_next is None else float(block.sigma_next[0]),
        source=_neighbour(store, int(block.entry[0]), of_source),
        ess=float(one.ess[0]),
        top_weight=float(one.top_weight[0]),
        variance=float(one.variance[0]),
        tail_mass=float(one.tail_mass[0]),
        support_size=int(one.support_size[0]),
        stored="sparse" if one.mean.count[0] >= 0 else "dense",
        neighbours=[_neighbour(store, int(entry[i]), float(weight[i])) for i in heaviest],
        mse_of_source=float(np.square(mean - x).mean()),
        arrays={"x": x, "z": z, "mean": mean, "entry": entry[heaviest], "weight": weight[heaviest]},
    )


def _weights(
    manifest: Manifest, store: ImageStore, mean: Means, z: np.ndarray, source: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Entries and weights: those that are stored, or for a dense mean the exact ones of all members."""
    if mean.count[0] >= 0:
        return mean.entry.astype(np.int64), mean.weight
    entries = np.arange(manifest.tuple_source().entries)
    labels = store.label(entries)
    if manifest.recipe.conditional and labels is not None:
        entries = entries[labels == labels[source[0]]]
    return entries, posterior_weights(store, entries, z.reshape(1, -1), sigma)[0]


def _neighbour(store: ImageStore, entry: int, weight: float) -> Neighbour:
    label = store.label(np.array([entry]))
    names = store.header.class_names or ()
    image, flipped = entry % len(store), entry >= len(store)
    name = None if label is None else names[int(label[0])]
    return Neighbour(weight=weight, entry=entry, image=image, flipped=flipped, label=name)


def draw_record(view: RecordView, store: ImageStore, path: Path) -> None:
    """Draw x, z, the mean and its heaviest images; z is scaled by 1 / (1 + 2 sigma), so that it can be seen."""
    from postmean.inspect.picture import Tile, draw

    x, z, mean = (view.arrays[name] for name in ("x", "z", "mean"))
    tiles = [
        Tile(to_pixels(x), ["x", f"image {view.source.image}{' flipped' * view.source.flipped}"]),
        Tile(noisy_pixels(z, view.sigma), ["z, scaled", f"sigma {view.sigma:.4g}"]),
        Tile(to_pixels(mean), ["mean", f"ESS {view.ess:.3g}"]),
    ]
    for each in view.neighbours:
        pixels = store.pixels(np.array([each.entry]))[0]
        tiles.append(Tile(pixels, [f"weight {each.weight:.3g}", f"image {each.image}{' flipped' * each.flipped}"]))
    draw(tiles, path)


def save_record(view: RecordView, path: Path) -> None:
    """Write the arrays as a .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **view.arrays)  # type: ignore[arg-type]
    write_file(local_path(path), buffer.getvalue())
