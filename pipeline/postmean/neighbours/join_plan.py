"""How the self-join is divided: blocks of images, units that each join pairs of blocks, and groups of finished rows.

A distance is that of both its images, so pairs of blocks are those of the upper triangle: each pair of images is
multiplied once, and its distance entered on both sides. Every image is then in as many partial results as its
population has blocks; a group merges those of its blocks. What a unit holds depends on the images alone, never on who
makes it or when, and smallest distances and counts are the same in whatever order they are merged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MULTIPLE = 16
"""Blocks start at multiples of this: a GPU's products want such sizes."""
_SMALL, _LARGE, _MANY = 16_384, 32_768, 1 << 18


@dataclass(frozen=True)
class Block:
    """Images start .. stop - 1 of the population of one class, or of all images (label None)."""

    label: int | None
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class JoinPlan:
    """The blocks of all populations, one population after the other."""

    blocks: tuple[Block, ...]
    units: tuple[tuple[tuple[int, int], ...], ...]
    """Pairs of blocks (a, b), a <= b, that each unit joins"""
    groups: tuple[range, ...]
    """Blocks whose rows are finished together"""

    @classmethod
    def of(cls, sizes: Sequence[tuple[int | None, int]], block: int) -> "JoinPlan":
        """The plan for populations of these labels and numbers of images.

        Args:
            block: most images of a block. Populations smaller than that share units and groups.
        """
        blocks: list[Block] = []
        units: list[tuple[tuple[int, int], ...]] = []
        groups: list[range] = []
        room = 0  # in the last unit and group, if they hold whole populations
        for label, images in sizes:
            first, parts = len(blocks), -(-images // block)
            step = _rounded_up(-(-images // max(1, parts)))
            blocks += [Block(label, start, min(start + step, images)) for start in range(0, images, step or 1)]
            numbers = range(first, len(blocks))
            if len(numbers) > 1:
                units += [((a, b),) for a in numbers for b in numbers if a <= b]
                groups += [range(number, number + 1) for number in numbers]
                room = 0
            elif numbers and images <= room:
                units[-1] += ((first, first),)
                groups[-1] = range(groups[-1].start, first + 1)
                room -= images
            elif numbers:
                units.append(((first, first),))
                groups.append(numbers)
                room = block - images
        return cls(tuple(blocks), tuple(units), tuple(groups))

    def touched(self, unit: int) -> list[int]:
        """Blocks in a unit, rising: it holds partial results of their images, in this order."""
        return sorted({number for pair in self.units[unit] for number in pair})

    def units_of(self, group: int) -> list[int]:
        """Units with partial results of the group's images."""
        return [u for u, pairs in enumerate(self.units) if any(n in self.groups[group] for p in pairs for n in p)]

    def pairs(self, unit: int) -> int:
        """Pairs of different images in a unit."""
        sizes = [(len(self.blocks[a]), len(self.blocks[b]), a == b) for a, b in self.units[unit]]
        return sum(a * (a - 1) // 2 if same else a * b for a, b, same in sizes)

    def images(self, group: int) -> int:
        """Images in a group."""
        return sum(len(self.blocks[number]) for number in self.groups[group])


def default_block(images: int) -> int:
    """Images of a block, for a store of so many.

    A unit of 32 768 x 32 768 images of 64x64 takes a minute of a core and 0.3 GB. All parts of 1.28 million images, 40
    for each, take 20 GB beside a store of 16 GB; smaller blocks would make more parts.
    """
    return _SMALL if images < _MANY else _LARGE


def _rounded_up(images: int) -> int:
    """To whole passes where there are many."""
    multiple = 1024 if images > 4096 else MULTIPLE
    return -(-images // multiple) * multiple
