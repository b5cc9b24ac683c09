"""`postmean generate PRESET --store STORE --out OUT`."""

from postmean.base.command_line import parse_preset, print_report
from postmean.base.extras import check_installed
from postmean.base.progress import Progress, duration
from postmean.cli.signals import stopped_by_sigterm
from postmean.estimators.traits import table
from postmean.runs.config import GenerateConfig, presets

SUMMARY = "Run a fleet of actors over the tuples of a preset and write shards of posterior means."


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config = parse_preset(presets(GenerateConfig), argv, "generate", SUMMARY, {"estimator": tuple(table())})
    with stopped_by_sigterm():
        return execute(config)


def execute(config: GenerateConfig) -> int:
    """Plan, then generate what is missing, unless this is a dry run."""
    from postmean.runs.generate import generate
    from postmean.runs.job import prepare
    from postmean.runs.lease import refuse_if_held
    from postmean.shards.run_folder import RunFolder
    from postmean.storage.open import open_storage

    folder = RunFolder(open_storage(config.out))
    if not config.dry_run:
        check_installed("generate", "ray")  # before it plans for minutes
        refuse_if_held(folder.storage)
    with Progress("plan", config.tuples, "tuples") as progress:
        job = prepare(config, folder, progress.update)
    if config.dry_run:
        from postmean.cli.plan import show
        from postmean.planning.config import MachineSettings
        from postmean.planning.workload import of_job

        return show(of_job(job), MachineSettings(actors=config.fleet.actors), config.json)
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
