"""DDPM++, NCSN++, ADM and EDM2 as functions of named weights, in float64, written from the papers.

Karras et al. 2022, App. F and Table 7 (after Song et al. 2021 and Dhariwal & Nichol 2021); Karras et al. 2024, App. B.
Resampling is a product with matrices, attention and group normalisation are loops: nothing is shared with the package.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d

Weights = dict[str, Tensor]


def filter_matrix(taps: list[float], size: int, margin: int) -> Tensor:
    """Row i has the taps, of sum 1, from column 2 i - margin on; [size / 2, size] without the last two margins."""
    rows = (size + 2 * margin - len(taps)) // 2 + 1
    matrix = torch.zeros(rows, size, dtype=torch.float64)
    for i in range(rows):
        for j, tap in enumerate(taps):
            if 0 <= (column := 2 * i + j - margin) < size:
                matrix[i, column] += tap / sum(taps)
    return matrix


def halve(x: Tensor, taps: list[float]) -> Tensor:
    matrix = filter_matrix(taps, x.shape[-1], (len(taps) - 1) // 2)
    return matrix @ x @ matrix.T


def double(x: Tensor, taps: list[float]) -> Tensor:
    matrix = 2 * filter_matrix(taps, 2 * x.shape[-1], (len(taps) - 1) // 2)
    return matrix.T @ x @ matrix


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def group_norm(x: Tensor, w: Weights, name: str, eps: float) -> Tensor:
    groups = min(32, x.shape[1] // 4)
    parts = [(p - p.mean((1, 2, 3), keepdim=True)) for p in x.chunk(groups, 1)]
    whole = torch.cat([p / (p.square().mean((1, 2, 3), keepdim=True) + eps).sqrt() for p in parts], 1)
    return whole * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]


def conv(x: Tensor, w: Weights, name: str) -> Tensor:
    weight = w[f"{name}.weight"]
    return conv2d(x, weight, w[f"{name}.bias"], padding=weight.shape[-1] // 2)


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Of one image and head: [channels, pixels]."""
    logits = q.T @ k / math.sqrt(len(q))
    weight = torch.exp(logits - logits.max(1, keepdim=True).values)
    return v @ (weight / weight.sum(1, keepdim=True)).T


def self_attention(qkv: Tensor, heads: int, prepare: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
    """Channel 3 c + i of a head's part is channel c of q, k or v."""
    b, channels, h, w = qkv.shape
    images = []
    for image in qkv.reshape(b, channels, h * w):
        parts = image.chunk(heads, 0)
        images.append(torch.cat([attend(*(prepare(part[i::3]) for i in range(3))) for part in parts], 0))
    return torch.stack(images).reshape(b, channels // 3, h, w)


def angles(time: Tensor, frequencies: Tensor) -> Tensor:
    return time[:, None] * frequencies[None, :]


def names_in(w: Weights, part: str) -> list[str]:
    """Stages of enc or dec in their order."""
    return list(dict.fromkeys(name.split(".")[1] for name in w if name.startswith(f"{part}.")))


def edm_block(x: Tensor, w: Weights, name: str, embedding: Tensor, adm: bool, taps: list[float]) -> Tensor:
    eps, scale = (1e-5, 1.0) if adm else (1e-6, math.sqrt(0.5))
    resample = {"down": halve, "up": double}.get(name.rpartition("_")[2], lambda x, taps: x)
    y = conv(resample(silu(group_norm(x, w, f"{name}.norm0", eps)), taps), w, f"{name}.conv0")
    condition = linear(embedding, w, f"{name}.affine")[:, :, None, None]
    if adm:
        factor, shift = condition[:, : y.shape[1]], condition[:, y.shape[1] :]
        y = group_norm(y, w, f"{name}.norm1", eps) * (factor + 1) + shift
    else:
        y = group_norm(y + condition, w, f"{name}.norm1", eps)
    y = conv(silu(y), w, f"{name}.conv1")
    x = resample(x, taps)
    if f"{name}.skip.weight" in w:
        x = conv(x, w, f"{name}.skip")
    x = (x + y) * scale
    if f"{name}.qkv.weight" in w:
        heads = max(1, x.shape[1] // 64) if adm else 1
        y = self_attention(conv(group_norm(x, w, f"{name}.norm2", eps), w, f"{name}.qkv"), heads)
        x = (x + conv(y, w, f"{name}.proj")) * scale
    return x


def song_unet(w: Weights, x: Tensor, time: Tensor, one_hot: Tensor | None, taps: list[float]) -> Tensor:
    if "map_noise.freqs" in w:
        angle = angles(time, 2 * math.pi * w["map_noise.freqs"])
    else:
        half = len(w["map_layer0.weight"][0]) // 2
        angle = angles(time, 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / (half - 1)))
    embedding = torch.cat([angle.sin(), angle.cos()], 1)
    if one_hot is not None:
        embedding = embedding + linear(one_hot * math.sqrt(one_hot.shape[1]), w, "map_label")
    embedding = silu(linear(silu(linear(embedding, w, "map_layer0")), w, "map_layer1"))
    image, skips = x, []
    for stage in names_in(w, "enc"):
        name = f"enc.{stage}"
        if stage.endswith("aux_residual"):
            weight, bias = w[f"{name}.weight"], w[f"{name}.bias"][:, None, None]
            wide = conv2d(image, weight, padding=2)
            matrix = filter_matrix(taps, wide.shape[-1], 0)
            x = image = skips[-1] = (x + matrix @ wide @ matrix.T + bias) / math.sqrt(2)
        else:
            x = conv(x, w, name) if stage.endswith("conv") else edm_block(x, w, name, embedding, False, taps)
            skips.append(x)
    for stage in names_in(w, "dec"):
        if "aux" not in stage:
            x = torch.cat([x, skips.pop()], 1) if "block" in stage else x
            x = edm_block(x, w, f"dec.{stage}", embedding, False, taps)
    last = f"dec.{x.shape[-1]}x{x.shape[-1]}_aux"
    return conv(silu(group_norm(x, w, f"{last}_norm", 1e-6)), w, f"{last}_conv")


def adm_unet(w: Weights, x: Tensor, time: Tensor, one_hot: Tensor | None) -> Tensor:
    half = len(w["map_layer0.weight"][0]) // 2
    angle = angles(time, 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half))
    embedding = linear(torch.cat([angle.cos(), angle.sin()], 1), w, "map_layer0")
    embedding = linear(silu(embedding), w, "map_layer1")
    if one_hot is not None:
        embedding = embedding + linear(one_hot, w, "map_label")
    embedding, skips = silu(embedding), []
    for stage in names_in(w, "enc"):
        name = f"enc.{stage}"
        x = conv(x, w, name) if stage.endswith("conv") else edm_block(x, w, name, embedding, True, [1, 1])
        skips.append(x)
    for stage in names_in(w, "dec"):
        x = torch.cat([x, skips.pop()], 1) if "block" in stage else x
        x = edm_block(x, w, f"dec.{stage}", embedding, True, [1, 1])
    return conv(silu(group_norm(x, w, "out_norm", 1e-5)), w, "out_conv")


def unit(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x over its root mean square."""
    return x / (x.square().mean(dims, keepdim=True).sqrt() + 1e-4)


def mp_layer(x: Tensor, w: Weights, name: str, gain: Tensor | float = 1.0) -> Tensor:
    weight = w[f"{name}.weight"]
    weight = gain * unit(weight, tuple(range(1, weight.ndim))) / math.sqrt(weight[0].numel())
    return x @ weight.T if weight.ndim == 2 else conv2d(x, weight, padding=weight.shape[-1] // 2)


def mp_silu(x: Tensor) -> Tensor:
    return silu(x) / 0.596


def mp_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    return ((1 - t) * a + t * b) / math.sqrt((1 - t) ** 2 + t**2)


def edm2_block(x: Tensor, w: Weights, name: str, embedding: Tensor) -> Tensor:
    resample = {"down": halve, "up": double}.get(name.rpartition("_")[2], lambda x, taps: x)
    x = resample(x, [1, 1])
    encodes, projects = name.startswith("enc"), f"{name}.conv_skip.weight" in w
    if encodes:
        x = unit(mp_layer(x, w, f"{name}.conv_skip") if projects else x, (1,))
    y = mp_layer(mp_silu(x), w, f"{name}.conv_res0")
    y = y * (mp_layer(embedding, w, f"{name}.emb_linear", w[f"{name}.emb_gain"]) + 1)[:, :, None, None]
    y = mp_layer(mp_silu(y), w, f"{name}.conv_res1")
    x = mp_sum(mp_layer(x, w, f"{name}.conv_skip") if projects and not encodes else x, y, 0.3)
    if f"{name}.attn_qkv.weight" in w:
        y = self_attention(mp_layer(x, w, f"{name}.attn_qkv"), max(1, x.shape[1] // 64), lambda part: unit(part, (0,)))
        x = mp_sum(x, mp_layer(y, w, f"{name}.attn_proj"), 0.3)
    return torch.clip(x, -256, 256)


def edm2_unet(w: Weights, x: Tensor, time: Tensor, one_hot: Tensor | None) -> Tensor:
    embedding = math.sqrt(2) * torch.cos(angles(time, w["emb_fourier.freqs"]) + w["emb_fourier.phases"])
    embedding = mp_layer(embedding, w, "emb_noise")
    if one_hot is not None:
        embedding = mp_sum(embedding, mp_layer(one_hot * math.sqrt(one_hot.shape[1]), w, "emb_label"), 0.5)
    embedding, skips = mp_silu(embedding), []
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    for stage in names_in(w, "enc"):
        x = mp_layer(x, w, f"enc.{stage}") if stage.endswith("conv") else edm2_block(x, w, f"enc.{stage}", embedding)
        skips.append(x)
    for stage in names_in(w, "dec"):
        if "block" in stage:
            skip = skips.pop()
            each = math.sqrt((x.shape[1] + skip.shape[1]) / 2)
            x = torch.cat([x * each / math.sqrt(x.shape[1]), skip * each / math.sqrt(skip.shape[1])], 1)
        x = edm2_block(x, w, f"dec.{stage}", embedding)
    return mp_layer(x, w, "out_conv", w["out_gain"])
