"""Rating within a run: what it took is noted whatever ends it, adds up over calls, and is shown beside the bar while it goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.runs import manifest
from helpers.stores import add_generations, add_trials

from harness.chat.values import BatchState, ChatReply, ChatRequest, RequestFailed, UnconfirmedBatch, Usage
from harness.contracts import JudgeTraits
from harness.errors import OptionError
from harness.evaluations.steering import rate as rating
from harness.judging.llm_judge import LLMJudge
from harness.judging.questions import APIJudgeOptions
from harness.plugin.host import PluginHost
from harness.run import spending as meters
from harness.run.run import Run
from harness.run.spending import Meter, beside, line
from harness.run.warnings import Warnings
from harness.store import RunStore
from harness.types import Concept, Generation, Instruction, JudgeItem, Rating, Trial

TRIALS = [Trial("m", "l", "c", 1.0, f"i{k}", 0) for k in range(3)]


class Batches:
    """A batch API whose batches have always ended; leaves out ``missing`` answers of the first one."""

    name = "openai"
    notes: tuple[str, ...] = ()
    max_requests, max_bytes = 1000, 10**6

    def __init__(self, missing: int = 0) -> None:
        self.missing, self.handed_in = missing, list[dict[str, ChatRequest]]()

    def takes_schema(self, model: str) -> bool:
        return True

    def find(self, unconfirmed: UnconfirmedBatch) -> list[str]:
        raise AssertionError("no batch is unconfirmed")

    def submit(self, requests: Mapping[str, ChatRequest]) -> str:
        self.handed_in.append(dict(requests))
        return f"b{len(self.handed_in) - 1}"

    def poll(self, batch: str) -> BatchState:
        return BatchState("ended")

    def results(self, batch: str) -> Iterator[tuple[str, ChatReply | RequestFailed]]:
        number = int(batch[1:])
        for key in list(self.handed_in[number])[0 if number else self.missing :]:
            yield key, ChatReply("Rating: [[1]]", Usage(1_000_000, 0, 5), "gpt-4o")

    def cancel(self, batch: str) -> None:
        raise AssertionError("nobody cancels")


class Progress:
    """Keeps what would be shown."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.titles: list[str] = []

    def step(self, message: str) -> None:
        self.steps.append(message)

    @contextlib.contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        titles = self.titles

        class Bar:
            def __call__(self, n: int) -> None:
                pass

            def describe(self, text: str) -> None:
                titles.append(text)

        yield Bar()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    """A run with three texts."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    with RunStore.create_or_open(tmp_path / "run", manifest()) as opened:
        opened.add_concepts([Concept("c", "bees", (), ())])
        opened.add_instructions([Instruction(trial.instruction_id, "say hi") for trial in TRIALS])
        add_trials(opened, TRIALS)
        add_generations(opened, [Generation(trial.id, "prompt", f"text {trial.id}", 3, "eos") for trial in TRIALS])
        yield opened


def rate(store: RunStore, judge: Any, approve: Any = None) -> Progress:
    progress = Progress()
    registered = SimpleNamespace(name="openai", options=APIJudgeOptions, made_by=("d", "1"), who="judge 'openai' of d", version="1", code="")
    options = dict.fromkeys(APIJudgeOptions.model_fields)
    named = {"identity": {}, "shown": {}, "content": {}, "same": "openai", "label": "openai"}
    planned = SimpleNamespace(instance=judge, registered=registered, options=options, **named)
    run = Run(store, store.manifest, PluginHost(), progress, Warnings(), approve)  # type: ignore[arg-type]
    rating.rate(run, planned)  # type: ignore[arg-type]
    return progress


def judge_on(api: Batches) -> LLMJudge:
    return LLMJudge(APIJudgeOptions(model="gpt-4o", mode="batch"), lambda cache, seed: None, lambda: api)  # type: ignore[arg-type,return-value]


def usage_notes(store: RunStore) -> list[dict[str, Any]]:
    return [note.value for note in store.notes() if note.kind.startswith("usage: ")]


def statuses(store: RunStore) -> list[str]:
    (record,) = store.judges()
    return sorted(rating.status for rating in store.ratings(record.key).values())


def test_what_a_batch_took_is_noted_though_sending_the_rest_is_refused(store: RunStore) -> None:
    api = Batches(missing=1)
    rate(store, judge_on(api))
    assert (statuses(store), usage_notes(store)) == (["pending"] * 3, [])

    def refuse(estimate: Any) -> None:
        raise OptionError("refused", given=estimate.calls)

    with pytest.raises(OptionError) as error:
        rate(store, judge_on(api), refuse)
    assert error.value.given == 1
    n = len(api.handed_in[0]) - 1
    (note,) = usage_notes(store)
    assert note == {
        "input": n * 1_000_000,
        "cached_input": 0,
        "output": n * 5,
        "dollars": pytest.approx(n * (2.5 + 5e-5) / 2),
        "from_cache": 0,
        "unanswered": 0,
    }
    assert statuses(store) == ["rated", "rated", "unrated"]
    rate(store, judge_on(api))
    progress = rate(store, judge_on(api))
    assert statuses(store) == ["rated"] * 3
    assert sum(note["input"] for note in usage_notes(store)) == len(api.handed_in[0]) * 1_000_000, "the notes add up"
    (paid,) = [step for step in progress.steps if step.startswith("paid ")]
    assert paid.startswith("paid $1.2500: 1,000,000 input tokens")
    assert f"for this run in all ${(n + 1) * (2.5 + 5e-5) / 2:.4f}" in paid


def test_what_a_batch_took_is_noted_though_collecting_is_stopped(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    api = Batches()
    rate(store, judge_on(api))
    add = store.add_ratings

    def stopped(key: str, ratings: Sequence[Rating]) -> int:
        monkeypatch.setattr(store, "add_ratings", add)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "add_ratings", stopped)
    with pytest.raises(KeyboardInterrupt):
        rate(store, judge_on(api))
    assert [note["output"] for note in usage_notes(store)] == [5 * len(api.handed_in[0])]
    rate(store, judge_on(api))
    assert (statuses(store), len(usage_notes(store))) == (["rated"] * 3, 1)


class Priced:
    """A judge with a price, that rates in place."""

    traits = JudgeTraits(rubric="r/1", offline=False)
    usage, cost, hits, unanswered = Usage(), 0.0, 0, 0

    def __init__(self, dollars: float | None = 0.5) -> None:
        self.dollars = dollars

    def prepare(self, bench: Any) -> None:
        pass

    def collect(self, tickets: Sequence[str]) -> Sequence[Rating]:
        return ()

    def estimate(self, work: Any) -> Any:
        raise AssertionError("nobody asks")

    def submit(self, items: Sequence[JudgeItem]) -> Iterator[Rating]:
        for item in items:
            self.usage += Usage(40_000, 12_000, 800)
            self.cost = None if self.dollars is None else self.cost + self.dollars  # type: ignore[assignment]
            yield Rating(item.id, "unrated", reason="no")


def test_usage_is_shown_beside_the_bar_while_it_goes_on(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "SHOW_EVERY", 0.0)
    progress = rate(store, Priced())
    assert progress.titles == [
        "rating with openai · $0.50 · 40k in (12k cached) / 800 out",
        "rating with openai · $1.00 · 80k in (24k cached) / 2k out",
        "rating with openai · $1.50 · 120k in (36k cached) / 2k out",
    ]
    monkeypatch.setattr(meters, "SHOW_EVERY", 60.0)
    assert rate(store, Priced()).titles == [], "not with every rating"
    assert rate(store, Priced(dollars=None)).steps[-1].endswith("for this run in all an unknown amount (no price for the model)")


def test_one_judge_rated_with_twice_is_not_counted_twice(store: RunStore) -> None:
    judge = Priced()
    rate(store, judge)
    rate(store, judge)
    assert [(note["input"], note["dollars"]) for note in usage_notes(store)] == [(120_000, 1.5)] * 2


def test_a_judge_that_costs_nothing_has_no_meter() -> None:
    free = Meter(object())
    free.show("title", lambda text: pytest.fail(text))
    assert free.taken is None
    assert (beside(None), beside({"input": 0, "output": 0, "cached_input": 0, "dollars": 0.0, "from_cache": 9})) == ("", "")
    taken: dict[str, float | None] = {"input": 999_600, "cached_input": 0, "output": 1_234_567, "dollars": None, "from_cache": 0}
    assert beside(taken) == " · 1.0M in / 1.2M out"
    assert line(taken, [taken]).startswith("paid an unknown amount (no price for the model): 999,600 input tokens")


def test_requests_that_were_given_up_unanswered_are_told_of() -> None:
    class Judge:
        usage, cost, hits, unanswered = Usage(), 0.0, 0, 0

    judge = Judge()
    meter = Meter(judge)
    assert meter.taken is None
    judge.usage, judge.cost, judge.unanswered = Usage(10, 0, 5), 0.5, 3
    taken = meter.taken
    assert taken is not None
    assert taken["unanswered"] == 3
    assert line(taken, []).endswith("; 3 requests were given up unanswered, and the server may bill them, too")


def test_reasons_are_grouped_and_counted() -> None:
    from harness.evaluations.steering.rate import why_unrated

    def unrated(reason: str) -> Rating:
        return Rating("x", "unrated", reason=reason)

    ratings = [unrated(f"concept: 7 is out of range ('{n}'); fluency: no rating (asked {n} times)") for n in range(2, 5)]
    reasons = why_unrated([*ratings, unrated("fluency: refused"), Rating("y", "rated", 1, 1, 1)])
    assert reasons == "7 is out of range ('2') (3 texts); no rating (asked 2 times) (3 texts); refused (1 text)"
    assert why_unrated([*ratings, unrated("a"), unrated("b")]).endswith("; and 1 other reasons")
    assert why_unrated([Rating("y", "rated", 1, 1, 1)]) == ""


def test_usage_is_noted_along_the_way_so_that_a_kill_loses_little(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.evaluations.steering.rate.NOTE_EVERY", 0.0)
    progress = rate(store, Priced())
    notes = usage_notes(store)
    assert len(notes) > 1
    assert sum(note["input"] for note in notes) == 120_000
    assert sum(note["dollars"] for note in notes) == pytest.approx(1.5)
    assert "for this run in all" not in progress.steps[-1]
