"""`postmean plan PRESET --store STORE`: what a generation takes, before anything runs."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from pipeline.contract.command_line import parse_preset, print_report
from pipeline.contract.errors import ConfigError
from pipeline.contract.progress import byte_size, duration
from pipeline.fleet.config import GenerateConfig, presets
from pipeline.fleet.fleets import Fleet

if TYPE_CHECKING:
    from pipeline.fleet.cost import CostPlan
    from pipeline.fleet.workload import Workload

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
        for name in ("images", "classes", "price", "records_per_second"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"--{name.replace('_', '-')}: expected a positive number, got {value}")
        if self.fleet != "here":
            Fleet.parse(self.fleet)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config = parse_preset(presets(PlanConfig, out="nowhere"), argv, "plan", SUMMARY)
    from pipeline.fleet.workload import workload

    return show(config, workload(config, config.images, config.classes))


def show(config: GenerateConfig, work: "Workload") -> int:
    """Print the cost of a workload."""
    from pipeline.fleet.cost import estimate_cost
    from pipeline.fleet.fleet import fleet_size

    plan = config if isinstance(config, PlanConfig) else _planned(config)
    fleet = None if plan.fleet == "here" else Fleet.parse(plan.fleet)
    if fleet is None:
        actors = fleet_size(plan, work.manifest.device)
    else:
        actors = plan.actors or fleet.actors(plan.threads_per_actor)
    cost = estimate_cost(work, actors, fleet, plan.price, plan.records_per_second)
    rows = _rows(cost, fleet)
    print_report(cost, "\n".join(f"{name:<10} {value}" for name, value in rows), plan.json)
    return 0


def _planned(config: GenerateConfig) -> PlanConfig:
    return PlanConfig(**{field.name: getattr(config, field.name) for field in fields(config)})


def _rows(cost: "CostPlan", fleet: Fleet | None) -> list[tuple[str, str]]:
    error = f" ± {2 * cost.records_error:.1%}" if cost.records_error else ""
    rows = [
        ("tuples", f"{cost.tuples:,}"),
        ("certified", f"{cost.certified_share:.1%} (made by the trainer)"),
        ("records", f"{cost.records:,}{error} in {cost.shards:,} shards"),
        ("rate", f"{cost.records_per_second_per_actor:,.0f} records/s an actor, {_RATES[cost.rate_is]}"),
        ("time", f"{duration(cost.seconds)} with {cost.actors} actors"),
        ("cost", _hours(cost)),
        (
            "bytes",
            f"{byte_size(cost.bytes)}: {cost.bytes_per_record:,.0f} a record, {cost.bytes_per_tuple:,.0f} a tuple",
        ),
        (
            "memory",
            f"{byte_size(cost.memory_bytes_per_actor)} an actor and {byte_size(cost.shared_memory_bytes)} shared",
        ),
    ]
    if cost.images != cost.sample_images:
        rows[0] = ("tuples", f"{cost.tuples:,} of {cost.images:,} images, extrapolated from {cost.sample_images:,}")
    if fleet is not None:
        rows[4] = (
            "time",
            f"{duration(cost.seconds)} with {cost.actors} actors on {cost.nodes} nodes: "
            f"{duration(cost.plan_seconds)} planning, {duration(cost.load_seconds)} loading",
        )
        host = cost.shared_memory_bytes + -(-cost.actors // cost.nodes) * cost.memory_bytes_per_actor
        memory = f"{byte_size(host)} of {byte_size(fleet.node.host_bytes)} a node"
        if cost.device_bytes_per_actor:
            memory += f", {byte_size(cost.device_bytes_per_actor)} of {byte_size(fleet.node.device_bytes)} a GPU"
        rows[7] = ("memory", memory + ("" if cost.fits else ": DOES NOT FIT"))
        network = (
            f"{byte_size(cost.replica_bytes)} to each node, {byte_size(cost.bytes)} written, as much read to train"
        )
        rows.append(("network", network))
    return rows


_RATES = {
    "measured": "measured on a sample here",
    "estimated": "estimated from matrix rates, not measured",
    "given": "as given",
}


def _hours(cost: "CostPlan") -> str:
    hours = f"{cost.gpu_hours:,.3g} GPU-hours" if cost.gpus else f"{cost.core_hours:,.3g} core-hours"
    return hours if cost.money is None else f"{hours}, {cost.money:,.2f} for {cost.nodes} nodes by the hour"
