"""The `postmean` command: one line per subcommand here, one file per subcommand elsewhere, imported when called."""

import importlib
import os
import sys
from collections.abc import Callable

from postmean.base.errors import PostmeanError
from postmean.base.log import is_structured, log_event
from postmean.base.one_line import printable
from postmean.base.streams import prepare_streams

COMMANDS: dict[str, tuple[str, str]] = {
    "import": ("postmean.cli.import_images", "read a data set into an image store"),
    "index": ("postmean.cli.index", "build the neighbour index and the certificate of a store"),
    "plan": ("postmean.cli.plan", "show tuples, records, time, bytes and memory before anything runs"),
    "generate": ("postmean.cli.generate", "run the fleet: write shards of posterior means"),
    "serve": ("postmean.cli.serve", "make targets live, as trainers ask for them; nothing is written"),
    "verify": ("postmean.cli.verify", "re-hash shards and recompute a sample exactly in float64"),
    "export": ("postmean.cli.export", "write the records of a run as tables for other tools"),
    "report": ("postmean.cli.report", "a page of a run or of a store; errors of all estimators"),
    "status": ("postmean.cli.status", "how far a run is, and whether it goes on"),
    "train": ("postmean.training.cli.train", "train a denoiser or consistency model on the targets"),
    "sample": ("postmean.training.cli.sample", "draw images from a checkpoint"),
    "evaluate": ("postmean.training.cli.evaluate", "FID and Inception Score of sampled images"),
    "demo": ("postmean.cli.demo", "the whole way on small real data: images to a trained model"),
}


def main() -> None:
    """Entry point of the `postmean` command."""
    prepare_streams()
    # read when torch and FAISS are loaded: by default waiting threads spin, and where cores are shared they take them
    # from working threads (training the demo beside other jobs was ten times slower)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        raise SystemExit(run(arguments[0], arguments[1:]))
    raise SystemExit(_call("", lambda: _without_command(arguments)))


def run(command: str, arguments: list[str]) -> int:
    """Run one subcommand; a `PostmeanError` becomes one line on stderr and its exit code."""
    return _call(command, lambda: importlib.import_module(COMMANDS[command][0]).run(arguments))


def _without_command(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from postmean.contract.manifest import code_version

        print(f"postmean {code_version()}")
        return 0
    raise PostmeanError(f"no command {arguments[0]!r}: it is one of {', '.join(COMMANDS)}")


def _call(command: str, work: Callable[[], int]) -> int:
    try:
        return work()
    except PostmeanError as error:
        _say(command, str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say(command, "interrupted: run the same command again to go on")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # of a file or folder of the user, where nothing else has said so
        if error.filename is None or error.strerror is None:
            raise
        _say(command, f"{error.filename}: {error.strerror}: check the path, its permissions and the space on its disk")
        return PostmeanError.exit_code


def _say(command: str, message: str) -> None:
    message = printable(message)  # a path may hold line ends
    if is_structured():
        log_event("error", command=command, message=message)
    else:
        print(f"{' '.join(['postmean', command]).strip()}: {message}", file=sys.stderr)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        ["usage: postmean COMMAND ...", "", *lines, "", "postmean COMMAND --help shows the flags of a command."]
    )


if __name__ == "__main__":
    main()
