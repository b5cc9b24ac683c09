"""`postmean serve PRESET --store STORE`: make targets as trainers ask for them."""

from postmean.base.command_line import CommandLine
from postmean.base.log import tell
from postmean.cli.signals import stopped_by_signals
from postmean.estimators.traits import table
from postmean.runs.config import ServeConfig, presets

COMMAND = CommandLine(
    name="serve",
    settings=ServeConfig,
    summary="Make targets live, as trainers ask for them: nothing is written. Ctrl-C ends it; trainers wait meanwhile.",
    main="store tuples host port trainers noise process solver flips conditional estimator tolerance actors seed",
    presets=lambda: presets(ServeConfig),
    choices={"estimator": table},
)


def run(argv: list[str]) -> int:
    """Entry point of the command; a signal or an error ends it."""
    config, output = COMMAND.parse(argv)
    from postmean.runs.live import serve  # here: torch takes seconds
    from postmean.storage.serve_token import token_place

    def on_ready(port: int) -> None:
        url = _url(config, port)
        about = {"tuples": config.tuples, "host": config.host, "port": port, "url": url}
        text = f"serving {config.tuples:,} tuples at {url}; token in {token_place()}"
        tell("serving", f"{text}\npostmean train ... --targets {url} --follow-seconds 600", **about)
        if output.json:
            output.report(about, "")

    with stopped_by_signals():
        serve(config, on_ready, output.progress)
    return 0


def _url(config: ServeConfig, port: int) -> str:
    scheme = "http" if config.tls_certificate is None else "https"
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"{scheme}://{host}:{port}"
