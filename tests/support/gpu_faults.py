"""Actors whose GPU has a fault; Ray's workers import them from here."""

import torch

from postmean.engine import pixels, population, products
from postmean.fleet.actor import EstimatorActor

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.44 GiB. GPU 0 has a total capacity of 23.57 GiB.\nMore lines."
REFUSED = "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmulAlgoGetHeuristic(...)`"


class CrowdedActor(EstimatorActor):
    """Its GPU has no room for the pixels."""

    def load(self) -> None:
        def refuse(*arguments: object) -> None:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)

        population.check_products = lambda device: None
        pixels.on_gpu = refuse
        super().load()


class RefusingActor(EstimatorActor):
    """Its cuBLAS lacks a product."""

    def load(self) -> None:
        def refuse(*arguments: object) -> None:
            raise RuntimeError(REFUSED)

        products.float16_product = refuse
        population.check_products = refuse
        torch.cuda.get_device_name = lambda device=None: "NVIDIA B300"
        super().load()
