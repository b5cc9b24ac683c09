"""`postmean plan PRESET --store STORE`: what a generation takes, before anything runs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postmean.base.checks import check_at_least_one, check_positive
from postmean.base.command_line import parse_preset, print_report
from postmean.base.progress import byte_size, duration
from postmean.planning.machines import Fleet
from postmean.runs.config import GenerateConfig, presets

if TYPE_CHECKING:
    from postmean.planning.cost import CostPlan
    from postmean.planning.workload import Workload

SUMMARY = "Show tuples, records, certified share, time, bytes and memory of a generation; writes nothing."


@dataclass(frozen=True, kw_only=True)
class PlanConfig(GenerateConfig):
    """A generation, and the data set and machines that it is planned for."""

    images: int | None = None
    """Images of the data set that the store is a random sample of; default the store is all of it."""
    classes: int | None = None
    """Classes of that data set, if the sample has not all of them; used with --conditional."""
    fleet: str = "here"
    """Machines: here, or nodes and their kind, as 2x8-h100, 1x8-a100, 16x1-l40s, 16xc7i."""
    price: float | None = None
    """Price of a node-hour, in any currency."""
    records_per_second: float | None = None
    """Rate of one actor of the fleet, where it was measured there (this command says it); default an estimate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, ("images", "classes"))
        check_positive(self, ("price", "records_per_second"))
        if self.fleet != "here":
            Fleet.parse(self.fleet)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config = parse_preset(presets(PlanConfig, out="nowhere"), argv, "plan", SUMMARY)
    from postmean.planning.workload import workload

    fleet = None if config.fleet == "here" else Fleet.parse(config.fleet)
    return show(config, workload(config, config.images, config.classes), fleet, config.price, config.records_per_second)


def show(
    config: GenerateConfig,
    work: "Workload",
    fleet: Fleet | None = None,
    price: float | None = None,
    records_per_second: float | None = None,
) -> int:
    """Print the cost of a workload, on this machine where no fleet is named."""
    from postmean.fleet.open_fleet import fleet_size
    from postmean.planning.cost import estimate_cost

    if fleet is None:
        actors = fleet_size(config, work.manifest.device)
    else:
        actors = config.actors or fleet.actors(config.threads_per_actor)
    cost = estimate_cost(work, actors, fleet, price, records_per_second)
    rows = {
        "tuples": _tuples(cost),
        "certified": f"{cost.certified_share:.1%} (made by the trainer)",
        "records": _records(cost),
        "rate": f"{cost.records_per_second_per_actor:,.0f} records/s an actor, {_RATES[cost.rate_is]}",
        "time": _time(cost, fleet),
        "cost": _hours(cost),
        "bytes": f"{byte_size(cost.bytes)}: {cost.bytes_per_record:,.0f} a record, {cost.bytes_per_tuple:,.0f} a tuple",
        "memory": _memory(cost, fleet),
    }
    if fleet is not None:
        rows["network"] = (
            f"{byte_size(cost.replica_bytes)} to each node, {byte_size(cost.bytes)} written, as much read to train"
        )
    print_report(cost, "\n".join(f"{name:<10} {value}" for name, value in rows.items()), config.json)
    return 0


def _tuples(cost: "CostPlan") -> str:
    more = f" of {cost.images:,} images, extrapolated from {cost.sample_images:,}"
    return f"{cost.tuples:,}" + (more if cost.images != cost.sample_images else "")


def _records(cost: "CostPlan") -> str:
    error = f" ± {2 * cost.records_error:.1%}" if cost.records_error else ""
    return f"{cost.records:,}{error} in {cost.shards:,} shards"


def _time(cost: "CostPlan", fleet: Fleet | None) -> str:
    time = f"{duration(cost.seconds)} with {cost.actors} actors"
    if fleet is None:
        return time
    parts = f"{duration(cost.plan_seconds)} planning, {duration(cost.load_seconds)} loading"
    return f"{time} on {cost.nodes} nodes: {parts}"


def _memory(cost: "CostPlan", fleet: Fleet | None) -> str:
    if fleet is None:
        return f"{byte_size(cost.memory_bytes_per_actor)} an actor and {byte_size(cost.shared_memory_bytes)} shared"
    host = cost.shared_memory_bytes + -(-cost.actors // cost.nodes) * cost.memory_bytes_per_actor
    memory = f"{byte_size(host)} of {byte_size(fleet.node.host_bytes)} a node"
    if cost.device_bytes_per_actor:
        memory += f", {byte_size(cost.device_bytes_per_actor)} of {byte_size(fleet.node.device_bytes)} a GPU"
    return memory + ("" if cost.fits else ": DOES NOT FIT")


_RATES = {
    "measured": "measured on a sample here",
    "estimated": "estimated from matrix rates, not measured",
    "given": "as given",
}


def _hours(cost: "CostPlan") -> str:
    hours = f"{cost.gpu_hours:,.3g} GPU-hours" if cost.gpus else f"{cost.core_hours:,.3g} core-hours"
    return hours if cost.money is None else f"{hours}, {cost.money:,.2f} for {cost.nodes} nodes by the hour"
