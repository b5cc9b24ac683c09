"""`postmean serve PRESET --store STORE`: make targets as trainers ask for them."""

import sys

from postmean.base.command_line import parse_preset
from postmean.base.log import is_structured, log_event
from postmean.base.progress import Progress
from postmean.cli.signals import stopped_by_signals
from postmean.estimators.traits import table
from postmean.runs.config import ServeConfig, presets

SUMMARY = "Make targets live, as trainers ask for them: nothing is written. Ends with Ctrl-C; trainers wait meanwhile."


def run(argv: list[str]) -> int:
    """Entry point of the command; a signal or an error ends it."""
    config = parse_preset(presets(ServeConfig), argv, "serve", SUMMARY, {"estimator": tuple(table())})
    from postmean.runs.live import serve  # here: torch takes seconds
    from postmean.storage.serve_token import token_place

    def on_ready(port: int) -> None:
        url = _url(config, port)
        log_event("serving", tuples=config.tuples, host=config.host, port=port, url=url)
        if is_structured():
            return
        print(
            f"serving {config.tuples:,} tuples at {url}; token in {token_place()}\n"
            f"postmean train ... --targets {url} --follow-seconds 600",
            file=sys.stderr,
            flush=True,
        )

    with stopped_by_signals():
        serve(config, on_ready, Progress)
    return 0


def _url(config: ServeConfig, port: int) -> str:
    scheme = "http" if config.tls_certificate is None else "https"
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"{scheme}://{host}:{port}"
