"""Tar files: any tar reader reads ours, and we accept nothing else."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postmean.base.errors import ShardError
from postmean.shards.tar import pack, unpack

names = st.text(st.sampled_from("abc.09_"), min_size=1, max_size=100)
members = st.lists(st.tuples(names, st.binary(max_size=1500)), max_size=5)


@given(members)
def test_tarfile_reads_what_is_packed_and_back(members: list[tuple[str, bytes]]) -> None:
    data = pack(members)
    assert [(name, bytes(content)) for name, content in unpack(data, "a.tar")] == members
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        infos = tar.getmembers()
        found = [tar.extractfile(info).read() for info in infos]  # type: ignore[union-attr]
    assert found == [content for _, content in members]
    assert [info.name for info in infos] == [name for name, _ in members]
    assert all((i.mtime, i.uid, i.gid, i.uname, i.gname, i.isreg()) == (0, 0, 0, "", "", True) for i in infos)


@given(members)
def test_headers_are_those_of_tarfile(members: list[tuple[str, bytes]]) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    ours = pack(members)
    assert sink.getvalue()[: len(ours)] == ours
    assert not any(sink.getvalue()[len(ours) :])


@given(members, st.data())
def test_every_cut_and_every_damaged_header_is_refused(members: list[tuple[str, bytes]], data: st.DataObject) -> None:
    whole = pack(members)
    with pytest.raises(ShardError):
        unpack(whole[: data.draw(st.integers(0, len(whole) - 1))], "a.tar")
    damaged = bytearray(whole)
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    try:
        found = unpack(bytes(damaged), "a.tar")
    except ShardError:
        return
    assert [(name, len(content)) for name, content in found] == [(name, len(content)) for name, content in members]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_other_than_regular_files_is_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("a")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(ShardError):
        unpack(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024), "a.tar")


def test_extensions_of_the_format_are_refused() -> None:
    info = tarfile.TarInfo("a" * 300)
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with pytest.raises(ShardError):
            unpack(info.tobuf(form) + bytes(1024), "a.tar")
