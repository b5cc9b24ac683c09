"""Opening a run imports little: the trainer must not load Ray, FAISS or a format that it does not read."""

import subprocess
import sys
from pathlib import Path

from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from tests.support.shard_examples import LAYOUT, MANIFEST, plan_of, records_of

HEAVY = ("ray", "faiss", "torch", "webdataset", "zarr", "numcodecs", "tyro")


def test_reading_a_shard_loads_no_heavy_module(tmp_path: Path) -> None:
    run = RunFolder(open_storage(tmp_path))
    run.begin(MANIFEST, plan_of(LAYOUT), None)
    run.commit_shard(plan_of(LAYOUT)[0], records_of(LAYOUT, 0))
    script = f"""
import sys
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
run = RunFolder(open_storage(sys.argv[1]))
assert len(run.read_shard(0)) == 24
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
