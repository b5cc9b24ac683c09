"""Labels of WebDataset shards are those that the webdataset library wrote and reads."""

import json

import numpy as np
import pytest
import webdataset
from PIL import Image

from tests.support.image_files import encoded, make_source, png, random_images
from tests.support.imports import imported, refused_import

IMAGES = random_images(5, (8, 8, 3))
LABELS = [2, 0, 1, 1, 2]
KEYS = ["", "shard0/", "images/train/", "a/b/c/"]


def written(path, samples, **options):
    with webdataset.TarWriter(str(path), **options) as sink:
        for sample in samples:
            sink.write(sample)
    return path


def samples(folder="", **members):
    """Samples with an image each; a member is a list of values, one for each sample."""
    for i, image in enumerate(IMAGES):
        more = {name: values[i] for name, values in members.items()}
        yield {"__key__": f"{folder}{i:06}", "png": png(image)} | more


def refused(tmp_path, source, message, **settings):
    with refused_import(tmp_path, message):
        imported(tmp_path, source, **settings)


def as_webdataset_reads(path, image, label):
    """Pixels and label of each sample, by webdataset itself."""
    dataset = webdataset.WebDataset(str(path), shardshuffle=False).decode("rgb8").to_tuple("__key__", image, label)
    found = sorted(dataset, key=lambda sample: sample[0])
    return np.stack([pixels for _, pixels, _ in found]).transpose(0, 3, 1, 2), [label for _, _, label in found]


@pytest.mark.parametrize("folder", KEYS)
@pytest.mark.parametrize("compress", [False, True])
def test_cls_labels_are_those_that_webdataset_reads(tmp_path, folder, compress):
    path = tmp_path / ("x.tar.gz" if compress else "x.tar")
    written(path, samples(folder, cls=LABELS), compress=compress)
    store = imported(tmp_path, path)
    images, labels = as_webdataset_reads(path, "png", "cls")
    assert labels == LABELS
    assert np.array_equal(store.images, images)
    assert store.labels is not None
    assert store.labels.tolist() == labels
    assert store.header.class_names == ("0", "1", "2")
    assert (store.header.source["importer"], store.header.source["notes"]) == ("webdataset", [])


@pytest.mark.parametrize("field", ["label", "cls", "class", "target", "class_id"])
@pytest.mark.parametrize("folder", KEYS)
def test_json_labels_are_kept_and_the_other_fields_are_named(tmp_path, field, folder):
    described = [{field: label, "caption": "x", "url": "y"} for label in LABELS]
    path = written(tmp_path / "x.tar", samples(folder, json=described))
    store = imported(tmp_path, path)
    _, fields = as_webdataset_reads(path, "png", "json")
    assert store.labels is not None
    assert store.labels.tolist() == [sample[field] for sample in fields]
    note = "fields of .json members that are not kept: caption (5), url (5)"
    assert store.header.source["notes"] == [note]


def test_cls_comes_before_json_and_captions_are_named(tmp_path):
    described = [{"label": 9, "size": 1}] * 5
    path = written(tmp_path / "x.tar", samples(cls=LABELS, json=described, txt=["a cat"] * 5))
    store = imported(tmp_path, path)
    assert store.labels is not None
    assert store.labels.tolist() == LABELS
    assert store.header.source["notes"] == [
        "fields of .json members that are not kept: label (5), size (5)",
        "5 .txt files are not read, such as 000000.txt",
    ]
    assert store.header.source["ignored"] == 5


@pytest.mark.parametrize("member", ["cls", "json"])
def test_names_of_classes_are_numbered_in_sorted_order(tmp_path, member):
    names = ["dog", "ant", "cat", "cat", "dog"]
    values = [name.encode() for name in names] if member == "cls" else [{"label": name} for name in names]
    store = imported(tmp_path, written(tmp_path / "x.tar", samples(**{member: values})))
    assert store.labels is not None
    assert store.labels.tolist() == LABELS
    assert store.header.class_names == ("ant", "cat", "dog")


@pytest.mark.parametrize("folder", ["", "shard0/"])
@pytest.mark.parametrize("members", [{"txt": ["a cat"] * 5}, {"json": [{"url": "x"}] * 5}])
def test_samples_without_labels_have_no_class_and_say_so(tmp_path, folder, members):
    store = imported(tmp_path, written(tmp_path / "x.tar", samples(folder, **members)))
    assert store.labels is None
    assert "no labels: no sample has a .cls, or a .json with one" in store.header.source["notes"]
    assert len(store.header.source["notes"]) == 2


@pytest.mark.parametrize("member", ["class", "label", "target", "cls.txt"])
def test_other_names_of_label_members(tmp_path, member):
    files = {
        f"shard0/{i:06}.{ext}": data
        for i in range(5)
        for ext, data in (("JPG", png(IMAGES[i])), (member, b"%d\n" % LABELS[i]))
    }
    store = imported(tmp_path, make_source(tmp_path, "tar", files))
    assert store.labels is not None
    assert store.labels.tolist() == LABELS


def test_members_that_are_no_labels_make_no_class(tmp_path):
    path = written(tmp_path / "x.tar", samples("shard0/", pth=[b"x"] * 5))
    store = imported(tmp_path, path)
    assert store.labels is None
    assert store.header.source["notes"][1] == "5 .pth files are not read, such as shard0/000000.pth"


def test_class_folders_in_a_tar_stay_class_folders(tmp_path):
    files = {
        f"{c}/{i}.{ext}": png(IMAGES[0]) if ext == "png" else b"x" for c in "ab" for i in "01" for ext in ("png", "txt")
    }
    store = imported(tmp_path, make_source(tmp_path, "tar", files))
    assert store.header.class_names == ("a", "b")
    assert store.header.source["notes"] == ["4 .txt files are not read, such as a/0.txt"]


def test_unpacked_shards_are_read_too(tmp_path):
    files = {
        f"shard0/{i:06}.{ext}": data
        for i in range(5)
        for ext, data in (("jpg", png(IMAGES[i])), ("cls", b"%d" % LABELS[i]))
    }
    store = imported(tmp_path, make_source(tmp_path, "folder", files))
    assert store.labels is not None
    assert store.labels.tolist() == LABELS


def test_the_image_is_the_one_without_a_further_name(tmp_path):
    masks = [png(image[::-1]) for image in IMAGES]
    path = written(tmp_path / "x.tar", samples(**{"mask.png": masks, "cls": LABELS}))
    store = imported(tmp_path, path)
    assert np.array_equal(store.images, IMAGES.transpose(0, 3, 1, 2))
    assert store.header.source["notes"] == ["5 .mask.png files are not read, such as 000000.mask.png"]


def test_a_single_image_may_have_a_further_name(tmp_path):
    path = written(
        tmp_path / "x.tar", [{"__key__": "0", "input.webp": encoded(Image.fromarray(IMAGES[0]), "WEBP"), "cls": 0}]
    )
    assert len(imported(tmp_path, path)) == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", r"000003\.png in .*: label '' in \.cls and \.json members: expected 0, 1, 2"),
        (b"-1", r"label -1"),
        (b"1.0", r"label '1\.0'"),
        (b"nan", r"label 'nan'"),
        (b"None", r"label 'None'"),
        (b"[0, 1]", r"label '\[0, 1\]'"),
        (b"10000000000", r"label 10000000000, the last of"),
        (b"9" * 5000, r"label '9+\.\.\.9+'"),
        (b"cat", r"labels of different kinds"),
        (b"two\nlines \xff", r"labels of different kinds"),
    ],
)
def test_cls_that_is_no_class_is_refused(tmp_path, value, message):
    values = [b"0", b"1", b"2", value, b"1"]
    refused(tmp_path, written(tmp_path / "x.tar", samples(cls=values)), message)


@pytest.mark.parametrize(
    "label", [None, 1.5, float("nan"), True, -1, 10**30, [[0, 1]], {"a": 1}, "", "1.5"], ids=json.dumps
)
def test_json_label_that_is_no_class_is_refused(tmp_path, label):
    path = written(tmp_path / "x.tar", samples(json=[{"label": label}] * 5))
    refused(tmp_path, path, r"000000\.png in .*label")


def test_labels_must_be_complete(tmp_path):
    rows = list(samples(cls=LABELS))
    del rows[3]["cls"]
    refused(tmp_path, written(tmp_path / "x.tar", rows), r"000003\.png in .*: no label beside it, as others have")
    rows = list(samples(cls=LABELS))
    del rows[3]["png"]
    refused(tmp_path, written(tmp_path / "y.tar", rows), r"000003\.cls in .*: a label without an image")
    rows = list(samples(cls=LABELS, jpg=[png(image) for image in IMAGES]))
    refused(tmp_path, written(tmp_path / "z.tar", rows), r"000000\.\w+ in .*: a second image of sample '000000'")


def test_json_that_is_none_is_refused_and_splits_too(tmp_path):
    path = written(tmp_path / "x.tar", samples(cls=LABELS, json=[b"{"] * 5))
    refused(tmp_path, path, r"000000\.json in .*: expected an object, got no JSON")
    path = written(tmp_path / "y.tar", samples(cls=LABELS))
    refused(tmp_path, path, r"WebDataset shards have no splits: leave out --split val", split="val")


def test_forcing_another_layout_says_what_it_drops(tmp_path):
    path = written(tmp_path / "x.tar", samples(cls=LABELS))
    store = imported(tmp_path, path, kind="edm")
    assert store.labels is None
    assert "5 .cls files are not read, such as 000000.cls" in store.header.source["notes"]
