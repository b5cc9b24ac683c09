"""A lack of GPU memory and a refused product end in one line with the remedy; other errors stay what they are."""

import pytest
import torch

from postmean.base.errors import ConfigError
from postmean.engine.gpu_errors import gpu_errors

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.44 GiB. GPU 0 has a total capacity of 23.57 GiB.\nMore lines."
REFUSED = "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmulAlgoGetHeuristic(...)`"


def test_a_lack_of_memory_names_the_remedy() -> None:
    message = r"^CUDA out of memory\. Tried .* 23\.57 GiB: .*--shards-at-a-time 1"
    with pytest.raises(ConfigError, match=message) as error, gpu_errors():
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)
    assert "\n" not in str(error.value)


def test_a_refused_product_names_gpu_and_torch() -> None:
    message = rf", torch {torch.__version__.split('+')[0]}.*NOT_SUPPORTED.*--device cpu"
    with pytest.raises(ConfigError, match=message), gpu_errors():
        raise RuntimeError(REFUSED)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="device-side assert"), gpu_errors():
        raise RuntimeError("CUDA error: device-side assert triggered")
