"""`postmean doctor` says what independent sources say, quickly, and shows no secret."""

import importlib.metadata
import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from postmean.base.cores import usable_cores
from postmean.base.memory import usable_memory
from postmean.cli.main import run as postmean
from postmean.planning import this_machine


def examine(capsys: pytest.CaptureFixture[str]) -> dict:
    assert postmean("doctor", ["--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_says_what_the_system_says(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    found = examine(capsys)
    assert found["cores"] == usable_cores() <= found["cores_of_machine"] == os.cpu_count()
    assert found["memory_bytes"] <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found["disk_free_bytes"][os.getcwd()] == pytest.approx(shutil.disk_usage(".").free, rel=0.1)
    assert found["ray"] == importlib.metadata.version("ray")
    assert found["torch"].startswith(importlib.metadata.version("torch"))
    assert (torch.version.cuda or "CPUs") in found["torch"]
    assert len(found["gpus"]) == torch.cuda.device_count()
    listed = importlib.metadata.metadata("postmean").get_all("Provides-Extra") or []
    assert set(found["extras"]) == set(listed) - {"all", "dev"}
    assert found["extras"]["generate"] == []
    assert postmean("doctor", []) == 0
    assert f"{found['cores']} of {found['cores_of_machine']}" in capsys.readouterr().out


def test_a_missing_extra_and_two_builds_of_faiss_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"faiss-cpu": "1.12", "faiss-gpu": "1.15"}
    monkeypatch.setattr(this_machine, "_version", versions.get)
    found = examine(capsys)
    assert found["extras"]["zarr"] == ["zarr"]
    assert found["extras"]["faiss"] == []
    assert any("both installed" in problem for problem in found["problems"])
    assert any("pip install 'postmean[generate]'" in problem for problem in found["problems"])


def test_a_cluster_that_does_not_answer_is_named_and_secrets_are_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setenv("POSTMEAN_TOKEN", "a secret of mine")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret of mine")
        found = examine(capsys)
        assert found["ray_address"] == f"{address}: something listens there"
        assert found["environment"]["RAY_ADDRESS"] == address
        assert "a secret" not in json.dumps(found)
    assert any(f"RAY_ADDRESS {address}: no answer" in problem for problem in examine(capsys)["problems"])


@pytest.mark.parametrize(("limit", "used", "expected"), [("500000000", 100, (500000000, 499999900)), ("max", 5, None)])
def test_memory_is_what_the_cgroup_leaves(tmp_path: Path, limit: str, used: int, expected: tuple | None) -> None:
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.max").write_text(limit)
    (group / "memory.current").write_text(str(used))
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "mountinfo").write_text(f"32 31 0:29 / {group} rw shared:4 - cgroup2 cgroup2 rw\n")
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 4000000 kB\nMemFree: 1 kB\nMemAvailable: 2000000 kB\n")
    assert usable_memory(tmp_path, meminfo) == (expected or (4_096_000_000, 2_048_000_000))
    assert usable_memory(tmp_path, tmp_path / "none") is None
