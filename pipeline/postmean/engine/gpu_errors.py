"""Errors of a GPU that a user can do something about, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from postmean.base.errors import ConfigError


@contextmanager
def gpu_errors() -> Iterator[None]:
    """Within the block, a lack of GPU memory and a refused product become a ConfigError that names the remedy.

    Any other error of CUDA stays what it is: it may have broken the process, which is then replaced.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise ConfigError(
            f"{_first_line(error)}: stop what else uses this GPU, pass --shards-at-a-time 1, "
            "or take a GPU with more memory"
        ) from error
    except RuntimeError as error:
        if "CUBLAS_STATUS_NOT_SUPPORTED" not in str(error):
            raise
        raise ConfigError(
            f"{torch.cuda.get_device_name()}, torch {torch.__version__}: {_first_line(error)}: "
            "install a torch that supports this GPU, or run with --device cpu"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
