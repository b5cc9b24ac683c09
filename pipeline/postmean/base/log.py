"""What commands say on stderr beside their progress: the logger `postmean` of the standard library.

For people: lines that they have to know, with --verbose also the events, with --quiet only errors. For log collectors,
with POSTMEAN_LOG=json set: one JSON object per line, with `time` (UTC, ISO 8601) and `event`; docs/operating.md lists
the events.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

LOGGER = logging.getLogger("postmean")
LOGGER.setLevel(logging.DEBUG)  # the handler below decides what people see; others may be added
LOGGER.propagate = False


def is_structured() -> bool:
    """Whether the log is structured."""
    return os.environ.get("POSTMEAN_LOG") == "json"


def set_verbosity(quiet: bool = False, verbose: bool = False) -> None:
    """Set what people see from now on: errors alone, or events too."""
    _HANDLER.least = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO


def is_quiet() -> bool:
    """Whether people see errors alone."""
    return _HANDLER.least >= logging.ERROR


def is_verbose() -> bool:
    """Whether people see events too."""
    return _HANDLER.least <= logging.DEBUG


def log_event(event: str, **fields: Any) -> None:
    """Log one event: most people have the progress line and `postmean status` instead."""
    text = ", ".join(f"{name} {value}" for name, value in fields.items())
    _log(logging.DEBUG, event, f"{event}: {text}" if text else event, fields)


def tell(event: str, text: str, **fields: Any) -> None:
    """Say something that the user did not ask for but has to know.

    Args:
        event: its name in the structured log, with `fields`.
        text: the line for people.
    """
    _log(logging.INFO, event, text, fields)


def tell_error(text: str, command: str, message: str) -> None:
    """Say why a command ends: `text` to people, the message in the structured log."""
    _log(logging.ERROR, "error", text, {"command": command, "message": message})


def _log(level: int, event: str, text: str, fields: dict[str, Any]) -> None:
    LOGGER.log(level, text, extra={"event": event, "fields": fields})


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to the stderr of the moment, which tests and commands replace."""

    least = logging.INFO
    """Lowest level that people see."""

    def emit(self, record: logging.LogRecord) -> None:
        if is_structured() or record.levelno >= self.least:
            self.stream = sys.stderr
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        if not is_structured():
            return record.getMessage()
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        plain = {"time": time, "event": getattr(record, "event", record.getMessage())} | getattr(record, "fields", {})
        return json.dumps(plain, default=str)


_HANDLER = _Stderr()
LOGGER.addHandler(_HANDLER)
