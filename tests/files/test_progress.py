"""Progress: plain lines where there is no terminal, bars on one, nothing when quiet; standard output is never touched."""

from __future__ import annotations

import contextlib
import io

import pytest
from helpers.waiting import wait_for

from harness.files.progress import Progress
from harness.files.progress_lines import Line, clock


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(progress: Progress, error: io.StringIO) -> str:
    """What a little work shows on ``error``."""
    out = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(out):
        progress.step("starting [x] runs/a")
        assert list(progress.track(range(8), "counting")) == list(range(8))
        with progress.task("outer", 2) as advance:
            progress.step("within [y]")
            with progress.gauge("inner") as gauge:
                for done in (1, 2, 4, 4):  # 1 was done before
                    gauge(done, 4)
            advance(2)
        assert list(progress.track(iter("ab"), "unknown length")) == ["a", "b"]
    assert out.getvalue() == ""
    return error.getvalue()


def test_without_a_terminal_there_is_a_line_each_quarter() -> None:
    assert shown(Progress(), io.StringIO()).splitlines() == [
        "starting [x] runs/a", "counting (0/8)", "counting (2/8)", "counting (4/8)", "counting (6/8)", "counting (8/8)", "outer (0/2)",
        "within [y]", "inner (1/4)", "inner (2/4)", "inner (4/4)", "outer (2/2)", "unknown length",
    ]  # fmt: skip


def test_on_a_terminal_there_are_bars_and_messages_are_no_markup() -> None:
    text = shown(Progress(), Terminal())
    for part in ("starting [x] runs/a", "within [y]", "counting", "8/8", "outer", "inner", "4/4"):
        assert part in text, part


def test_quiet_shows_nothing() -> None:
    assert shown(Progress(quiet=True), io.StringIO()) == shown(Progress(quiet=True), Terminal()) == ""


def test_what_stands_beside_a_bar_may_change() -> None:
    """On a terminal only: elsewhere a line is written at the start and each quarter, whatever there is to say."""
    error = Terminal()
    with contextlib.redirect_stderr(error), Progress().task("rating", 2) as advance:
        advance(1)
        advance.describe("rating · $0.12")
        advance(1)
    assert "rating · $0.12" in error.getvalue()
    with contextlib.redirect_stderr(io.StringIO()), Progress().task("rating", 2) as plain, Progress(quiet=True).task("rating", 2) as quiet:
        assert plain.describe is None
        assert quiet.describe is None


def test_a_line_is_written_while_no_unit_ends() -> None:
    """A stalled transfer is not silent, and says what has come and how much there is."""
    error = io.StringIO()
    with contextlib.redirect_stderr(error), Line("downloading x", 4_000_000, 0.25, False, in_bytes=True, seconds=0.02) as line:
        line(500_000)
        wait_for(lambda: error.getvalue().count("\n") >= 3)
    lines = error.getvalue().splitlines()
    assert lines[0] == "downloading x (4.0 MB)"
    assert len(lines) > 2
    assert all("0.5 MB/4.0 MB" in shown and "so far" in shown for shown in lines[1:])


def test_how_long_the_rest_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("harness.files.progress_lines.time.monotonic", lambda: now[0])
    with contextlib.redirect_stderr(io.StringIO()):
        line = Line("downloading x", 8_000_000_000, 0.25, False, in_bytes=True)
        line(1_000_000_000)
        now[0] += 90
        assert line.how_far() == "1.00 GB/8.00 GB, 10:30 left"
        line(7_000_000_000)
        assert line.how_far() == "8.00 GB/8.00 GB"
        goes_on = Line("reading", 100, 0.25, False, done=60)
        goes_on(10)
        now[0] += 90
        assert goes_on.how_far() == "70/100, 4:30 left"
    assert [clock(seconds) for seconds in (5, 75, 11_230)] == ["0:05", "1:15", "3:07:10"]


def test_a_transfer_is_shown_in_bytes_on_a_terminal() -> None:
    error = Terminal()
    with contextlib.redirect_stderr(error), Progress().transfer("downloading x", 5_000_000) as advance:
        advance(2_500_000)
    assert "2.5/5.0 MB" in error.getvalue()
    quiet = io.StringIO()
    with contextlib.redirect_stderr(quiet), Progress(quiet=True).transfer("downloading x", 5_000_000) as advance:
        advance(2_500_000)
    assert quiet.getvalue() == ""
