"""Each message that docs/troubleshooting.md quotes is one that the code has."""

import re

import pytest

from tests.docs.messages import ROOT, is_message

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
QUOTED = [
    line for fence in re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in fence.splitlines()
]


@pytest.mark.parametrize("line", QUOTED)
def test_a_quoted_message_is_in_the_code(line: str) -> None:
    assert is_message(line)


def test_a_message_that_no_code_has_would_be_noticed() -> None:
    assert len(QUOTED) > 30
    assert not is_message("…: no image store here (no header.json): make one with `postmean import SOURCE …`")
