"""What a report of the estimators measures: its sizes, and the methods."""

from dataclasses import dataclass, replace
from typing import Literal

from postmean.base.checks import check_at_least, check_tolerance
from postmean.base.errors import ConfigError
from postmean.estimators.traits import traits_of

Source = Literal["fixed", "redrawn"]
NETWORK = "network"
"""Name of the trained network among the methods."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """An estimator with the settings it uses; unused settings are None."""

    estimator: str
    """Name of an estimator, or `NETWORK`."""
    k: int | None = None
    """Neighbours of knn-snis and knn-stratified."""
    n: int | None = None
    """Draws of knn-snis, posterior-mc and stf."""
    m: int | None = None
    """Draws of knn-stratified beyond its neighbours."""
    index: str | None = None
    """Search of the knn estimators: exact or a FAISS index."""
    nprobe: int | None = None
    """Partitions of an inverted file to search."""
    source: Source | None = None
    """Source image of stf and single-sample. fixed: the image that z was made from, in every repetition (the paper's
    stf). redrawn: each repetition draws it from the posterior given z. The mean squared error is the same; with a fixed
    source, all error that depends on it counts as bias."""
    beta: float | None = None
    """The error is that of x + beta (estimate - x) with x the image that z was made from; None: of the estimate."""

    @property
    def is_deterministic(self) -> bool:
        """Whether every repetition would give the same mean."""
        draws = self.estimator != NETWORK and traits_of(self.estimator).draws
        return not draws and self.source != "redrawn"

    @property
    def label(self) -> str:
        """A label such as knn-snis, k 2048, n 256, ivf256-sq8 28 probes."""
        parts: list[str] = [self.estimator]
        parts += [f"{name} {value}" for name in ("k", "n", "m") if (value := getattr(self, name)) is not None]
        if self.index not in (None, "exact"):
            parts.append(f"{self.index} {self.nprobe} probes")
        parts += [f"beta {self.beta:g}"] if self.beta is not None else []
        if self.estimator == "stf" and self.source == "redrawn":
            parts.append("source redrawn")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Sizes and settings of a report. The paper's are 10 000 points and 100 repeats."""

    points: int
    """Noisy images z at each sigma, made from distinct images."""
    repeats: int
    """Evaluations of each estimator at each z, with independent random numbers."""
    sigmas: tuple[float, ...]
    k: int = 2048
    n: int = 256
    m: int = 256
    sweep_k: tuple[int, ...] = ()
    sweep_n: tuple[int, ...] = ()
    index: str | None = None
    """FAISS index whose approximate search is compared with the exact one."""
    nprobe: int = 28
    images: int = 3
    """Images in the picture grids."""
    seed: int = 0
    flips: bool = False
    tolerance: float = 1e-6
    """Mean squared error per dimension that auto may add."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, least in (("points", 2), ("repeats", 2), ("k", 1), ("n", 1), ("m", 1), ("nprobe", 1), ("images", 1)):
            check_at_least(self, name, least)
        if self.images > self.points:
            raise ConfigError(f"--images: {self.images} are more than the {self.points} of --points")
        if not self.sigmas or min(self.sigmas) <= 0:
            raise ConfigError(f"--sigmas: expected noise levels above 0, got {self.sigmas}")
        if min((*self.sweep_k, *self.sweep_n), default=1) < 1:
            raise ConfigError("--sweep-k and --sweep-n: expected at least 1")
        check_tolerance(self)

    def main_methods(self, has_network: bool) -> list[Method]:
        """Methods of the paper's Figures 3, 10 and 11, and ours."""
        methods = [
            Method(estimator="single-sample", source="redrawn"),
            Method(estimator="posterior-mc", n=self.n),
            Method(estimator="stf", n=self.n, source="fixed"),
            Method(estimator="stf", n=self.n, source="redrawn"),
            Method(estimator="knn-snis", k=self.k, n=self.n, index="exact"),
            Method(estimator="knn-stratified", k=self.k, m=self.m, index="exact"),
            Method(estimator="auto"),
        ]
        return [*methods, Method(estimator="network")] if has_network else methods

    def sweep_methods(self, n: int) -> list[Method]:
        """Methods of Figures 6 and 7: one n, several k."""
        return [
            Method(estimator="posterior-mc", n=n),
            Method(estimator="stf", n=n, source="fixed"),
            *(Method(estimator="knn-snis", k=k, n=n, index="exact") for k in sorted(self.sweep_k)),
        ]

    def search_methods(self) -> list[Method]:
        """Methods of Figure 12: exact against approximate search."""
        if self.index is None:
            return []
        return [
            Method(estimator="stf", n=self.n, source="fixed"),
            Method(estimator="knn-snis", k=self.k, n=self.n, index="exact"),
            Method(estimator="knn-snis", k=self.k, n=self.n, index=self.index, nprobe=self.nprobe),
            Method(estimator="knn-stratified", k=self.k, m=self.m, index="exact"),
            Method(estimator="knn-stratified", k=self.k, m=self.m, index=self.index, nprobe=self.nprobe),
        ]

    def methods(self, has_network: bool) -> list[Method]:
        """All methods, each once."""
        methods = self.main_methods(has_network) + self.search_methods()
        for n in self.sweep_n:
            methods += self.sweep_methods(n)
        return list(dict.fromkeys(methods))


FULL = ReportSettings(
    points=32,
    repeats=8,
    sigmas=(1.0, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 32.0, 80.0),
    sweep_k=(32, 128, 512, 2048),
    sweep_n=(256, 64),
)
"""What `postmean report` measures by default."""

QUICK = replace(FULL, points=8, repeats=4, sigmas=(1.0, 2.8, 5.6, 16.0, 80.0), k=256, sweep_k=(32, 256), sweep_n=(64,))
"""Small sizes for a first look."""
