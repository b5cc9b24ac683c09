"""`postmean plan PRESET --store STORE`: what a generation takes, before anything runs."""

from typing import TYPE_CHECKING

from pipeline.contract.command_line import parse_preset, print_report
from pipeline.contract.progress import Progress, byte_size, duration
from pipeline.fleet.config import GenerateConfig, presets

if TYPE_CHECKING:
    from pipeline.fleet.job import Job

SUMMARY = "Show tuples, records, certified share, time, bytes and memory of a generation; writes nothing."


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config = parse_preset(presets(GenerateConfig, out="nowhere"), argv, "plan", SUMMARY)
    from pipeline.fleet.job import prepare

    with Progress("plan", config.tuples, "tuples") as progress:
        job = prepare(config, None, progress.update)
    return show(config, job)


def show(config: GenerateConfig, job: "Job") -> int:
    """Print the cost of a prepared job."""
    from pipeline.fleet.cost import estimate_cost
    from pipeline.fleet.fleet import fleet_size

    cost = estimate_cost(job, fleet_size(config, job.manifest.device))
    rows = [
        ("tuples", f"{cost.tuples:,}"),
        ("certified", f"{cost.certified_share:.1%} (made by the trainer)"),
        ("records", f"{cost.records:,} in {cost.shards:,} shards"),
        ("rate", f"{cost.records_per_second_per_actor:,.0f} records/s an actor, measured on a sample here"),
        ("time", f"{duration(cost.seconds)} with {cost.actors} actors"),
        (
            "bytes",
            f"{byte_size(cost.bytes)}: {cost.bytes_per_record:,.0f} a record, {cost.bytes_per_tuple:,.0f} a tuple",
        ),
        (
            "memory",
            f"{byte_size(cost.memory_bytes_per_actor)} an actor and {byte_size(cost.shared_memory_bytes)} shared",
        ),
    ]
    print_report(cost, "\n".join(f"{name:<10} {value}" for name, value in rows), config.json)
    return 0
