"""The stages of a U-Net: the same for DDPM++, NCSN++, ADM and EDM2, which differ in what a stage computes.

The names of the stages are those of the authors' code, so that their weights have the names of ours:
64x64_conv, 64x64_block0, ..., 32x32_down, 32x32_block0, ... on the way down;
8x8_in0, 8x8_in1, 8x8_block0, ..., 16x16_up, 16x16_block0, ... on the way up.
"""

from dataclasses import dataclass
from typing import Literal

Resampling = Literal["keep", "down", "up"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One block of a U-Net."""

    name: str
    side: int
    """Image side after it."""
    into: int
    """Channels that come in, those of the skip connection included."""
    out: int
    resampling: Resampling = "keep"
    attention: bool = False
    takes_skip: bool = False
    """Whether the output of a stage on the way down is joined to its input."""


def way_down(side: int, first: tuple[int, int], widths: list[int], blocks: int, attends: set[int]) -> list[Stage]:
    """The stages of the encoder, the first of which is a plain convolution.

    Args:
        side: of the images.
        first: channels into and out of the convolution.
        widths: channels at each resolution.
        blocks: at each resolution.
        attends: image sides with self-attention.
    """
    stages = [Stage(name=f"{side}x{side}_conv", side=side, into=first[0], out=first[1])]
    for level, width in enumerate(widths):
        here = side >> level
        if level:
            last = stages[-1].out
            stages.append(Stage(name=f"{here}x{here}_down", side=here, into=last, out=last, resampling="down"))
        for block in range(blocks):
            stages.append(
                Stage(
                    name=f"{here}x{here}_block{block}",
                    side=here,
                    into=stages[-1].out,
                    out=width,
                    attention=here in attends,
                )
            )
    return stages


def way_up(down: list[Stage], widths: list[int], blocks: int, attends: set[int], last_only: bool) -> list[Stage]:
    """The stages of the decoder.

    Args:
        down: the stages of `way_down`; each is joined to one on the way up.
        last_only: attention in the last block of a resolution alone.
    """
    skips = [stage.out for stage in down]
    side, out = down[-1].side, down[-1].out
    stages = [
        Stage(name=f"{side}x{side}_in0", side=side, into=out, out=out, attention=True),
        Stage(name=f"{side}x{side}_in1", side=side, into=out, out=out),
    ]
    for level, width in enumerate(reversed(widths)):
        here = side << level
        if level:
            out = stages[-1].out
            stages.append(Stage(name=f"{here}x{here}_up", side=here, into=out, out=out, resampling="up"))
        for block in range(blocks + 1):
            stages.append(
                Stage(
                    name=f"{here}x{here}_block{block}",
                    side=here,
                    into=stages[-1].out + skips.pop(),
                    out=width,
                    attention=here in attends and (block == blocks or not last_only),
                    takes_skip=True,
                )
            )
    return stages
