"""Archives made to hang, to fill the memory or to fail: each gives one line within bounds, and no store."""

import bz2
import gzip
import io
import lzma
import os
import random
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from postmean.base.errors import DataError, PostmeanError
from postmean.contract.image_store import ImageStore
from postmean.importers import limits
from postmean.importers.config import ImportConfig
from postmean.importers.run import import_images
from tests.support.image_files import class_files, make_source, planes, png, random_images

pytestmark = pytest.mark.usefixtures("bounded")

IMAGES = random_images(4)
FILES = class_files(IMAGES)
PNG = png(IMAGES[0])


def refused(source, folder, message):
    with pytest.raises(DataError, match=message) as caught:
        import_images(ImportConfig(source=source, store=folder / "out" / "store", workers=1))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not (folder / "out").exists() or not list((folder / "out").iterdir())


def block(name=b"a/0.png", size=0, kind=b"0", magic=b"ustar\x0000", size_field=None, link=b""):
    """One header of a tar."""
    header = bytearray(512)
    header[0 : len(name)] = name
    header[100:108], header[108:116], header[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    header[124:136] = size_field or b"%011o\0" % size
    header[136:148], header[156:157], header[157 : 157 + len(link)] = b"%011o\0" % 0, kind, link
    header[257:265] = magic
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def padded(data):
    return data + bytes(-len(data) % 512)


def pax(records, kind=b"x"):
    """An extended header; records are pairs, or bytes as they are."""
    body = b""
    for record in records:
        if isinstance(record, bytes):
            body += record
            continue
        line = b" %s=%s\n" % record
        length = len(line) + 1
        while len(b"%d" % length) + len(line) != length:
            length += 1
        body += b"%d" % length + line
    return block(b"PaxHeader", len(body), kind) + padded(body)


def negative(size):
    return (2**96 + size - 2**88).to_bytes(12, "big") if size < 0 else size.to_bytes(12, "big")


GOOD = block(size=len(PNG)) + padded(PNG)
END = bytes(1024)
TARS = {
    "pax size -1536": pax([(b"size", b"-1536")]) + GOOD,
    "pax size -512": pax([(b"size", b"-512")]) + GOOD,
    "pax size -1": pax([(b"size", b"-1")]) + GOOD,
    "global pax size -512": pax([(b"size", b"-512")], b"g") + GOOD,
    "pax size that is huge": pax([(b"size", b"9" * 30)]) + GOOD,
    "pax size that is no number": pax([(b"size", b"x")]) + GOOD[:512] + END + b"x" * 512,
    "negative size": block(size_field=negative(-512)) + GOOD,
    "very negative size": block(size_field=negative(-(2**80))) + GOOD,
    "negative size of a folder": block(b"b/", size_field=negative(-512), kind=b"5") + GOOD,
    "negative size of a pax header": block(size_field=negative(-1024), kind=b"x") + GOOD,
    "negative size of a long name": block(size_field=negative(-1024), kind=b"L") + GOOD,
    "size beyond the end": block(size=2**33 - 1) + GOOD,
    "size of 2^80": block(size_field=b"\x80" + (2**80).to_bytes(11, "big")) + GOOD,
    "pax header of a terabyte": block(size_field=b"\x80" + (2**40).to_bytes(11, "big"), kind=b"x") + GOOD,
    "long name of a terabyte": block(size_field=b"\x80" + (2**40).to_bytes(11, "big"), kind=b"L") + GOOD,
    "pax headers without end": pax([(b"comment", b"x")]) * 3000 + GOOD,
    "long names without end": (block(size=8, kind=b"L") + padded(b"a/x.png\0")) * 3000 + GOOD,
    "pax record of length 0": pax([b"0 a=b\n"]) + GOOD,
    "pax record longer than the header": pax([b"999 a=b\n"]) + GOOD,
    "pax record without a key": pax([b"5 a\n\n" * 3000]) + GOOD,
    "pax record of digits": pax([(b"comment", b"1" * 60_000)]) + GOOD,
    "pax header that is no list": pax([b"1" * 60_000]) + GOOD,
    "sparse 0.0 with a bad offset": pax([(b"GNU.sparse.size", b"9"), (b"GNU.sparse.offset", b"x")]) + GOOD,
    "sparse 0.1 with a bad map": pax([(b"GNU.sparse.map", b"1,x"), (b"GNU.sparse.size", b"9")]) + GOOD,
    "sparse 1.0 with a bad size": pax(
        [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"x")]
    )
    + GOOD,
    "sparse 1.0 with a map without end": pax([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")])
    + block(size=10**6)
    + b"999999999\n"
    + b"0\n" * 500_000,
    "sparse 1.0 with no map": pax([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]) + GOOD,
    "old sparse without end": block(kind=b"S")[:482] + b"\1" + bytes(29) + (b"\1" * 505 + bytes(7)) * 3000 + GOOD,
    "charset that is unknown": pax([(b"hdrcharset", b"rot13")]) + pax([(b"path", b"\xff")]) + END + b"x",
    "link to itself": block(b"a/0.png", kind=b"1", link=b"a/0.png"),
    "name of 60 000 characters": pax([(b"path", b"a/" + b"x" * 60_000)]) + GOOD,
    "a file twice": GOOD + GOOD,
    "a file under two names of one path": GOOD + block(b"./b/../a//0.png", size=len(PNG)) + padded(PNG),
}


@pytest.mark.parametrize("form", ["tar", "tar.gz"])
@pytest.mark.parametrize("name", TARS)
def test_tar_that_lies_about_its_members(tmp_path, name, form):
    data = TARS[name] + END
    (tmp_path / "x.tar").write_bytes(data if form == "tar" else gzip.compress(data, 1))
    refused(tmp_path / "x.tar", tmp_path, r"x\.tar|a/0\.png in ")


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_tar_that_grows_without_end(tmp_path, monkeypatch, packed):
    monkeypatch.setattr(limits, "most_unpacked", lambda packed: 2**20)  # else this test would write gigabytes
    rest = block(b"b/rest", 2**22) + bytes(2**22)
    for tail in (rest, bytes(2**22)):  # a member, or zeros after the end
        (tmp_path / "x.tar").write_bytes(packed(GOOD + tail))
        refused(tmp_path / "x.tar", tmp_path, r"x\.tar: .*(no data set compresses so well)")


def test_extended_headers_of_honest_tars_are_read(tmp_path):
    name = "wörter/" + "x" * 200 + ".png"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(tmp_path / f"{form}.tar", "w", format=form) as tar:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(PNG), 1234567890.987654321
            member.pax_headers = {"SCHILY.xattr.user.note": "é" * 2000, "comment": "a=b 12 c\nd"}
            tar.addfile(member, io.BytesIO(PNG))
        import_images(ImportConfig(source=tmp_path / f"{form}.tar", store=tmp_path / f"{form}.store"))
        assert ImageStore.open(tmp_path / f"{form}.store").header.class_names == ("wörter",)


@pytest.mark.parametrize("form", ["tar", "tar.gz", "tar.xz", "tar.bz2", "zip", "zip of lzma"])
def test_damage_anywhere_in_an_archive_gives_a_store_or_one_line(tmp_path, form):
    if form == "zip of lzma":
        with zipfile.ZipFile(tmp_path / "source.zip", "w", zipfile.ZIP_LZMA) as archive:
            for name, data in FILES.items():
                archive.writestr(name, data)
        source = tmp_path / "source.zip"
    else:
        source = make_source(tmp_path, form, FILES)
    data = source.read_bytes()
    draw = random.Random(form)
    for i in range(60):
        damaged = bytearray(data)
        for _ in range(1 + i % 3):
            damaged[draw.randrange(len(data))] = draw.randrange(256)
        source.write_bytes(damaged)
        try:
            import_images(ImportConfig(source=source, store=tmp_path / "out" / f"{i}", workers=1))
        except PostmeanError as error:
            assert "\n" not in str(error)


def stored_zip(path, files, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return path


def test_zip_of_another_method_is_refused(tmp_path):
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        source = stored_zip(tmp_path / f"{method}.zip", [("a/0.png", bytes(10**6))], method)
        refused(source, tmp_path, r"a/0\.png in .*: neither stored nor deflated: make the zip again")


def test_zip_whose_members_overlap(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "most_unpacked", lambda packed: 10 * packed)
    source = stored_zip(tmp_path / "x.zip", [(f"a/{i}.png", bytes(10**6)) for i in range(5)], zipfile.ZIP_DEFLATED)
    refused(source, tmp_path, r"x\.zip: its members are far larger than the zip")


def test_zip_names_twice_locked_or_no_utf8(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        source = stored_zip(tmp_path / "twice.zip", [("a/0.png", PNG), ("a/0.png", PNG)])
    refused(source, tmp_path, r"twice\.zip: a/0\.png is there twice")
    source = stored_zip(tmp_path / "slashes.zip", [("a/0.png", PNG), ("a\\0.png", PNG)])
    refused(source, tmp_path, r"slashes\.zip: a/0\.png is there twice")
    data = bytearray(stored_zip(tmp_path / "ü.zip", [("ü/0.png", PNG)]).read_bytes())
    for at in [i for i in range(len(data)) if data[i : i + 2] == "ü".encode()]:
        data[at : at + 2] = b"\xff\xff"
    (tmp_path / "names.zip").write_bytes(data)
    refused(tmp_path / "names.zip", tmp_path, r"names\.zip: truncated or damaged zip")
    data = bytearray(stored_zip(tmp_path / "open.zip", [("a/0.png", PNG)]).read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\1\2") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    refused(tmp_path / "locked.zip", tmp_path, r"a/0\.png in .*locked\.zip: cannot be read \(.*encrypted")


def test_zip_with_odd_sizes_gives_the_image_or_one_line(tmp_path):
    data = bytearray(stored_zip(tmp_path / "a.zip", [("a/0.png", PNG)]).read_bytes())
    at = data.rindex(b"PK\1\2")
    refusals = 0
    fields = {20: "<I", 24: "<I", 42: "<I", 28: "<H", 30: "<H", 32: "<H"}
    for field, form in fields.items():
        for value in (1, 0x7FFF, 0xFFFE):
            changed = bytearray(data)
            struct.pack_into(form, changed, at + field, value if form == "<H" else value * 0x10001)
            (tmp_path / "b.zip").write_bytes(changed)
            store = tmp_path / f"{field}.{value}"
            try:
                import_images(ImportConfig(source=tmp_path / "b.zip", store=store))
            except DataError as error:
                assert "\n" not in str(error)
                refusals += 1
            else:
                assert np.array_equal(ImageStore.open(store).images, planes(IMAGES[:1]))
    assert refusals > 5


@pytest.mark.parametrize("form", ["folder", "tar", "tar.gz"])
def test_names_that_are_no_utf8_or_hold_line_ends_are_read_and_shown_with_escapes(tmp_path, form):
    files = {os.fsdecode(b"caf\xe9/0.png"): png(IMAGES[0]), "two\nlines/0.png": png(IMAGES[1])}
    source = make_source(tmp_path, form, files)
    import_images(ImportConfig(source=source, store=tmp_path / "store"))
    header = ImageStore.open(tmp_path / "store").header
    assert header.class_names == (r"caf\xe9", r"two\nlines")
    files["two\nlines/0.png"] = b"x"
    refused(make_source(tmp_path / "bad", form, files), tmp_path, r"two\\nlines/0\.png.*: corrupt image")


def test_names_above_the_root_are_inside_it(tmp_path):
    source = make_source(tmp_path, "tar", {f"../../set/{name}": data for name, data in FILES.items()})
    import_images(ImportConfig(source=source, store=tmp_path / "store"))
    assert len(ImageStore.open(tmp_path / "store")) == 4


def test_pipe_in_place_of_an_image_or_a_source(tmp_path):
    (tmp_path / "s" / "a").mkdir(parents=True)
    (tmp_path / "s" / "a" / "0.png").write_bytes(PNG)
    os.mkfifo(tmp_path / "s" / "a" / "1.png")
    refused(tmp_path / "s", tmp_path, r"a/1\.png: not a regular file: remove it")
    refused(tmp_path / "s" / "a" / "1.png", tmp_path, r"1\.png: neither a folder nor a regular file")


def test_folders_that_link_to_each_other(tmp_path):
    for name in "ab":
        (tmp_path / "s" / name).mkdir(parents=True)
        for other in ("x", "y"):
            (tmp_path / "s" / name / other).symlink_to(tmp_path / "s" / ("b" if name == "a" else "a"))
    refused(tmp_path / "s", tmp_path, r"s/[ab].*: a symbolic link to a folder that it lies in: remove it")


def test_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_FILES", 5)
    for form in ("folder", "zip", "tar"):
        files = {f"a/{i}.png": PNG for i in range(6)}
        refused(make_source(tmp_path / form, form, files), tmp_path, r"more than 5 files and folders")


def test_any_bytes_as_a_source(tmp_path):
    draw = np.random.default_rng(0)
    for head in (b"", b"\x1f\x8b\x08\0", b"\xfd7zXZ\0", b"BZh9", b"PK\3\4", b"PK\5\6", block()[:500]):
        for _ in range(20):
            (tmp_path / "x").write_bytes(head + draw.integers(0, 256, 700, np.uint8).tobytes())
            refused(tmp_path / "x", tmp_path, r"x: ")
