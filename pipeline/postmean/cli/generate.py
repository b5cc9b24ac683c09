"""`postmean generate PRESET --store STORE --out OUT`."""

from postmean.base.command_line import CommandLine
from postmean.base.output import Output
from postmean.base.progress import duration
from postmean.cli.signals import stopped_by_signals
from postmean.estimators.traits import table
from postmean.runs.config import GenerateConfig, presets

COMMAND = CommandLine(
    name="generate",
    settings=GenerateConfig,
    summary="Run a fleet of actors over the tuples of a preset and write shards of posterior means.",
    main="store out tuples noise process solver flips conditional estimator tolerance format actors seed dry-run",
    presets=lambda: presets(GenerateConfig),
    choices={"estimator": table},
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    with stopped_by_signals():
        return execute(config, output)


def execute(config: GenerateConfig, output: Output) -> int:
    """Generate what is missing, or show the plan of a dry run."""
    if config.dry_run:
        return _show_plan(config, output)
    from postmean.runs.generate import generate

    report = generate(config, output.progress)
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
    output.report(report, text)
    return 0


def _show_plan(config: GenerateConfig, output: Output) -> int:
    """As `postmean plan --exact`, for the run that is in the output, if there is one."""
    from postmean.cli.plan import show
    from postmean.planning.config import MachineSettings
    from postmean.planning.plan import cost_of
    from postmean.planning.workload import of_job
    from postmean.runs.job import prepare
    from postmean.shards.run_folder import RunFolder
    from postmean.storage.open import open_storage

    job = prepare(config, RunFolder(open_storage(config.out)), output.progress)
    machines = MachineSettings(actors=config.fleet.actors)
    show(cost_of(of_job(job), machines), machines, output)
    return 0
