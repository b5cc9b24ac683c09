"""`postmean import --list` says what a source is; its command makes the store."""

import io
import json
import shlex

import numpy as np
import pytest
from PIL import Image

from postmean.base.errors import DataError
from postmean.cli.main import run
from postmean.contract.image_store import ImageStore
from postmean.importers.config import ImportConfig
from postmean.importers.survey import survey_source
from tests.importers.test_import_layouts import LAYOUTS, NAMES, cifar_100_binary
from tests.support.image_files import encoded, make_source, png, random_images

IMAGES = random_images(8, (20, 20, 3))


def survey(source, **settings):
    return survey_source(ImportConfig(source=source, list=True, **settings))


@pytest.mark.parametrize(("write", "kind", "classes", "other"), LAYOUTS, ids=[row[0].__name__ for row in LAYOUTS])
def test_layout_splits_classes_sizes_and_channels(tmp_path, write, kind, classes, other):
    found = survey(write(tmp_path))
    assert found.kind == kind
    parts = {part.split: part for part in found.splits}
    assert {"train", other or "train"} <= parts.keys()
    assert parts["train"].images == 10
    assert (parts["train"].class_names or [])[: len(classes)] == classes
    assert (found.sampled, found.sizes, found.channels) == (10, {"32x32": 10}, {"RGB": 10})


def odd(tmp_path):
    """Photographs of several sizes and kinds, one of them turned, one cut off, and a file that is no image."""
    exif = Image.Exif()
    exif[0x112] = 6
    files = {f"val/{name}/{i}.png": png(IMAGES[i]) for i, name in enumerate(NAMES)}
    files["val/ant/turned.jpg"] = encoded(Image.fromarray(random_images(1, (40, 70, 3))[0]), "JPEG", exif=exif)
    files["val/ant/palette.png"] = png(Image.fromarray(IMAGES[0]).convert("P"))
    files["val/bee/cut.png"] = png(IMAGES[0])[:-40]
    files["val/bee/notes.txt"] = b"x"
    return make_source(tmp_path, "folder", files)


def test_oddities_and_the_command_that_reads_the_source(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = odd(tmp_path)
    assert run("import", ["--list", str(source)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{source}: class folders of images (--kind folders), 9 files"
    assert lines[1:3] == ["splits: val 8 images", "classes: 5: ant, bee, cat, dog, eel"]
    assert lines[3] == "sizes: 20x20 (6), 40x70 (1); channels: RGB (6), P (1); 7 images looked at"
    notes = [line for line in lines if line.startswith("note: ")]
    assert any("2 sizes among 7 images: 20x20 .. 40x70" in note for note in notes)
    assert any("1 of 7 images turned upright" in note for note in notes)
    assert any("corrupt: " in note and "cut.png" in note for note in notes)
    assert any("val/bee/notes.txt is not read" in note for note in notes)
    words = shlex.split(lines[-1])
    assert words[:2] == ["postmean", "import"]
    assert run("import", words[2:]) == 0
    store = ImageStore.open(tmp_path / "source.store")
    assert (len(store), store.image_shape) == (7, (3, 16, 16))


@pytest.mark.parametrize(("shortest", "side"), [(199, 64), (64, 64), (63, 48), (60, 48), (47, 32), (31, 24), (17, 16)])
def test_the_suggested_side_is_the_largest_usual_one_that_enlarges_no_image(tmp_path, shortest, side):
    sizes = [(shortest, 200, 3), (210, shortest + 1, 3)]
    files = {f"ant/{i}.png": png(random_images(1, size)[0]) for i, size in enumerate(sizes)}
    words = shlex.split(survey(make_source(tmp_path, "folder", files)).command)
    assert words[words.index("--resolution") + 1] == str(side)


def test_json_is_the_report(tmp_path, capsys):
    source = odd(tmp_path)
    assert run("import", ["--list", str(source), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert (plain["kind"], plain["splits"][0]["split"], plain["sizes"]) == ("folders", "val", {"20x20": 6, "40x70": 1})
    assert not list(tmp_path.glob("*.store"))


def test_labels_to_choose_from_are_listed(tmp_path):
    assert survey(cifar_100_binary(tmp_path)).labels == ["fine", "coarse"]


def test_a_source_that_cannot_be_read_is_refused_as_by_the_import(tmp_path):
    with pytest.raises(DataError, match=r"unknown layout"):
        survey(make_source(tmp_path, "zip", {"a.txt": b"x", "b.csv": b"x"}))
    with pytest.raises(DataError, match=r"label None in dataset\.json: expected 0, 1, 2"):
        labels = json.dumps({"labels": [["0.png", None]]}).encode()
        survey(make_source(tmp_path / "edm", "zip", {"0.png": png(IMAGES[0]), "dataset.json": labels}))


def test_latents_are_refused_with_the_remedy(tmp_path):
    file = io.BytesIO()
    np.save(file, np.zeros((8, 4, 4), np.float32))
    files = {"00000/img-mean-std-00000000.npy": file.getvalue(), "dataset.json": b'{"labels": null}'}
    with pytest.raises(DataError, match=r"img-mean-std-00000000\.npy in .*: latents of an autoencoder, not pixels"):
        survey(make_source(tmp_path, "zip", files))
