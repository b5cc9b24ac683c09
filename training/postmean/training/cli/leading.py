"""Which of the processes of torchrun reports."""

import os


def leads() -> bool:
    """Whether this process does: rank 0, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0
