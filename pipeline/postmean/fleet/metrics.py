"""Metrics of a run for Prometheus, through Ray: actors report records, the driver reports tuples and shards.

Ray's agent on each node exports them: a counter NAME as `ray_NAME_total`, a gauge as `ray_NAME`, a histogram as
`ray_NAME_bucket` and so on. Without an agent (plain `ray`, without its extra `default`) they are dropped.
"""

import numpy as np
from ray.util.metrics import Counter, Gauge, Histogram

from postmean.contract.records import Records
from postmean.fleet.actor import ShardDone
from postmean.fleet.outcome import Outcome

SAMPLE = 128
"""Records per shard whose quality is observed, evenly spaced: enough for a histogram, at negligible cost."""
SECONDS = [0.1 * 2**power for power in range(14)]  # to 14 minutes
ESS = [1.01, *(2.0**power for power in range(1, 21))]  # to a million samples
TAIL_MASS = [10.0**power for power in range(-12, 1)]  # 0 is in the first bucket


class ActorMetrics:
    """What one actor reports about its shards.

    Args:
        out: the run's storage URL; only its last part is exported, as the tag `run`.
    """

    def __init__(self, out: str) -> None:
        tags = {"run": run_name(out)}
        self.records = _counter("records", "Records of committed shards.", tags)
        self.bytes = _counter("bytes", "Bytes of committed shards.", tags)
        self.seconds = _histogram("shard_seconds", "Seconds of search a shard, without writing it.", SECONDS, tags)
        self.ess = _histogram("ess", "Effective sample size of records, in samples.", ESS, tags)
        self.tail_mass = _histogram("tail_mass", "Posterior mass of records not enumerated.", TAIL_MASS, tags)

    def committed(self, records: Records, size: int, seconds: float) -> None:
        """Report a committed shard of `size` bytes, whose records took `seconds` (without writing them)."""
        _add(self.records, len(records))
        _add(self.bytes, size)
        self.seconds.observe(seconds)
        rows = np.linspace(0, len(records) - 1, min(SAMPLE, len(records))).astype(np.int64)
        for histogram, column in ((self.ess, records.ess), (self.tail_mass, records.tail_mass)):
            for value in column[rows].tolist():
                histogram.observe(value)


class DriverMetrics:
    """What the driver reports about the run. A listener of the fleet.

    Args:
        out: as for the actors.
        tuples: in the plan.
        records: in the plan.
    """

    def __init__(self, out: str, tuples: int, records: int) -> None:
        tags = {"run": run_name(out)}
        self.tuples = _counter(
            "tuples", "Tuples from first to last of committed shards, certified ones included.", tags
        )
        self.retries = _counter("retries", "Attempts at a shard that failed and were followed by another.", tags)
        self.failed_shards = _counter("failed_shards", "Shards given up.", tags)
        self.searched_share = _gauge("searched_share", "Records of the plan by its tuples.", tags)
        self.queue_depth = _gauge("queue_depth", "Shards that wait for an actor.", tags)
        self.actors_ready = _gauge("actors_ready", "Actors that have loaded the store.", tags)
        self._share = records / tuples
        self._retries = 0

    def made(self, shard: ShardDone) -> None:
        _add(self.tuples, shard["tuples"])

    def failed(self, shard: int, cause: str) -> None:
        self.failed_shards.inc()

    def tick(self, outcome: Outcome) -> None:
        # set gauges even if nothing changed: a gauge that is not set disappears
        _add(self.retries, outcome.retries - self._retries)
        self._retries = outcome.retries
        self.searched_share.set(self._share)
        self.queue_depth.set(outcome.waiting)
        self.actors_ready.set(outcome.ready)


def run_name(out: str) -> str:
    """The last part of a storage URL, without what may grant access."""
    return out.split("?")[0].rstrip("/").rsplit("/", 1)[-1].rsplit("@", 1)[-1]


def _add(counter: Counter, amount: int) -> None:
    if amount > 0:  # Ray refuses 0
        counter.inc(int(amount))


def _counter(name: str, text: str, tags: dict[str, str]) -> Counter:
    counter = Counter(f"postmean_{name}", text, tuple(tags))
    counter.set_default_tags(tags)
    return counter


def _gauge(name: str, text: str, tags: dict[str, str]) -> Gauge:
    gauge = Gauge(f"postmean_{name}", text, tuple(tags))
    gauge.set_default_tags(tags)
    return gauge


def _histogram(name: str, text: str, boundaries: list[float], tags: dict[str, str]) -> Histogram:
    histogram = Histogram(f"postmean_{name}", text, boundaries, tuple(tags))
    histogram.set_default_tags(tags)
    return histogram
