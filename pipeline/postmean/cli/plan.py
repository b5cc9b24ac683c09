"""`postmean plan PRESET --store STORE`: what a generation costs, before anything runs."""

from typing import TYPE_CHECKING

from postmean.base.command_line import CommandLine
from postmean.base.output import Output
from postmean.base.progress import byte_size, duration
from postmean.estimators.traits import table
from postmean.planning.config import MachineSettings, PlanConfig
from postmean.planning.machines import Machines
from postmean.runs.config import presets

if TYPE_CHECKING:
    from postmean.planning.cost import CostPlan

COMMAND = CommandLine(
    name="plan",
    settings=PlanConfig,
    summary="Show tuples, records, certified share, time, bytes and memory of a generation; writes nothing.",
    main="store tuples fleet price images noise process solver flips conditional estimator tolerance format actors",
    presets=lambda: presets(PlanConfig),
    choices={"estimator": table},
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    from postmean.planning.plan import plan  # here: torch takes seconds

    show(plan(config, output.progress), config.machines, output)
    return 0


def show(cost: "CostPlan", settings: MachineSettings, output: Output) -> None:
    """Print a plan."""
    machines = settings.machines
    rows = {
        "tuples": _tuples(cost),
        "certified": f"{cost.certified_share:.1%} (made by the trainer)",
        "records": _records(cost),
        "rate": f"{cost.records_per_second_per_actor:,.0f} records/s an actor, {_RATES[cost.rate_is]}",
        "time": _time(cost),
        "cost": _hours(cost),
        "index": _index(cost),
        "bytes": f"{byte_size(cost.bytes)}: {cost.bytes_per_record:,.0f} a record, {cost.bytes_per_tuple:,.0f} a tuple",
        "memory": _memory(cost, machines),
    }
    if machines is not None:
        rows["network"] = (
            f"{byte_size(cost.replica_bytes)} to each node, {byte_size(cost.bytes)} written, as much read to train"
        )
    output.report(cost, "\n".join(f"{name:<10} {value}" for name, value in rows.items()))


def _tuples(cost: "CostPlan") -> str:
    more = f" of {cost.images:,} images, extrapolated from {cost.sample_images:,}"
    return f"{cost.tuples:,}" + (more if cost.images != cost.sample_images else "")


def _records(cost: "CostPlan") -> str:
    error = f" ± {2 * cost.records_error:.1%}" if cost.records_error else ""
    return f"{cost.records:,}{error} in {cost.shards:,} shards"


def _time(cost: "CostPlan") -> str:
    time = f"{duration(cost.seconds)} with {cost.actors} actors"
    if cost.fleet == "here":
        return time
    parts = f"{duration(cost.plan_seconds)} planning, {duration(cost.load_seconds)} loading"
    return f"{time} on {cost.nodes} nodes: {parts}"


def _memory(cost: "CostPlan", machines: Machines | None) -> str:
    if machines is None:
        return f"{byte_size(cost.memory_bytes_per_actor)} an actor and {byte_size(cost.shared_memory_bytes)} shared"
    host = cost.shared_memory_bytes + -(-cost.actors // cost.nodes) * cost.memory_bytes_per_actor
    memory = f"{byte_size(host)} of {byte_size(machines.node.host_bytes)} a node"
    if cost.device_bytes_per_actor:
        memory += f", {byte_size(cost.device_bytes_per_actor)} of {byte_size(machines.node.device_bytes)} a GPU"
    return memory + ("" if cost.fits else ": DOES NOT FIT")


_RATES = {
    "measured": "measured on a sample here",
    "estimated": "estimated from matrix rates, not measured",
    "given": "as given",
}


def _hours(cost: "CostPlan") -> str:
    hours = f"{cost.gpu_hours:,.3g} GPU-hours" if cost.gpus else f"{cost.core_hours:,.3g} core-hours"
    return hours if cost.money is None else f"{hours}, {cost.money:,.2f} for {cost.nodes} nodes by the hour"


def _index(cost: "CostPlan") -> str:
    hours, kind = (cost.index_gpu_hours, "GPU") if cost.gpus else (cost.index_core_hours, "core")
    return f"{hours:,.3g} {kind}-hours for the self-join, once a data set"
