"""The page of an image store: classes, near duplicates, certified sigmas, and the oddest images."""

from typing import Any

import numpy as np

from postmean.base.errors import DataError
from postmean.base.progress import NoProgress, ShowProgress, byte_size
from postmean.contract.image_store import ImageStore
from postmean.neighbours.certificate import certified_sigma
from postmean.neighbours.self_join import SelfJoin
from postmean.pages import charts
from postmean.pages.page import Card, Chart, Page, Picture, Section, Table
from postmean.pages.partners import Partner, find_partners
from postmean.pages.pictures import png_of

_MOST_BARS = 20
_PAIRS = 12
_NEAR = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Root mean square differences, in grey levels of 0 to 255, up to which images are counted as alike."""
_NOT_THERE = np.iinfo(np.int32).max


def store_page(store: ImageStore, tolerance: float, progress: ShowProgress = NoProgress) -> Page:
    """The page of a store.

    Args:
        tolerance: mean squared error per dimension of the certified sigmas.
        progress: shows the search for the partners of near duplicates, which reads all images once.
    Raises:
        DataError: an image that is shown is damaged.
    """
    join = _join_of(store)
    sections = [_images(store), _classes(store)]
    if join is None:
        text = f"The self-join knows them: run `postmean index {store.where}`."
        sections.append(Section(title="Near duplicates, certified σ and the oddest images", text=text))
    else:
        sections += [_certified(store, join, tolerance), *_neighbours(store, join, progress)]
    return Page(
        title=store.where,
        state="indexed" if join is not None else "not indexed",
        sections=[section for section in sections if section is not None],
        footer=f"Fingerprint {store.header.fingerprint}",
    )


def _join_of(store: ImageStore) -> SelfJoin | None:
    """The first self-join that is there, of all images rather than of classes, without flips rather than with."""
    for conditional in (False, True):
        for flips in (False, True):
            try:
                return SelfJoin.load(store, flips, conditional)
            except DataError:
                continue
    return None


def _images(store: ImageStore) -> Section:
    n, c, h, w = store.header.shape
    facts = [
        ("images", f"{n:,}"),
        ("size", f"{w} × {h}, {c} channel{'s' if c > 1 else ''}"),
        ("classes", f"{store.classes:,}" if store.classes else "no labels"),
        ("bytes", byte_size(n * store.dim)),
    ]
    facts += [(name.replace("_", " "), _plain(value)) for name, value in store.header.source.items()]
    return Section(title="Images", facts=[fact for fact in facts if fact[1]])


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "; ".join(map(_plain, value))
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    return f"{value:,}" if type(value) is int else "" if value is None else str(value)


def _classes(store: ImageStore) -> Section | None:
    if store.labels is None or store.header.class_names is None:
        return None
    names, counts = store.header.class_names, np.bincount(store.labels, minlength=store.classes)
    few, many = f"{counts.min():,}", f"{counts.max():,}"
    text = f"{few} to {many} images each, {np.median(counts):,g} in the median."
    if few == many:
        text = f"{few} images each."
    order = np.argsort(-counts, kind="stable")
    if len(names) <= _MOST_BARS:
        chart = charts.bars(names, counts.tolist())
        return Section(title="Classes", text=text, charts=[Chart(svg=chart, title="Images of each class", alt=text)])
    shown = [*order[:5].tolist(), *order[-5:].tolist()]
    return Section(
        title="Classes",
        text=f"{len(names):,} classes. {text}",
        table=Table(heads=["largest and smallest", "images"], rows=[[names[i], f"{counts[i]:,}"] for i in shown]),
        charts=[Chart(svg=charts.histogram(counts, "images of a class"), title="Sizes of classes", alt=text)],
    )


def _certified(store: ImageStore, join: SelfJoin, tolerance: float) -> Section:
    sigma = certified_sigma(join, tolerance, store.dim)
    low, middle, high = np.quantile(sigma, [0.01, 0.5, 0.99])
    kind = "of one class" if join.header.conditional else "of all images"
    kind += ", with flips" if join.header.flips else ""
    text = f"Up to its certified σ an image is its own mean, within {tolerance:g} (posteriors {kind})."
    finite = sigma[np.isfinite(sigma)]
    alt = f"1 % are below {low:.3g}, half below {middle:.3g}, 99 % below {high:.3g}."
    drawn = [Chart(svg=charts.histogram(finite, "certified σ", log_x=True), title="Images by certified σ", alt=alt)]
    facts = [("1 % below", f"{low:.3g}"), ("median", f"{middle:.3g}"), ("99 % below", f"{high:.3g}")]
    return Section(title="Certified σ", text=text, facts=facts, charts=drawn)


def _neighbours(store: ImageStore, join: SelfJoin, progress: ShowProgress) -> list[Section]:
    """Near duplicates, and the images farthest from all others."""
    squared = join.distance2[:, 0]
    there = np.flatnonzero(squared != _NOT_THERE)
    if not len(there):
        return []
    rms = np.sqrt(squared[there] / store.dim)
    order = there[np.argsort(squared[there], kind="stable")]
    partners = find_partners(store, join, _of_different_pairs(store, squared, order), progress)
    rows = [[f"at most {limit:g}" if limit else "identical", f"{(rms <= limit).sum():,}"] for limit in _NEAR]
    alt = f"From {rms.min():.3g} to {rms.max():.3g} grey levels, {np.median(rms):.3g} in the median."
    apart = order[::-1][:_PAIRS]
    return [
        Section(
            title="Near duplicates",
            text="The difference of an image from its nearest other image"
            + (" or flipped image, its own included" if join.header.flips else "")
            + ", root mean square over its values, in grey levels of 0 to 255.",
            table=Table(heads=["difference", "images"], rows=rows),
            charts=[Chart(svg=charts.histogram(rms, "grey levels"), title="Images by nearest difference", alt=alt)],
            cards=[_pair(store, partner) for partner in partners],
        ),
        Section(
            title="The oddest images",
            text="Those farthest from all others; above each, its difference from the nearest.",
            cards=[_alone(store, int(image), float(np.sqrt(squared[image] / store.dim))) for image in apart],
        ),
    ]


def _of_different_pairs(store: ImageStore, squared: np.ndarray, order: np.ndarray) -> list[int]:
    """The images of smallest difference, one of each pair: the two of a pair have the same difference."""
    chosen: list[int] = []
    for image in order[: 4 * _PAIRS].tolist():
        if len(chosen) < _PAIRS and not any(squared[image] == squared[other] for other in chosen[-1:]):
            chosen.append(image)
    if not chosen or squared[chosen[0]] == 0:  # many identical images: show several pairs of them
        same = order[: 4 * _PAIRS : 2].tolist()
        chosen = [*dict.fromkeys([*same[: _PAIRS // 2], *chosen])][:_PAIRS]
    return chosen


def _pair(store: ImageStore, partner: Partner) -> Card:
    pictures = [_picture(store, entry) for entry in (partner.image, partner.entry)]
    return Card(title=f"difference {partner.rms:.3g}", pictures=pictures)


def _alone(store: ImageStore, image: int, rms: float) -> Card:
    return Card(title=f"{rms:.3g}", pictures=[_picture(store, image)])


def _picture(store: ImageStore, entry: int) -> Picture:
    image = entry % len(store)
    name = f"{image:,}" + (", flipped" if entry >= len(store) else "")
    if store.labels is not None and store.header.class_names is not None:
        name += f", {store.header.class_names[int(store.labels[image])]}"
    return Picture(png=png_of(store.pixels(np.array([entry]))[0]), name=name)
