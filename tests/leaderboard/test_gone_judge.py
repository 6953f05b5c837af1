"""Entries by a judge whose model was shut down are marked, and no others."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from harness.chat import retirement
from harness.leaderboard.entry import JudgeRef
from harness.leaderboard.notices import GONE_JUDGE, gone_judge
from harness.plugin.host import PluginHost
from harness.run.reference import reference_judge

DAY = date(2027, 1, 14)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HARNESS_PRICES", raising=False)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(retirement, "today", lambda: DAY)


def judge(**options: Any) -> JudgeRef:
    return JudgeRef(name="openai", rubric="default/1", options=options, offline=False, key="openai-0")


@pytest.mark.parametrize(
    ("options", "marked"),
    [
        ({"model": "gpt-4o-2024-08-06", "base_url": None}, True),
        ({"model": "gpt-4o", "base_url": "https://eu.api.openai.com/v1"}, True),
        ({"model": "gpt-4o", "base_url": "http://localhost:8000/v1"}, False),
        ({"model": "gpt-6-luna", "base_url": None}, False),
        ({"model": "gpt-4o"}, False),  # a judge that asks no API, with a model of that name
        ({}, False),
    ],
)
def test_a_judge_that_is_gone_is_marked(options: dict[str, Any], marked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = gone_judge(judge(**options))
    assert [line.startswith(GONE_JUDGE) for line in lines] == [True] * marked
    monkeypatch.setattr(retirement, "today", lambda: date(2026, 10, 1))
    assert gone_judge(judge(**options)) == []


def test_nobody_judged_and_a_price_file_that_is_not_valid_mark_nothing(tmp_path: Path) -> None:
    assert gone_judge(None) == []
    (tmp_path / "prices.toml").write_text("[openai.shutdown]\nm = 1\n")
    assert gone_judge(judge(model="gpt-4o", base_url=None)) == []


def test_a_judge_that_is_gone_is_not_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    host = PluginHost.load()
    assert reference_judge(host) == "openai:model=gpt-6-luna"
    monkeypatch.setattr(retirement, "today", lambda: date(2026, 10, 1))
    assert reference_judge(host) == "gpt-4o"
