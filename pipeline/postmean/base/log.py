"""The structured log for log collectors: with POSTMEAN_LOG=json set, stderr holds one JSON object per line.

Every object has `time` (UTC, ISO 8601) and `event`; docs/operating.md lists the events.
"""

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any


def is_structured() -> bool:
    """Whether the log is structured."""
    return os.environ.get("POSTMEAN_LOG") == "json"


def log_event(event: str, **fields: Any) -> None:
    """Write one line if the log is structured, else nothing: people have the progress line and `postmean status`."""
    if is_structured():
        plain = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event} | fields
        sys.stderr.write(json.dumps(plain, default=str) + "\n")
        sys.stderr.flush()
