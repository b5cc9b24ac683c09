"""`postmean generate PRESET --store STORE --out OUT`."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.contract.command_line import parse_preset, print_report
from pipeline.contract.progress import Progress, duration
from pipeline.fleet.config import GenerateConfig, presets

SUMMARY = "Run a fleet of actors over the tuples of a preset and write shards of posterior means."


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config = parse_preset(presets(GenerateConfig), argv, "generate", SUMMARY)
    with stopped_by_sigterm():
        return execute(config)


def execute(config: GenerateConfig) -> int:
    """Plan, then generate what is missing, unless this is a dry run."""
    from pipeline.fleet.generate import generate
    from pipeline.fleet.job import prepare
    from pipeline.fleet.lease import refuse_if_held
    from pipeline.shards.run_folder import RunFolder
    from pipeline.shards.storage import open_storage

    folder = RunFolder(open_storage(config.out))
    if not config.dry_run:
        refuse_if_held(folder.storage)
    with Progress("plan", config.tuples, "tuples") as progress:
        job = prepare(config, folder, progress.update)
    if config.dry_run:
        from pipeline.cli.plan import show
        from pipeline.fleet.workload import of_job

        return show(config, of_job(job))
    report = generate(config, job, folder)
    share = 1 - report.records / report.tuples
    if report.written:
        text = (
            f"{report.out}: wrote {report.written} of {report.shards} shards in {duration(report.seconds)}, "
            f"{report.records_per_second:,.0f} records/s; {report.tuples:,} tuples, {report.records:,} records, "
            f"{share:.1%} certified"
        )
    else:
        text = f"{report.out}: finished already: {report.shards} shards, {report.records:,} records; nothing written"
    if report.all_finished:
        text += "; ended as all trainers have finished"
    if report.retries:
        text += f"; {report.retries} retries"
    print_report(report, text, config.json)
    return 0


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does: actors are ended, committed shards stay, the same command resumes."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
