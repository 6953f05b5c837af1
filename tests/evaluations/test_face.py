"""docs/python.md is true: its snippets run, one after the other, on the tiny task; and what the face refuses."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from harness.errors import OptionError, StoreError, UnknownNameError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


@pytest.fixture
def at_home(cache_folder: Path, sample_site: Path, installed: Callable[..., Any]) -> Iterator[None]:
    """The tests' cache, and the sample plugin installed."""
    with installed(sample_site), mock.patch.dict(os.environ, {"HARNESS_CACHE": str(cache_folder)}):
        yield


def test_the_snippets_run(at_home: None, tiny_task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snippets = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(snippets) >= 7
    names: dict[str, Any] = {"TASK": str(tiny_task), "JUDGE": "words", "OUT": str(tmp_path)}
    for snippet in snippets:
        exec(compile(snippet, PAGE.name, "exec"), names)
    printed = capsys.readouterr().out
    assert "a girl ['sae/" in printed
    assert "steering method calibf1 × sae-clamp" in printed
    texts, ratings, frame = names["texts"], names["ratings"], names["frame"]
    assert [text.strength for text in texts] == [0.5] * 4 + [1.0] * 4 + [2.0] * 4
    assert [rating.status for rating in ratings] == ["rated"] * 12
    assert len(frame) == len(frame.trial_id.unique()) > 0
    assert set(frame.status) == {"rated"}
    entry = names["run"].entry()
    assert (tmp_path / "leaderboard" / "entries" / entry.file_name).is_file()
    scores = names["run"].scores()
    for row in entry.rows:
        own = scores[(scores.method == row.subject.name) & (scores.role == row.role)]
        assert own.overall.mean() == pytest.approx(row.metrics["overall"].value)


def test_what_is_refused(at_home: None, tiny_task: Path, tmp_path: Path) -> None:
    from harness import evaluate, load_run, load_task

    with pytest.raises(OptionError) as error:
        load_task(tiny_task, limits=3)
    assert error.value.given == "limits"
    assert "limit" in error.value.allowed
    with pytest.raises(OptionError) as error:
        evaluate(load_task(tiny_task), steerers=["none"], limit=3)
    assert error.value.given == ("limit",)
    assert "load_task" in error.value.hint
    with pytest.raises(OptionError) as error:
        evaluate(tiny_task, out=tmp_path)
    assert error.value.given == "tiny"
    assert "--steerer" in error.value.hint
    with pytest.raises((StoreError, UnknownNameError)):
        load_run("nowhere", tmp_path)


def test_every_choice_can_be_given_by_its_name() -> None:
    from harness.run.choices import Choices, GivenChoices

    assert list(GivenChoices.__annotations__) == list(Choices.__dataclass_fields__)
