"""What `postmean inspect` shows is what plain readers and brute force find."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from postmean.cli.main import run as postmean
from postmean.contract.image_store import ImageStore, StoreWriter
from postmean.contract.presets import PRESETS
from postmean.contract.tuples import TupleSource
from postmean.inspect.picture import Tile, draw, drawable
from postmean.inspect.record import inspect_record
from postmean.inspect.store import draw_store
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from tests.support.runs import assert_one_line, make_by_hand
from tests.support.settings import generate_config


def shown(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert postmean("inspect", [*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_store_is_what_its_arrays_are(store: ImageStore, tmp_path: Path, capsys) -> None:
    found = shown(capsys, store.path, f"--picture={tmp_path}/s.png")
    images, labels = (np.load(store.path / f"{name}.npy") for name in ("images", "labels"))
    assert (found["images"], *found["shape"]) == images.shape
    assert found["bytes"] == images.nbytes
    counts = np.unique(labels, return_counts=True)[1].tolist()
    assert list(found["class_counts"].values()) == counts
    assert set(found["indexes"]) >= {"self-join.npz", "self-join-flips-conditional.npz"}
    assert Image.open(tmp_path / "s.png").size[0] > 8 * 100
    assert postmean("inspect", [str(store.path)]) == 0
    assert not re.search(r"None|\[|\]", capsys.readouterr().out)


def test_a_run_and_a_shard_are_what_the_files_say(finished: Path, capsys) -> None:
    run, manifest = shown(capsys, finished), json.loads((finished / "manifest.json").read_text())
    assert run["manifest"].items() <= manifest.items()
    assert (run["shards"], run["committed"]) == (6, 6)
    commit = json.loads((finished / "commits/000002.json").read_text())
    for words in ([finished, "--shard=2"], [finished / "shards/000002.tar"]):
        shard = shown(capsys, *words)
        assert (shard["records"], shard["first_record"]) == (commit["records"], 128)
        assert shard["files"] == {"shards/000002.tar": (finished / "shards/000002.tar").stat().st_size}
        assert shard["quantiles"]["ess"][0] >= 1


@pytest.mark.parametrize("conditional", [False, True])
def test_a_record_is_the_posterior_by_brute_force(store: ImageStore, tmp_path: Path, capsys, conditional: bool) -> None:
    """Heaviest images, their weights, the mean and the ESS, against a softmax in float64 over all entries."""
    flags = {
        "records_per_shard": 50,
        "estimator": "exact",
        "flips": True,
        "conditional": conditional,
        "max_support": 20,
    }
    run = make_by_hand(generate_config(store, tmp_path / "run", tuples=300, **flags))
    x = np.load(store.path / "images.npy") / 127.5 - 1
    x = np.concatenate([x, x[..., ::-1]]).reshape(2 * len(x), -1)
    labels = np.tile(np.load(store.path / "labels.npy"), 2)
    recipe = PRESETS["edm"].recipe
    source = TupleSource(seed=0, images=150, flips=True, noise=recipe.noise, process=recipe.process)
    stored = set()
    for record in (0, 49, 50, run.read_plan().total_records - 1):
        picture, arrays = tmp_path / "r.png", tmp_path / "r.npz"
        words = [
            f"--record={record}",
            f"--store={store.path}",
            "--neighbours=5",
            f"--picture={picture}",
            f"--save={arrays}",
        ]
        found = shown(capsys, tmp_path / "run", *words)
        block = source.block(found["tuple_id"], found["tuple_id"] + 1)
        entry, sigma = int(block.entry[0]), float(block.sigma[0])
        assert (found["source"]["entry"], found["sigma"]) == (entry, pytest.approx(sigma))
        z = x[entry] + sigma * source.eps(block.tuple_id, 64).astype(np.float64).ravel()
        log_weight = -np.square(x - z).sum(1) / (2 * sigma**2)
        log_weight[(labels != labels[entry]) & conditional] = -np.inf
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        heaviest = np.argsort(-weight, kind="stable")[: len(found["neighbours"])]
        got = [(each["image"] + 150 * each["flipped"], each["weight"]) for each in found["neighbours"]]
        assert [w for _, w in got] == pytest.approx(weight[heaviest].tolist(), abs=2e-5)
        assert all(weight[e] == pytest.approx(w, abs=2e-5) for e, w in got)
        assert found["ess"] == pytest.approx(1 / np.square(weight).sum(), rel=1e-3)
        with np.load(arrays, allow_pickle=False) as saved:
            assert saved["mean"].ravel() == pytest.approx(weight @ x, abs=1e-3)
            assert saved["z"].ravel() == pytest.approx(z, abs=1e-5)
        with Image.open(picture) as image:
            assert image.format == "PNG" and image.size[0] > 3 * 112
        stored.add(found["stored"])
    assert "sparse" in stored


def test_a_heun_record_and_its_store_by_name(store: ImageStore, tmp_path: Path, capsys) -> None:
    recipe = PRESETS["ict-digits"].recipe
    config = generate_config(store, tmp_path / "run", tuples=200, noise=recipe.noise, solver="heun", estimator="exact")
    run = make_by_hand(config)
    assert inspect_record(run, store, 3, 2).sigma_next is not None
    assert postmean("inspect", [str(tmp_path / "run"), "--record=3"]) == 2
    assert_one_line(capsys.readouterr().err, "it does not say where its image store is: pass --store")
    (tmp_path / "run/config.json").write_text(json.dumps({"store": "elsewhere.store"}))
    assert postmean("inspect", [str(tmp_path / "run"), "--record=3"]) == 2
    assert_one_line(capsys.readouterr().err, "image store elsewhere.store, which is not there: pass --store")
    (tmp_path / "run/config.json").write_text(json.dumps({"store": str(store.path)}))
    assert shown(capsys, tmp_path / "run", "--record=3")["record"] == 3


def test_what_cannot_be_shown_is_one_line(store: ImageStore, finished: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "x.tar").touch()
    for words, said in (
        ([tmp_path], "no store, run, shard or checkpoint: pass the folder of one"),
        ([finished, "--record=99999", f"--store={store.path}"], "--record 99999: the run has records 0.."),
        ([finished, "--shard=6"], "shard 6, the plan has 0..5"),
        ([finished, "--picture=p.png"], "--picture: there is a picture of a store, and of a record"),
        ([finished, "--shard=1", "--record=1"], "--shard, --record: pass one of them"),
        ([finished, "--save=a.npz"], "--save, --store: they are for --record"),
        ([store.path, "--record=1"], f"--shard, --record: they are for a run, {store.path} is an image store"),
        ([tmp_path / "x.tar"], "x.tar: not the name of a shard, such as shards/000003.tar"),
    ):
        assert postmean("inspect", [*map(str, words)]) == 2
        assert_one_line(capsys.readouterr().err, said)
    assert RunFolder(open_storage(finished)).has_manifest()


def test_captions_have_letters_that_can_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr("postmean.inspect.picture.draw", lambda tiles, path: drawn.extend(t.caption[0] for t in tiles))
    with StoreWriter(tmp_path / "named.store", ("Äpfel", "猫"), {}) as writer:
        writer.append(np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1]))
        draw_store(writer.finish(), tmp_path / "s.png")
    assert [drawable(text) for text in drawn] == ["Apfel", "class 1"]


def test_captions_of_narrow_images_are_cut(tmp_path: Path) -> None:
    draw([Tile(np.zeros((1, 200, 2), np.uint8), ["a caption"])], tmp_path / "narrow.png")
    assert (tmp_path / "narrow.png").stat().st_size > 0


def test_a_damaged_shard_is_refused(run: Path, capsys) -> None:
    file = run / "shards/000001.tar"
    data = bytearray(file.read_bytes())
    data[3000] ^= 1
    file.write_bytes(data)
    assert postmean("inspect", [str(file)]) == 2
    assert_one_line(capsys.readouterr().err, "000001.tar")
