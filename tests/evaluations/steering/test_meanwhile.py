"""Rating while texts are generated: a text is stored before the judge is asked, ratings are those of rating afterwards, and no failure loses work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from harness.contracts import JudgeTraits, RatesMeanwhile
from harness.evaluations.steering import evaluation, meanwhile
from harness.judging.alongside import Alongside
from harness.store import RunStore
from harness.types import Generation, JudgeItem, Rating

CLAMP = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--no-controls", "--json", "--yes")
PATIENCE = 60.0
CONCURRENCY = 4


class Judged:
    """The tiny evaluation with a judge behind a server on loopback. ``refuse`` says of a request's number whether it gets no answer."""

    def __init__(self, harness: Any, api_servers: Any, task: Path, folder: Path) -> None:
        self._harness, self._api_servers, self._task, self.out = harness, api_servers, task, folder
        self.asked, self.refused = threading.Event(), threading.Event()
        self.refuse: Callable[[int], bool] = lambda number: False
        self.unreadable = ""
        self.when_asked: list[int] = []
        self.unstored: list[str] = []
        self.server = api_servers.ApiServer(self._answer)

    def _answer(self, body: dict[str, Any]) -> Any:
        number = len(self.when_asked)
        texts, shown = self.texts(), body["messages"][-1]["content"]
        self.when_asked.append(len(texts))
        self.unstored += [] if any(text in shown for text in texts) else [shown]
        self.asked.set()
        if self.refuse(number):
            self.refused.set()
            return self._api_servers.Reply({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}, 401)
        if self.unreadable and self.unreadable in shown:
            return "I would rather not say."
        return f"It is read. Rating: [[{len(shown) % 3}]]"

    def texts(self) -> list[str]:
        """What the run's store holds at this moment."""
        found = list((self.out / "runs").glob("*/run.sqlite*"))
        if not found:
            return []
        with RunStore.open(found[0].parent, read_only=True, check=False) as store:
            return [generation.text for generation in store.generations().values()]

    def __call__(self, *more: str) -> Any:
        asked = {
            "base_url": f"{self.server.url}/v1", "key_name": "MY_KEY", "structured": "false", "concurrency": CONCURRENCY,
            "model": f"{self.out.name}-1",
        }  # fmt: skip
        options = [part for name, value in asked.items() for part in ("-J", f"{name}={value}")]
        env = {"MY_KEY": "sk-loopback-0123456789abcdef"}  # the cache is that of all tests: no other asks a model of this name
        return self._harness(*CLAMP, "--judge", "openai", *options, "--task", self._task, "--out", self.out, *more, env=env)


@pytest.fixture
def judged(harness: Any, api_servers: Any, tiny_task: Path, tmp_path: Path) -> Iterator[Callable[[str], Judged]]:
    """``judged(name)``: a run in a folder of its own, with a server of its own."""
    made: list[Judged] = []

    def make(name: str) -> Judged:
        made.append(Judged(harness, api_servers, tiny_task, tmp_path / name))
        made[-1].server.__enter__()
        return made[-1]

    yield make
    for one in made:
        one.server.__exit__()


@pytest.fixture(scope="module")
def afterwards(harness: Any, api_servers: Any, tiny_task: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    """What rating after generation says, and how many requests it took."""
    run = Judged(harness, api_servers, tiny_task, tmp_path_factory.mktemp("judged") / "rated-afterwards")
    with run.server, mock.patch.object(meanwhile, "rates_meanwhile", return_value=False):
        entry = run().json
    assert set(run.when_asked) == {24}
    return compared(entry), len(run.when_asked)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``held(run, after=3)``: generation stops after so many texts until the judge was asked; ``then`` is called before the next text."""

    def hold(run: Judged, after: int = 3, then: Callable[[], None] = lambda: None) -> None:
        def texts(*given: Any) -> Iterator[Generation]:
            for place, text in enumerate(generated(*given)):
                if place == after:
                    assert run.asked.wait(PATIENCE), "nobody was asked while texts were generated"
                    then()
                yield text

        monkeypatch.setattr(evaluation, "texts", texts)

    generated = evaluation.texts
    return hold


def compared(entry: dict[str, Any]) -> dict[str, Any]:
    """What an entry says, without when and where it was made."""
    return {name: entry[name] for name in ("rows", "warnings", "task", "model")} | {"rubric": entry["judge"]["rubric"]}


def test_texts_are_rated_while_others_are_generated_and_the_entry_is_that_of_rating_afterwards(
    judged: Callable[[str], Judged], held: Callable[..., None], afterwards: tuple[dict[str, Any], int]
) -> None:
    run = judged("meanwhile")
    held(run)
    entry = run().json
    assert 1 <= run.when_asked[0] <= 4, "the first request came while texts were generated, and not before one was stored"
    assert run.unstored == []
    assert (compared(entry), len(run.when_asked)) == afterwards, "nothing was asked twice"
    assert compared(run().json) == afterwards[0], "the stored run is complete"


def test_a_judge_that_failed_a_while_ago_is_tried_again_afterwards(
    judged: Callable[[str], Judged], held: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meanwhile, "AGAIN_AFTER", 0.0)
    run = judged("recovers")
    run.refuse = lambda number: len(run.texts()) < 24
    held(run)
    done = run()
    assert done.code == 0
    assert "stopped rating" not in done.out
    (row,) = done.json["rows"]
    assert (row["n_texts"], row["n_unrated"], row["n_pending"]) == (24, 0, 0)
    assert run.when_asked[0] < 24
    assert run.when_asked[-1] == 24


def test_a_judge_that_stays_away_is_an_error_at_the_end_and_the_same_command_goes_on(
    judged: Callable[[str], Judged], held: Callable[..., None], monkeypatch: pytest.MonkeyPatch, afterwards: tuple[dict[str, Any], int]
) -> None:
    run = judged("away")
    run.refuse = lambda number: number >= 12
    held(run, 6, lambda: run.refused.wait(PATIENCE))
    assert "Incorrect API key" in run().error
    assert len(run.texts()) == 24, "generation went on to its end"
    (folder,) = (run.out / "runs").iterdir()
    with RunStore.open(folder, read_only=True) as store:
        (record,) = store.judges()
        counts = store.rating_counts(record.key)
    assert counts["rated"] + counts["unrated"] < 24
    run.refuse = lambda number: False
    monkeypatch.undo()
    assert compared(run().json) == afterwards[0]


def test_ctrl_c_in_the_middle_keeps_what_was_paid_for(
    judged: Callable[[str], Judged], held: Callable[..., None], monkeypatch: pytest.MonkeyPatch, afterwards: tuple[dict[str, Any], int]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    run = judged("stopped")
    held(run, 6, interrupt)
    assert run().code == 130
    assert len(run.texts()) == 6
    assert not [thread for thread in threading.enumerate() if thread.name in ("harness-rating", "harness-chat")]
    monkeypatch.undo()
    assert (compared(run().json), len(run.when_asked)) == afterwards, "each reply was paid for once"


def test_what_cannot_be_read_is_not_asked_for_again_in_the_same_command(
    judged: Callable[[str], Judged], held: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = judged("unreadable")
    first.unreadable = "Once upon a time"
    held(first)
    entry = first().json
    assert entry["rows"][0]["n_unrated"] > 0
    monkeypatch.undo()
    monkeypatch.setattr(meanwhile, "rates_meanwhile", lambda judge: False)
    second = judged("unreadable-afterwards")
    second.unreadable = first.unreadable
    assert compared(second().json) == compared(entry)
    assert len(first.when_asked) == len(second.when_asked)


# ------------------------------------------------------------------------------------------------------------- which judges, and how


class Rates:
    """A judge that rates in parts; it fails where an item says so."""

    def __init__(self) -> None:
        self.parts: list[list[str]] = []
        self.free = threading.Event()
        self.halted: list[bool] = []
        self.alongside = Alongside(self.submit, self.halt, lambda: None, most=4)

    def submit(self, items: Sequence[JudgeItem]) -> Iterator[Rating]:
        self.parts.append([item.id for item in items])
        assert self.free.wait(PATIENCE)
        for item in items:
            if item.text == "fails":
                raise ValueError("no")
            if item.text != "left out":
                yield Rating(item.id, "rated", 1, 1, 1)

    def halt(self, now: bool) -> None:
        self.halted.append(now)
        self.free.set()


def items(*texts: str) -> list[JudgeItem]:
    return [JudgeItem(f"{place}", "c", "i", text) for place, text in enumerate(texts)]


def test_what_waits_is_rated_together_and_no_item_is_forgotten() -> None:
    judge = Rates()
    judge.alongside.send(items("a"))
    while not judge.parts:
        pass
    assert list(judge.alongside.arrived(wait=False)) == []
    judge.alongside.send(items(*["left out", "b", "c", "d", "e", "f"])[1:] + [JudgeItem("0", "c", "i", "left out")])
    judge.free.set()
    found = list(judge.alongside.arrived(wait=True))
    assert [len(part) for part in judge.parts] == [1, 4, 2]
    assert [rating.status for rating in found] == ["rated"] * 6 + ["unrated"]
    judge.alongside.stop()
    judge.alongside.send(items("again"))
    assert [rating.item_id for rating in judge.alongside.arrived(wait=True)] == ["0"]
    judge.alongside.stop()
    judge.alongside.stop()


def test_an_error_comes_after_what_was_rated_before_it() -> None:
    judge = Rates()
    judge.free.set()
    judge.alongside.send(items("a", "fails", "b"))
    arrived = judge.alongside.arrived(wait=True)
    with pytest.raises(ValueError, match="no"):
        list(arrived)
    assert list(judge.alongside.arrived(wait=True)) == []
    judge.alongside.stop()


def test_a_stopped_judge_rates_no_further_part() -> None:
    judge = Rates()
    judge.alongside.send(items("a"))
    while not judge.parts:
        pass
    judge.alongside.send(items("b", "c"))
    judge.alongside.stop()
    assert (judge.halted, judge.parts) == ([False], [["0"]])


@pytest.mark.parametrize(
    ("says", "later", "model", "expected"),
    [(True, "", False, True), (True, "batches", False, False), (True, "", True, False), (False, "", False, False)],
)
def test_who_rates_meanwhile(says: bool, later: str, model: bool, expected: bool) -> None:
    class Local:
        traits = JudgeTraits(rubric="r/1", offline=False, answers_later=later, needs_model=model)

    class Remote(Local):
        def send(self, items: Sequence[JudgeItem]) -> None: ...

        def arrived(self, wait: bool) -> Iterator[Rating]:
            return iter(())

        def stop(self) -> None: ...

    judge: Any = SimpleNamespace(instance=Remote() if says else Local(), label="x")
    assert meanwhile.rates_meanwhile(judge) is expected


def test_shipped_judges_say_what_they_wait_for() -> None:
    from harness.plugin.host import PluginHost

    host = PluginHost.load()
    given = {"openai": {"base_url": "http://127.0.0.1:9/v1"}, "anthropic": {}, "hf-local": {"model": "stories260K"}, "offline": {}, "human": {}}
    found = {name: isinstance(host.get("judge", name).create(options), RatesMeanwhile) for name, options in given.items()}
    assert found == {"openai": True, "anthropic": True, "hf-local": False, "offline": False, "human": False}
