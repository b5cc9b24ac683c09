"""Threads of the process: the requested number inside a block, the earlier number after it."""

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
