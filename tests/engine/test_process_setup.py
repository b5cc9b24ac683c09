"""Threads and denormal numbers of the process: as the engine wants them inside a block, as before after it."""

import pytest
import torch

from postmean.engine.process_setup import threads


def test_a_block_has_its_threads_and_gives_back_those_from_before() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
        with pytest.raises(KeyError), threads(1):
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_denormal_numbers_are_flushed_inside_a_block_alone() -> None:
    denormal = torch.full((4,), 1e-40)
    with threads(1):
        with threads(1):
            assert float((denormal * 1).sum()) == 0
        assert float((denormal * 1).sum()) == 0
    assert float((denormal * 1).sum()) > 0
