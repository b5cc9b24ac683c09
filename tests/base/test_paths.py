import os
import pwd
from pathlib import Path

import pytest

from postmean.base.errors import ConfigError
from postmean.base.paths import check_out, local_path, out_folder
from postmean.storage.open import open_reader, open_storage


def test_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/my/home")
    assert local_path("~") == Path("/my/home")
    assert local_path("~/a b/c~") == local_path(Path("~/a b/c~")) == Path("/my/home/a b/c~")
    me = pwd.getpwuid(os.getuid())
    assert local_path(f"~{me.pw_name}/x") == Path(me.pw_dir, "x")


@pytest.mark.parametrize(
    "path", ["a~b", "./~/x", "x/~", "s3/x", "a:b", "C:/x", "my [data] #1 %20 {x} ü", "a?b*c", "..", " "]
)
def test_other_paths_stay_as_they_are(path):
    assert local_path(path) == Path(path)


@pytest.mark.parametrize(
    "path", ["s3://b/x", "s3:/b/x", "S3://b/x", "gs://b", "az://b", "http://h/x", "file:///x", "hf://d"]
)
@pytest.mark.parametrize("kind", [str, Path])
def test_urls_are_no_local_paths(path, kind):
    with pytest.raises(ConfigError, match=r"a URL, but this must be on this machine: give the path"):
        local_path(kind(path))


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_nothing_is_no_path(path):
    with pytest.raises(ConfigError, match="not a path"):
        local_path(path)


def test_home_that_is_not_there_is_one_line(monkeypatch):
    def unknown(_):
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigError, match=r"^~/x: no home folder: set HOME, or write the path out$"):
        local_path("~/x")
    with pytest.raises(ConfigError, match=r"^~nobody-has-this-name/x: no user nobody-has-this-name: write \./~nobody"):
        local_path("~nobody-has-this-name/x")


def test_storage_takes_the_home_folder_and_no_broken_url(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    open_storage("~/run").put("a", b"x")
    assert (tmp_path / "run" / "a").read_bytes() == b"x"
    assert open_reader("~/run").get("a") == open_reader(Path("~/run")).get("a") == b"x"
    for url in ("s3:/bucket/run", Path("s3://bucket/run"), ""):
        with pytest.raises(ConfigError):
            open_storage(url)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_folder_of_another_kind_is_no_output(tmp_path):
    files = {
        "an image store": ("header.json", "images.npy"),
        "a run of `postmean generate`": ("manifest.json", "plan.parquet", "config.json"),
        "a training run": ("config.json", "checkpoints"),
        "samples of a model": ("samples.json", "grid.png"),
    }
    for kind, names in files.items():
        folder = tmp_path / kind
        folder.mkdir()
        for name in names:
            (folder / name).touch()
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(folder)
        for made in [*files, "a report"]:
            if made == kind:
                check_out(folder, made)
                continue
            for out in (folder, tmp_path / "link"):
                with pytest.raises(ConfigError, match=rf"{kind}: pass another --out"):
                    check_out(out, made)
        check_out(tmp_path / "new", kind)


def test_output_that_can_be_no_folder_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/x/y", "link", "link/x"):
        with pytest.raises(ConfigError, match=r"cannot write: .* is no folder: pass another --out"):
            out_folder(tmp_path / name, "a demo")
    with pytest.raises(ConfigError, match="cannot write: a name of more than 255 bytes"):
        out_folder(tmp_path / ("ü" * 128) / "x", "a demo")
    with pytest.raises(ConfigError, match=r"cannot write: no permission in /proc/self: make it writable"):
        out_folder("/proc/self/x", "a demo")
    assert out_folder(tmp_path / "a" / "b", "a demo") == tmp_path / "a" / "b"
    assert out_folder(str(tmp_path), "a demo") == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]
