"""Every bad source gives one line that names the file and the remedy, and leaves no store behind."""

import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore
from postmean.importers.config import ImportConfig
from postmean.importers.run import import_images
from tests.support.image_files import class_files, encoded, make_source, png, random_images

IMAGES = random_images(6)
FILES = class_files(IMAGES)
RGB = Image.fromarray(IMAGES[0])
GREY = random_images(1, (5, 6))[0]


def refused(source, folder, message, **settings):
    out = folder / "out"
    with pytest.raises(DataError, match=message) as caught:
        import_images(ImportConfig(source=source, store=out / "store", workers=1, **settings))
    assert "\n" not in str(caught.value)
    assert not out.exists() or not list(out.iterdir())


def test_wrong_path(tmp_path):
    refused(tmp_path / "nothing.tar", tmp_path, r"nothing\.tar: no such file or folder: check the path")


def test_empty_folder_and_empty_archives(tmp_path):
    for form in ("folder", "tar", "tar.gz", "zip"):
        source = make_source(tmp_path, form, {})
        source.mkdir(exist_ok=True) if form == "folder" else None
        refused(source, tmp_path, r"source[^:]*: no files in it: pass the folder or archive that holds the images$")


def test_empty_file(tmp_path):
    (tmp_path / "data.tar").touch()
    refused(tmp_path / "data.tar", tmp_path, r"data\.tar: empty file: copy or download it again")


@pytest.mark.parametrize("content", [b"hello", os.urandom(2000), png(IMAGES[0])])
def test_file_that_is_no_archive(tmp_path, content):
    (tmp_path / "data").write_bytes(content)
    refused(tmp_path / "data", tmp_path, r"data: neither a folder nor a tar or zip archive")


def test_unknown_layout(tmp_path):
    source = make_source(tmp_path, "zip", {"a/train.lmdb": b"x", "b.csv": b"x"})
    refused(source, tmp_path, r"source\.zip: unknown layout, 2 files such as a/train\.lmdb: expected class folders")


@pytest.mark.parametrize("form", ["tar", "tar.gz", "tar.xz", "tar.bz2", "zip"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.7, 0.99])
def test_truncated_archive(tmp_path, form, share):
    source = make_source(tmp_path, form, {n: os.urandom(700) for n in FILES})
    data = source.read_bytes()
    end = len(data) if form != "tar" else 1536 * len(FILES)  # only zeros follow
    source.write_bytes(data[: int(share * end)])
    refused(source, tmp_path, r"source\..*(truncated or damaged|neither a folder)")


def test_tar_cut_between_two_members(tmp_path):
    source = make_source(tmp_path, "tar", {n: png(np.zeros((2, 2, 3), np.uint8)) for n in FILES})
    source.write_bytes(source.read_bytes()[: 2 * 1024])
    refused(source, tmp_path, r"source\.tar: truncated or damaged tar \(no end mark\): copy or download it again")


@pytest.mark.parametrize("form", ["tar", "tar.gz"])
def test_tar_with_a_damaged_header(tmp_path, form):
    data = bytearray(make_source(tmp_path, "tar", {n: png(np.zeros((2, 2, 3), np.uint8)) for n in FILES}).read_bytes())
    data[3 * 1024 + 5] ^= 1  # the fourth header
    source = tmp_path / "bad.tar"
    source.write_bytes(data)
    if form == "tar.gz":
        import gzip

        source.write_bytes(gzip.compress(data))
    refused(source, tmp_path, r"bad\.tar: truncated or damaged tar \(damaged header\)")


def test_zip_member_with_a_wrong_checksum(tmp_path):
    source = make_source(tmp_path, "zip", FILES)
    data = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as archive:
        offset = archive.getinfo("dog/0001.png").header_offset
    data[offset + 70] ^= 1
    source.write_bytes(data)
    refused(source, tmp_path, r"dog/0001\.png in .*source\.zip: cannot be read \(Bad CRC-32")


def test_symbolic_link_in_a_tar(tmp_path):
    with tarfile.open(tmp_path / "data.tar", "w") as tar:
        member = tarfile.TarInfo("a/0.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    refused(tmp_path / "data.tar", tmp_path, r"a/0\.png in .*data\.tar: a link or sparse file: .*--dereference")


def test_folder_that_contains_itself(tmp_path):
    source = make_source(tmp_path, "folder", FILES)
    (source / "cat" / "again").symlink_to(source)
    refused(source, tmp_path, r"again: a symbolic link to a folder that it lies in")


def test_member_too_large_for_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("postmean.importers.limits.MAX_MEMBER_BYTES", 10_000)
    for form in ("folder", "tar", "tar.gz", "zip"):
        source = make_source(tmp_path, form, FILES | {"cat/big.png": bytes(20_000)})
        refused(source, tmp_path, r"big\.png.*: 20,000 bytes, too large for an image")


@pytest.mark.parametrize("form", ["folder", "tar.gz", "zip"])
@pytest.mark.parametrize("payload", [b"", b"not an image", FILES["dog/0001.png"][:-40], encoded(RGB, "TGA")])
def test_corrupt_image(tmp_path, form, payload):
    source = make_source(tmp_path, form, FILES | {"dog/0001.png": payload})
    refused(source, tmp_path, r"dog/0001\.png.*: corrupt image \(.+\): replace it, or pass --on-corrupt skip")


def test_corrupt_images_are_skipped_and_counted_when_asked(tmp_path):
    bad = {"ant/0002.png": b"", "dog/0001.png": FILES["dog/0001.png"][:-40]}  # the first image is bad
    source = make_source(tmp_path, "zip", FILES | bad)
    report = import_images(ImportConfig(source=source, store=tmp_path / "store", on_corrupt="skip", workers=1))
    store = ImageStore.open(tmp_path / "store")
    assert np.array_equal(store.images, IMAGES[[5, 0, 3, 4]].transpose(0, 3, 1, 2))
    assert store.labels is not None
    assert store.labels.tolist() == [0, 1, 1, 2]
    assert report.skipped == store.header.source["skipped"] == 2
    names = [f"{name} in {source}" for name in bad]
    assert store.header.source["skipped_names"] == names
    assert report.notes == store.header.source["notes"] == [f"skipped as corrupt: {', '.join(names)}"]


def test_nothing_but_corrupt_images(tmp_path):
    source = make_source(tmp_path, "zip", dict.fromkeys(FILES, b"x"))
    refused(source, tmp_path, r"none of its 6 images can be decoded, the first is ant/0002\.png", on_corrupt="skip")


def test_image_of_another_size(tmp_path):
    source = make_source(tmp_path, "folder", FILES | {"dog/0001.png": png(random_images(1, (6, 7, 3))[0])})
    refused(
        source,
        tmp_path,
        r"dog/0001\.png: 7x6 pixels, the first image is 6x5: pass --resize center-crop --resolution 5, or remove it",
        on_corrupt="skip",
    )


def test_grey_image_among_colour_ones_and_colour_among_grey(tmp_path):
    source = make_source(tmp_path / "a", "tar", FILES | {"dog/0001.png": png(GREY)})
    refused(source, tmp_path, r"dog/0001\.png in .*: grey image, the first is colour: pass --channels rgb")
    source = make_source(tmp_path / "b", "tar", class_files(random_images(6, (5, 6))) | {"dog/0001.png": png(RGB)})
    refused(source, tmp_path, r"dog/0001\.png in .*: colour image, the first is grey: pass --channels rgb")


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("CMYK", encoded(RGB.convert("CMYK"), "JPEG")),
        ("RGBA", png(RGB.convert("RGBA"))),
        ("palette", png(RGB.convert("P"))),
        ("black-and-white", png(RGB.convert("1"))),
        ("grey and alpha", png(RGB.convert("LA"))),
        ("16-bit", png(Image.fromarray(GREY.astype(np.uint16) * 257))),
    ],
)
def test_mode_that_needs_a_conversion(tmp_path, name, payload):
    source = make_source(tmp_path, "zip", FILES | {"dog/0001.png": payload})
    refused(source, tmp_path, rf"dog/0001\.png in .*: {name} image, expected 8-bit RGB or grey: pass --channels rgb")


def test_decompression_bomb(tmp_path, monkeypatch):
    source = make_source(tmp_path, "zip", FILES)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # images have 30: Pillow itself would only warn
    refused(source, tmp_path, r"ant/0002\.png in .*: corrupt image \(Image size \(30 pixels\) exceeds limit")


def test_store_that_is_already_there_is_kept(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine").touch()
    with pytest.raises(DataError, match=r"store: already there: remove it or import to another path"):
        import_images(ImportConfig(source=make_source(tmp_path, "zip", FILES), store=tmp_path / "store"))
    assert (tmp_path / "store" / "mine").exists()


def test_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/store: cannot be written: Not a directory"):
        import_images(ImportConfig(source=make_source(tmp_path, "zip", FILES), store=tmp_path / "file" / "store"))


def test_no_space_left_in_the_middle(tmp_path):
    resource = pytest.importorskip("resource")
    source = make_source(tmp_path, "zip", class_files(random_images(60, (32, 32, 3))))
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, {resource.RLIM_INFINITY}));"
        "from postmean.cli.main import run; import sys; sys.exit(run('import', sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), str(tmp_path / "out" / "store")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "store: cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_interrupt_leaves_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        payload = png(random_images(1, (24, 24, 3))[0])
        for i in range(30_000):
            archive.writestr(f"a/{i}.png", payload)
    process = subprocess.Popen(
        [sys.executable, "-m", "postmean", "import", "data.zip", "out/store", "--workers", "2"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C goes to the workers too
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/.store.*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().startswith("postmean import: interrupted")
    assert b"Traceback" not in errors
    assert list((tmp_path / "out").iterdir()) == []


def test_lost_worker_is_an_error_not_a_hang(tmp_path):
    from postmean.importers.layouts.layout import Item
    from postmean.importers.pixels.decode import PixelRule
    from postmean.importers.pixels.pool import decode_all

    items = (Item(str(i), Killer() if i == 2 else IMAGES[0].transpose(2, 0, 1), None) for i in range(4))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"a decoding process was killed, perhaps for lack of memory"):
        list(decode_all(items, PixelRule(), (3, 5, 6), workers=2))


class Killer(bytes):
    """Kills the process that receives it."""

    def __reduce__(self):
        return os._exit, (9,)


def test_pixels_of_any_damaged_file_give_an_image_or_an_error(tmp_path):
    random = np.random.default_rng(0)
    files = [encoded(RGB, "JPEG"), png(RGB), png(RGB.convert("P")), png(GREY)]
    from postmean.importers.layouts.layout import Item
    from postmean.importers.pixels.decode import PixelRule, decode

    skipped = 0
    for i in range(800):
        damaged = np.frombuffer(files[i % len(files)], np.uint8).copy()
        damaged[random.integers(0, len(damaged), 1 + i % 5)] = random.integers(0, 256)
        decoded = decode(Item("x", damaged.tobytes(), None), PixelRule(channels="rgb", on_corrupt="skip"), None)
        skipped += decoded is None
        assert decoded is None or decoded.pixels.dtype == np.uint8
    assert skipped > 100
