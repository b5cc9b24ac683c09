"""Backward passes in Python: torch's own engine asks the CUDA driver for streams, which a stand-in does not have."""

from collections import defaultdict
from typing import Any

import torch


@torch.no_grad()
def backward(loss: torch.Tensor) -> None:
    """`loss.backward()` of a scalar: calls the nodes of its graph in order, and adds to the leaves' `grad`."""
    received: dict[Any, dict[int, torch.Tensor]] = defaultdict(dict)
    received[loss.grad_fn][loss.output_nr] = torch.ones_like(loss)
    for node in _in_order(loss.grad_fn):
        gradients = received.pop(node, {})
        if hasattr(node, "variable"):  # a leaf
            leaf, gradient = node.variable, gradients.get(0)
            if gradient is not None:
                leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient
            continue
        results = node(*(gradients.get(place) for place in range(len(node._input_metadata))))
        results = results if isinstance(results, tuple) else (results,)
        for result, (following, place) in zip(results, node.next_functions, strict=True):
            if result is not None and following is not None:
                expected = following._input_metadata[place]
                result = result.sum_to_size(expected.shape).to(expected.dtype)  # of what the forward pass broadcast
                sums = received[following]
                sums[place] = sums[place] + result if place in sums else result


def _in_order(root: Any) -> list[Any]:
    """The nodes of a graph, each before those that follow from it."""
    after, seen, stack = [], {root}, [(root, iter(root.next_functions))]
    while stack:
        node, following = stack[-1]
        for child, _ in following:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append((child, iter(child.next_functions)))
                break
        else:
            after.append(node)
            stack.pop()
    return after[::-1]
