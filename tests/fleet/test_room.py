"""How many actors fit on the nodes of a cluster."""

import pytest

from postmean.base.errors import ConfigError
from postmean.fleet.room import actors_that_fit

GB = 10**9
HEAD = {"CPU": 0.0, "memory": 20.0 * GB}
NODES = [
    HEAD,
    {"CPU": 8.0, "GPU": 2.0, "memory": 7.0 * GB},
    {"CPU": 16.0, "memory": 9.0 * GB},
    {"GPU": 8.0, "trainer": 1.0},
]


@pytest.mark.parametrize(
    ("asked", "fit"),
    [
        ((1, 0, 0), 24),
        ((1, 0, 2 * GB), 3 + 4),
        ((3, 0, 0), 2 + 5),
        ((1, 1, 0), 2),  # not on the trainer, which offers no CPU
        ((1, 1, 4 * GB), 1),
        ((32, 0, 0), 1),  # an autoscaler may bring such a node
        ((32, 0, 100 * GB), 1),
    ],
)
def test_a_node_has_as_many_as_each_of_its_resources_allows(asked: tuple[int, int, int], fit: int) -> None:
    assert actors_that_fit(NODES, *asked) == fit


def test_memory_that_no_node_has_is_an_error_that_says_so() -> None:
    with pytest.raises(ConfigError, match=r"an actor needs 12.0 GB of memory, .* largest offers 9.0 GB: add larger"):
        actors_that_fit(NODES, 1, 0, 12 * GB)
    with pytest.raises(ConfigError, match=r"largest offers 7.0 GB"):
        actors_that_fit(NODES, 1, 1, 8 * GB)
    assert actors_that_fit([HEAD], 1, 0, 30 * GB) == 1
