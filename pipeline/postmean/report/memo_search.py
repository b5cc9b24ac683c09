"""A search that remembers its results: estimators evaluated repeatedly at the same points search once."""

import numpy as np
import torch

from postmean.engine.population import Population
from postmean.neighbours.search import Neighbours, Search


class MemoSearch:
    """Searches the `most` nearest neighbours of each point once; later searches return the first k of them.

    Args:
        most: largest k that will be asked for.
    """

    def __init__(self, search: Search, most: int) -> None:
        self._search = search
        self.most = most
        """Neighbours remembered for each point; fewer in a smaller population"""
        self._known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def population(self) -> Population:
        """What is searched."""
        return self._search.population

    @property
    def is_exact(self) -> bool:
        """Whether the wrapped search is exact."""
        return self._search.is_exact

    def search(self, z: torch.Tensor, sigma: np.ndarray, k: int) -> Neighbours:
        """The k neighbours that the wrapped search finds; k is at most `most`."""
        if k > self.most:
            raise ValueError(f"k {k} is more than the {self.most} that are remembered")
        names = [row.tobytes() + s.tobytes() for row, s in zip(z.cpu().numpy(), sigma, strict=True)]
        unknown = {name: row for row, name in enumerate(names) if name not in self._known}
        if unknown:
            rows = np.array(list(unknown.values()))
            searched = self._search.search(z[torch.from_numpy(rows).to(z.device)], sigma[rows], self.most)
            self._known |= zip(unknown, zip(searched.member, searched.distance2, strict=True), strict=True)
        member, distance2 = zip(*(self._known[name] for name in names), strict=True)
        return Neighbours(np.stack(member)[:, :k], np.stack(distance2)[:, :k])
