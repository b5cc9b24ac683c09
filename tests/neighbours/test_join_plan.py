"""The plan of the self-join: every pair of images of a population in exactly one unit, whatever the sizes."""

from collections import Counter
from itertools import combinations

import pytest

from postmean.neighbours.join_plan import JoinPlan, default_block

SIZES = {
    "one population": [(None, 100)],
    "of one image": [(None, 1)],
    "smaller than a block": [(None, 15)],
    "classes of all sizes": [(0, 70), (1, 3), (2, 0), (3, 4), (4, 33), (5, 1), (6, 1), (7, 15), (8, 16), (9, 2)],
}


@pytest.mark.parametrize("block", [1, 16, 32, 1000])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_every_pair_is_in_one_unit_and_every_image_in_one_group(sizes, block):
    plan = JoinPlan.of(sizes, block)
    images = [[(b.label, i) for i in range(b.start, b.stop)] for b in plan.blocks]
    joined = Counter()
    for unit, pairs in enumerate(plan.units):
        before = joined.total()
        for a, b in pairs:
            assert plan.blocks[a].label == plan.blocks[b].label
            found = combinations(images[a], 2) if a == b else ((i, j) for i in images[a] for j in images[b])
            joined.update(frozenset(pair) for pair in found)
        assert joined.total() - before == plan.pairs(unit)
    expected = {frozenset(((label, i), (label, j))) for label, n in sizes for i, j in combinations(range(n), 2)}
    assert set(joined) == expected and set(joined.values()) <= {1}
    grouped = [image for group in plan.groups for number in group for image in images[number]]
    assert sorted(grouped) == sorted((label, i) for label, n in sizes for i in range(n))
    for group, blocks in enumerate(plan.groups):
        touching = [unit for unit in range(len(plan.units)) if set(plan.touched(unit)) & set(blocks)]
        assert plan.units_of(group) == touching and plan.images(group) == sum(len(images[n]) for n in blocks)


def test_neither_units_nor_groups_grow_with_the_number_of_images():
    """A million images: blocks, and so the memory of a unit and of a merge, are no larger than those of 300 000."""
    for images in (300_000, 1_281_167, 10_000_000):
        plan = JoinPlan.of([(None, images)], default_block(images))
        assert max(map(len, plan.blocks)) <= 32_768
        assert max(len(plan.touched(unit)) for unit in range(len(plan.units))) == 2
        assert {len(group) for group in plan.groups} == {1}


def test_blocks_start_at_multiples_that_a_gpu_wants():
    for images in (100, 5000, 70_000):
        assert all(block.start % 16 == 0 for block in JoinPlan.of([(None, images)], 1000).blocks)
