"""The `postmean` command: finds the subcommand, and turns errors into one line and an exit code."""

import os
import sys
import traceback
from collections.abc import Callable

from postmean.base.errors import PostmeanError
from postmean.base.log import is_verbose, tell_error
from postmean.base.one_line import printable
from postmean.base.streams import prepare_streams
from postmean.base.suggest import choice
from postmean.cli.commands import COMMANDS, GROUPS


def main() -> None:
    """Entry point of the `postmean` command."""
    prepare_streams()
    # read when torch and FAISS are loaded: by default waiting threads spin, and where cores are shared they take them
    # from working threads (training the demo beside other jobs was ten times slower)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if os.environ.get("NO_COLOR"):
        os.environ["PYTHON_TYRO_ANSI_CODES"] = "False"  # tyro, which reads it when it is loaded, has a name of its own
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        raise SystemExit(run(arguments[0], arguments[1:]))
    raise SystemExit(_call("", lambda: _without_command(arguments)))


def run(command: str, arguments: list[str]) -> int:
    """Run one subcommand; a `PostmeanError` becomes one line on stderr and its exit code."""
    return _call(command, lambda: COMMANDS[command].load().run(arguments))


def _without_command(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "--help-all", "help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from postmean.contract.manifest import code_version

        print(f"postmean {code_version()}")
        return 0
    raise PostmeanError(f"no command {arguments[0]!r}{choice(arguments[0], COMMANDS)}")


def _call(command: str, work: Callable[[], int]) -> int:
    try:
        return work()
    except PostmeanError as error:
        if is_verbose():
            traceback.print_exc()
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
    tell_error(f"{' '.join(['postmean', command]).strip()}: {message}", command, message)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = ["usage: postmean COMMAND ..."]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<{width}}  {command.summary}" for name, command in commands.items())]
    return "\n".join([*lines, "", "postmean COMMAND --help shows the flags that matter, --help-all every flag."])


if __name__ == "__main__":
    main()
