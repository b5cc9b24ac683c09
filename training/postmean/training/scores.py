"""Scores of images in memory by torch-fidelity: the same numbers as from folders of PNGs.

FID: Heusel et al. 2017; Inception Score: Salimans et al. 2016; KID: Binkowski et al. 2018; precision and recall:
Kynkaanniemi et al. 2019, of Inception features as in Dhariwal & Nichol 2021. Niedoba et al. 2024, App. E evaluate
50 000 images against the training set with this package.
"""

import glob
import urllib.error
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from postmean.base.errors import ConfigError, DataError
from postmean.base.extras import needs
from postmean.base.files import file_sha256
from postmean.base.paths import local_path
from postmean.contract.image_store import ImageStore

EXTRACTOR = "inception-v3-compat"
WEIGHTS_FLAG = "--feature-extractor-weights"
LAYER = "2048"
"""Features of all scores but the Inception Score."""
_LOGITS = "logits_unbiased"
_MOST_NEIGHBOURS = 10_000
"""Images on each side of precision and recall: their cost grows with the square."""
_HASH = "6726825d"  # SHA-256 of torch-fidelity's weights begins with it


class Images(Protocol):
    """Anything with a length that gives uint8 [C, H, W] images."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What torch-fidelity measured."""

    images: int
    reference_images: int
    fid: float
    """Frechet Inception Distance to the store, >= 0, lower is better."""
    kid: float
    """Kernel Inception Distance to the store, lower is better, unbiased: about 0 for the same distribution."""
    precision: float
    """Share of the images near one of the store's, 0 to 1. It and recall depend on the number of images."""
    recall: float
    """Share of the store's images near one of the images, 0 to 1."""
    inception_score: float
    """>= 1, higher is better."""
    inception_score_std: float
    """Standard deviation over the splits."""
    weights_sha256: str
    """Of the feature extractor's weights; scores are comparable only with the same weights."""


def score(
    images: Images,
    store: ImageStore,
    device: torch.device,
    weights: Path | None = None,
    batch_size: int = 64,
    cache: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Scores:
    """FID and KID of the images against the whole store, their Inception Score, precision and recall.

    Precision and recall are of 10 000 images of each, or of all where there are fewer.

    Args:
        weights: Inception weights in torch-fidelity's format; None: downloaded once.
        cache: folder for the store's features; None: torch-fidelity's own. The entry's name contains the hashes
            of the store and of the weights.
        progress: called with the number of images done so far, including the store's; ends with all of them.
    Raises:
        ConfigError: the weights cannot be downloaded or read, or are not Inception's.
        DataError: there are fewer than two images, their size is not that of the store's images, or either is neither
            grey nor RGB.
    """
    with needs("evaluate"):
        import torch_fidelity  # noqa: F401

    if len(images) < 2:
        raise DataError(f"{len(images)} images: FID needs at least two, and is only comparable with thousands")
    if tuple(images[0].shape[1:]) != store.image_shape[1:]:
        raise DataError(f"images of {images[0].shape[1:]}, the store's are {store.image_shape[1:]}: pass its --store")
    for what, channels in (("images", images[0].shape[0]), (store.where, store.image_shape[0])):
        if channels not in (1, 3):
            raise DataError(f"{what}: {channels} channels: Inception takes grey (1) or RGB (3) images")
    path = weights or _downloaded_weights()
    digest = _check_weights(path)
    name = f"postmean-{store.header.fingerprint[:16]}-{digest[:16]}"
    folder = cache or _torch_hub().parent / "fidelity_cache"  # the default is torch-fidelity's own
    remove_damaged(folder, name)
    counter = _Counter(progress)
    settings: dict[str, Any] = dict(
        input1=_FidelityDataset(images, counter),
        input2=_FidelityDataset(_StoreImages(store), counter),
        input2_cache_name=name,
        cache_root=str(folder),
        cuda=device.type == "cuda",
        batch_size=batch_size,
        feature_extractor_weights_path=str(path),
        save_cpu_ram=True,  # no worker processes: the images are in memory already
        verbose=False,
    )
    try:
        measured = _measure(settings, len(images), len(store), name)
    except RuntimeError as error:
        if "state_dict" not in str(error):
            raise
        raise ConfigError(f"{WEIGHTS_FLAG} {path}: not the weights of torch-fidelity's Inception") from error
    progress(len(images) + len(store))  # features from the cache are done without being read
    return Scores(
        images=len(images),
        reference_images=len(store),
        fid=float(measured["frechet_inception_distance"]),
        kid=float(measured["kernel_inception_distance_mean"]),
        precision=float(measured["precision"]),
        recall=float(measured["recall"]),
        inception_score=float(measured["inception_score_mean"]),
        inception_score_std=float(measured["inception_score_std"]),
        weights_sha256=digest,
    )


def _measure(settings: dict[str, Any], images: int, references: int, name: str) -> dict[str, float]:
    """What `calculate_metrics` of torch-fidelity measures, but precision and recall of a part of the features."""
    from torch_fidelity.metric_fid import fid_featuresdict_to_statistics_cached, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_featuresdict_to_metric
    from torch_fidelity.metric_kid import kid_featuresdict_to_metric
    from torch_fidelity.metric_prc import prc_featuresdict_to_metric
    from torch_fidelity.utils import create_feature_extractor, extract_featuresdict_from_input_id_cached

    extractor = create_feature_extractor(EXTRACTOR, [LAYER, _LOGITS], **settings)
    ours, theirs = (extract_featuresdict_from_input_id_cached(which, extractor, **settings) for which in (1, 2))
    our_statistics, their_statistics = (
        fid_featuresdict_to_statistics_cached(features, cached, extractor, LAYER, **settings)
        for features, cached in ((ours, None), (theirs, name))
    )
    our_part, their_part = ({LAYER: _part(features[LAYER])} for features in (ours, theirs))
    fewest = min(images, references)
    return {
        **fid_statistics_to_metric(our_statistics, their_statistics, verbose=False),
        **isc_featuresdict_to_metric(ours, _LOGITS, isc_splits=min(10, images), **settings),
        **kid_featuresdict_to_metric(ours, theirs, LAYER, kid_subset_size=min(1000, fewest), **settings),
        **prc_featuresdict_to_metric(our_part, their_part, LAYER, prc_neighborhood=min(3, fewest - 1), **settings),
    }


def _part(features: torch.Tensor) -> torch.Tensor:
    if len(features) <= _MOST_NEIGHBOURS:
        return features
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(features))[:_MOST_NEIGHBOURS]
    return features[torch.from_numpy(np.sort(order))]


class ArrayImages:
    """Batches of uint8 [B, C, H, W] as one sequence of images."""

    def __init__(self, batches: Sequence[np.ndarray]) -> None:
        self._pixels = np.concatenate(list(batches))

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._pixels[index]


class _StoreImages:
    def __init__(self, store: ImageStore) -> None:
        self._images = store.images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array(self._images[index])


class _Counter:
    def __init__(self, progress: Callable[[int], None]) -> None:
        self._done, self._progress = 0, progress

    def one_more(self) -> None:
        self._done += 1
        self._progress(self._done)


class _FidelityDataset(Dataset):
    """uint8 tensors [3, H, W], as torch-fidelity expects; the grey channel is repeated three times."""

    def __init__(self, images: Images, counter: _Counter) -> None:
        self._images, self._counter = images, counter
        self._read = 0

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> torch.Tensor:
        if index >= self._read:  # torch-fidelity reads the first image once more, to look at it
            self._read = index + 1
            self._counter.one_more()
        pixels = torch.from_numpy(np.array(self._images[index]))
        return pixels.expand(3, -1, -1).contiguous() if pixels.shape[0] == 1 else pixels


def remove_damaged(cache: Path, name: str) -> None:
    """Remove the damaged ones of the cached features under a name: torch-fidelity computes them again.

    They are zip archives with a checksum of each part.
    """
    for path in cache.glob(f"{glob.escape(name)}-*.pt"):
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip() is not None
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
            damaged = True
        if damaged:
            path.unlink(missing_ok=True)


def _downloaded_weights() -> Path:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    folder = _torch_hub() / "checkpoints"
    path = folder / URL_INCEPTION_V3.rsplit("/", 1)[1]
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=_HASH, progress=False)
        except (urllib.error.URLError, OSError, RuntimeError) as error:  # RuntimeError: another hash
            reason = getattr(error, "reason", error)
            raise ConfigError(
                f"the Inception weights cannot be downloaded ({reason}): fetch {URL_INCEPTION_V3} on a machine with "
                f"internet and pass {WEIGHTS_FLAG} FILE"
            ) from error
    return path


def _torch_hub() -> Path:
    """Where torch keeps what it downloads; ConfigError without a home folder, where torch would make one named ~."""
    return local_path(torch.hub.get_dir())


def _check_weights(path: Path) -> str:
    """Check that the file holds nothing but tensors; returns its SHA-256."""
    try:
        # torch-fidelity unpickles the file without restrictions, so it only gets a file that loads with them
        torch.load(path, map_location="cpu", weights_only=True)
        return file_sha256(path)
    except Exception as error:  # torch.load raises many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{WEIGHTS_FLAG} {path}: {reason}: not a file of weights") from error
