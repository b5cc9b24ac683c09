"""The nearest other image of a few images: the self-join knows their distances, not which images these are."""

from dataclasses import dataclass

import numpy as np

from postmean.base.progress import ShowProgress
from postmean.contract.image_store import ImageStore
from postmean.neighbours.self_join import SelfJoin

_ROWS = 2048  # images compared at a time


@dataclass(frozen=True, kw_only=True)
class Partner:
    """An image and its nearest other member."""

    image: int
    entry: int
    """Of the data set: an entry >= N is a flipped image."""
    rms: float
    """Root mean square difference, in grey levels."""


def find_partners(store: ImageStore, join: SelfJoin, images: list[int], progress: ShowProgress) -> list[Partner]:
    """The partners of these images, in their order. Reads the store until all are found."""
    wanted = {image: int(join.distance2[image, 0]) for image in images}
    found: dict[int, Partner] = {}
    queries = store.pixels(np.array(images)).reshape(len(images), -1).astype(np.float64)
    with progress("near duplicates", len(store), "images") as line:
        for start in range(0, len(store), _ROWS):
            if len(found) == len(images):
                break
            rows = np.arange(start, min(start + _ROWS, len(store)))
            for half in range(2 if join.header.flips else 1):
                entries = rows + half * len(store)
                tile = store.pixels(entries).reshape(len(rows), -1).astype(np.float64)
                # sums of products of bytes are exact in float64
                norms = np.square(queries).sum(1)[:, None] + np.square(tile).sum(1)
                squared = norms - 2 * (queries @ tile.T)
                for query, image in enumerate(images):
                    hits = entries[squared[query] == wanted[image]]
                    hits = hits[hits != image]
                    if join.header.conditional and store.labels is not None:
                        hits = hits[store.labels[hits % len(store)] == store.labels[image]]
                    if len(hits) and image not in found:
                        rms = float(np.sqrt(wanted[image] / store.dim))
                        found[image] = Partner(image=image, entry=int(hits[0]), rms=rms)
            line.update(int(rows[-1]) + 1)
    return [found[image] for image in images if image in found]
