"""FID and Inception Score through torch-fidelity, with random Inception weights from a file."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from postmean.training.evaluate import evaluate
from postmean.training.model.sampler_config import SamplerConfig
from postmean.training.sample_config import EvaluateConfig
from postmean.training.scores import ArrayImages, score
from tests.support.exact_runs import make_run
from tests.support.small_training import BATCH, CONFIG, train
from tests.support.stores import digits_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("weights") / "random.pth"
    empty = FeatureExtractorInceptionV3.__new__(FeatureExtractorInceptionV3)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        # its constructor builds the layers and then loads weights: stop it there to get the layers alone
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_, **__: None)
        patch.setattr(torch, "load", lambda *_, **__: {})
        FeatureExtractorInceptionV3.__init__(empty, "inception-v3-compat", ["2048"], "nowhere")
    for parameter in empty.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    torch.save(empty.state_dict(), path)
    return path


def test_scores_against_the_store_are_zero_for_itself_and_cached_under_its_hashes(
    weights: Path, tmp_path: Path
) -> None:
    store = digits_store(tmp_path / "store", 12, channels=3)
    cpu = torch.device("cpu")
    reads: list[int] = []
    same = score(ArrayImages([np.array(store.images)]), store, cpu, weights, 6, tmp_path / "c", reads.append)
    assert abs(same.fid) < 1e-2 * 12 and same.inception_score >= 1
    assert reads == [*range(1, 25), 24], "every image counts once"
    names = {p.name.split("-inception")[0] for p in (tmp_path / "c").iterdir()}
    assert names == {f"postmean-{store.header.fingerprint[:16]}-{same.weights_sha256[:16]}"}
    noise = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8), np.uint8)
    reads.clear()
    other = score(ArrayImages([noise]), store, cpu, weights, 6, tmp_path / "c", reads.append)
    assert reads == [*range(1, 13), 24], "the store's features come from the cache"
    assert other.fid > same.fid + 1e-3 and other.weights_sha256 == same.weights_sha256


def test_scores_are_those_of_torch_fidelity_s_own_entry(weights: Path, tmp_path: Path) -> None:
    from torch_fidelity import calculate_metrics

    from postmean.training.images import begin_folder, write_images

    store = digits_store(tmp_path / "store", 12, channels=3)
    pixels = np.random.default_rng(0).integers(0, 256, (14, 3, 8, 8), np.uint8)
    for name, images in (("ours", pixels), ("theirs", np.array(store.images))):
        begin_folder(tmp_path / name)
        write_images(tmp_path / name, images, range(len(images)))
    ours = score(ArrayImages([pixels]), store, torch.device("cpu"), weights, 6, tmp_path / "c")
    theirs = calculate_metrics(
        input1=str(tmp_path / "ours"),
        input2=str(tmp_path / "theirs"),
        **dict(fid=True, isc=True, kid=True, prc=True, kid_subset_size=12, isc_splits=10, batch_size=6),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(weights),
        cuda=False,
        cache=False,
        verbose=False,
    )
    expected = {
        "fid": theirs["frechet_inception_distance"],
        "kid": theirs["kernel_inception_distance_mean"],
        "precision": theirs["precision"],
        "recall": theirs["recall"],
        "inception_score": theirs["inception_score_mean"],
    }
    assert {name: getattr(ours, name) for name in expected} == pytest.approx(expected, rel=1e-5)


def test_folder_and_memory_give_the_same_numbers(weights: Path, tmp_path: Path) -> None:
    from postmean.training.images import ImageFolder, begin_folder, write_images

    store = digits_store(tmp_path / "store", 6)
    pixels = np.array(store.images)[::-1].copy()
    begin_folder(tmp_path / "images")
    write_images(tmp_path / "images", pixels, range(6))
    cpu = torch.device("cpu")
    a = score(ArrayImages([pixels]), store, cpu, weights, 3, tmp_path / "c")
    b = score(ImageFolder(tmp_path / "images"), store, cpu, weights, 3, tmp_path / "c")
    assert a == b


def test_a_damaged_cache_is_made_anew(weights: Path, tmp_path: Path) -> None:
    store = digits_store(tmp_path / "store", 6)
    images = ArrayImages([np.array(store.images)[::-1].copy()])
    cpu = torch.device("cpu")
    first = score(images, store, cpu, weights, 3, tmp_path / "c")
    for number, path in enumerate(sorted((tmp_path / "c").iterdir())):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data[: len(data) - 300 * (number % 2)]))
    assert score(images, store, cpu, weights, 3, tmp_path / "c") == first


def test_training_scores_what_evaluate_scores_and_marks_the_best(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    store = digits_store(tmp_path / "store", 12)
    make_run(tmp_path / "targets", store, 4 * BATCH, max_support=12)
    out, sampling = tmp_path / "out", SamplerConfig(steps=1)
    watch: dict[str, Any] = dict(score_kimg=2 * BATCH / 1000, score_images=6, model_precision="fp32")
    watch |= dict(feature_extractor_weights=weights, sampling=sampling, grid_kimg=0)
    train(replace(CONFIG, steps=4, log_every=3, checkpoint_every=4), tmp_path / "targets", store.path, out, **watch)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3, 4]
    scores = {line["step"]: line["scores"] for line in lines if "scores" in line}
    assert scores.keys() == {2, 4}
    best = min(scores, key=lambda step: scores[step]["fid"])
    assert (out / "best").resolve() == (out / "models" / f"{best:08d}").resolve()
    measured = evaluate(
        EvaluateConfig(
            checkpoint=out / "best", store=store.path, count=6, steps=1, feature_extractor_weights=weights, device="cpu"
        ),
        progress=False,
    )
    expected = {k: v if isinstance(v, str) else pytest.approx(v, rel=1e-6) for k, v in scores[best].items()}
    assert asdict(measured) == expected
