"""`postmean serve PRESET --store STORE`: targets made as trainers ask for them."""

import sys

from postmean.base.command_line import parse_preset
from postmean.base.extras import check_installed
from postmean.base.log import is_structured, log_event
from postmean.base.progress import Progress
from postmean.cli.signals import stopped_by_sigterm
from postmean.estimators.traits import table
from postmean.runs.config import ServeConfig, presets

SUMMARY = "Make targets live, as trainers ask for them: nothing is written. Ends with Ctrl-C; trainers wait meanwhile."


def run(argv: list[str]) -> int:
    """Entry point of the command; it ends by a signal or an error alone."""
    config = parse_preset(presets(ServeConfig), argv, "serve", SUMMARY, {"estimator": tuple(table())})
    from postmean.runs.job import prepare
    from postmean.runs.live import serve
    from postmean.storage.serve_token import find_or_make_token, token_file

    check_installed("generate", "ray")  # before it plans for minutes
    token = find_or_make_token()
    with stopped_by_sigterm():
        with Progress("plan", config.tuples, "tuples") as progress:
            job = prepare(config, None, progress.update)

        def on_ready(port: int) -> None:
            log_event("serving", tuples=job.manifest.tuples, host=config.host, port=port)
            if is_structured():
                return
            print(
                f"serving {job.manifest.tuples:,} tuples at http://{config.host}:{port}; token in {token_file()}\n"
                f"postmean train ... --targets http://{config.host}:{port} --follow-seconds 600",
                file=sys.stderr,
                flush=True,
            )

        serve(config, job, token, on_ready)
    return 0
