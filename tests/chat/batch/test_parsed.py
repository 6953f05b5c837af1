"""A line of a batch's results that is garbled or nested beyond measure costs itself alone."""

from __future__ import annotations

import pytest

from harness.chat.batch.base import parsed


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900, b"{", b"[]", b"\xff", b'{"a": ' + b"9" * 5000 + b"}"])
def test_what_is_no_line_of_results_is_none(line: bytes) -> None:
    assert parsed(line) is None


def test_half_characters_are_replaced() -> None:
    assert parsed(b'{"custom_id": "\\ud800x"}') == {"custom_id": "\ufffdx"}
    assert parsed('{"text": "a\u2028b"}'.encode()) == {"text": "a\u2028b"}
