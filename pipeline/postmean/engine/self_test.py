"""Whether a GPU multiplies right: both products of the engine on one small tile, against integers on the CPU."""

from functools import cache

import torch

from postmean.base.errors import ConfigError
from postmean.engine.products import float16_product, float16_products, int8_product


@cache
def check_products(device: str) -> None:
    """Multiply small integers on the device; all sums are below 2^24, so that both products are exact.

    One product is of multiples of 2^-24, the smallest float16: some GPUs take them for 0.

    Raises:
        ConfigError: a product is refused or wrong.
    """
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randint(-128, 128, (rows, 512), generator=generator, dtype=torch.int8) for rows in (33, 48))
    expected = left.to(torch.int64) @ right.to(torch.int64).t()
    on_device = left.to(device), right.to(device)
    halves = on_device[0].to(torch.float16), on_device[1].to(torch.float16)
    try:
        products = {
            "int8 product": int8_product(*on_device),
            "float16 product": float16_product(halves[0], halves[1].t()),
            "float16 products of a batch": float16_products(halves[0][None], halves[1].t()[None])[0],
            "float16 product of a transposed copy": float16_product(halves[0], halves[1].t().contiguous()),
            "float16 product of the smallest numbers": float16_product(halves[0] * 2.0**-24, halves[1].t()) * 2.0**24,
        }
        wrong = [name for name, product in products.items() if not torch.equal(product.cpu().to(torch.int64), expected)]
    except RuntimeError as error:
        wrong = [str(error).splitlines()[0]]
    if wrong:
        raise ConfigError(
            f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, CUDA {torch.version.cuda}: "
            f"the self-test of the matrix products failed ({', '.join(wrong)}): "
            "install a torch that supports this GPU, or run with --device cpu"
        )
