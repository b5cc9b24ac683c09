"""What a trainer says on stderr beside its progress line: one line, or one event of the structured log."""

import sys
from typing import Any

from postmean.base.log import is_structured, log_event


def tell(event: str, text: str, **fields: Any) -> None:
    """Say something that the user did not ask for but has to know.

    Args:
        event: its name in the structured log, with `fields`.
        text: the line for people.
    """
    log_event(event, **fields)
    if not is_structured():
        print(text, file=sys.stderr, flush=True)
