"""A type checker uses the installed package's own types."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import Environment

pytestmark = pytest.mark.slow

USER = """
from postmean.contract.image_store import ImageStore, np
from postmean.training.stream.stream import TargetStream

stream = TargetStream.open("targets", ImageStore.open("store"), batch_size="many")
for batch in stream:
    reveal_type(batch.z)
"""


def test_pyright_sees_the_types_of_the_wheel(wheel: Path, environment: Environment, tmp_path: Path) -> None:
    file = tmp_path / "user.py"
    file.write_text(USER)
    command = [Path(sys.executable).with_name("pyright"), "--outputjson", "--pythonpath", environment(str(wheel)), file]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    said = json.loads(done.stdout)["generalDiagnostics"]
    errors = {(entry["range"]["start"]["line"], entry.get("rule")) for entry in said if entry["severity"] == "error"}
    # the first is only reported for packages with py.typed: image_store does not export numpy
    assert errors == {(1, "reportPrivateImportUsage"), (4, "reportArgumentType")}
    assert 'Type of "batch.z" is "Tensor"' in [entry["message"] for entry in said]
