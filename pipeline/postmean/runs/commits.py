"""Which shards of a run are committed, with a progress line while their commit records are read."""

import numpy as np

from postmean.base.progress import NoProgress, ShowProgress
from postmean.shards.run_folder import RunFolder


def committed_shards(run: RunFolder, progress: ShowProgress = NoProgress) -> np.ndarray:
    """Bytes of each shard, as `RunFolder.committed`, with a line: a million records on an object store take minutes."""
    with progress("read", 0, "commit records") as line:
        return run.committed(lambda read, total: line.update(read, total=total))
