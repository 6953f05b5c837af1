"""The contract kit: it passes what keeps the contract, and says in a sentence what does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import Field

from harness import hookimpl
from harness.contracts import DetectorTraits, JudgeTraits, LabelerTraits, SteererTraits
from harness.interventions import Intervention, Positions, Site
from harness.options import Options, input_field, transport_field
from harness.plugin.host import PluginHost
from harness.plugin.registry import KINDS
from harness.run.bench import TaskBench
from harness.run.plan import plan_one
from harness.steering.composition import Composition
from harness.testing import check_detector, check_judge, check_labeler, check_options, check_plugin, check_steerer, toy_bench
from harness.types import Abstention, Concept, FeatureRef, JudgeItem, Labeling, Rating


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def bench(folder: Path) -> TaskBench:
    return toy_bench(folder)


@pytest.fixture(scope="module")
def chosen(folder: Path) -> TaskBench:
    return toy_bench(folder, "chosen")


@pytest.fixture(scope="module")
def host(sample_site: Path, installed: Callable[..., Any]) -> Iterator[PluginHost]:
    with installed(sample_site):
        yield PluginHost.load()


def fails(check: Callable[[], Any], named: str) -> None:
    with pytest.raises(AssertionError) as error:
        check()
    assert named in str(error.value)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------------- what keeps the contract


@pytest.mark.parametrize("name", ["calibf1", "random", "most-frequent"])
def test_labelers_keep_it(host: PluginHost, bench: TaskBench, chosen: TaskBench, name: str) -> None:
    """In fixed mode, tests/testing/test_all_plugins.py has our own."""
    assert name != "most-frequent" or len(check_labeler(host.get("labeler", name).create, bench)) == 3
    assert check_labeler(host.get("labeler", name).create, chosen)


@pytest.mark.parametrize(
    ("name", "options"), [("sae-clamp", {"unit": "residual-norm"}), ("sae-add", {"unit": "max-activation"}), ("project-out", {})]
)
def test_steerers_keep_it(host: PluginHost, bench: TaskBench, name: str, options: dict[str, Any]) -> None:
    registered = host.get("steerer", name)
    assert len(check_steerer(lambda: registered.create(options), bench)) == len(registered.create(options).traits.grid)


@pytest.mark.parametrize("asked", ["prompt+sae-clamp:unit=residual-norm", "sae-clamp:strength=2+random-direction+prompt"])
def test_joined_steerers_keep_it(host: PluginHost, bench: TaskBench, asked: str) -> None:
    def plugin() -> Composition:
        planned = plan_one(host, bench.task, "steerer", asked, {})
        return Composition([dataclasses.replace(part, steerer=part.steerer._plugin) for part in planned.instance.parts])  # type: ignore[attr-defined]

    assert len(check_steerer(plugin, bench)) == len(plugin().traits.grid) > 1


@pytest.mark.parametrize(
    ("name", "options"),
    [("sae", {"pool": "max"}), ("sae", {"pool": "mean"}), ("bow", {"max_words": 9}), ("own-words", {}),
     ("prompt", {"question": "{concept}? {text}", "reading": "greedy", "max_tokens": 2})],
)
def test_detectors_keep_it(host: PluginHost, bench: TaskBench, name: str, options: dict[str, Any]) -> None:
    assert check_detector(lambda: host.get("detector", name).create(options), bench).shape == (2, len(bench.split.report))


def test_judges_keep_it(host: PluginHost, bench: TaskBench, tmp_path: Path) -> None:
    at_once = check_judge(host.get("judge", "words").create, bench)
    later = check_judge(lambda: host.get("judge", "words").create({"mailbox": str(tmp_path)}), bench)
    assert {rating.status for rating in at_once.values()} == {rating.status for rating in later.values()} == {"rated"}
    assert at_once == later


def test_every_plugin_installed_here_is_documented(host: PluginHost, sample_site: Path, installed: Callable[..., Any]) -> None:
    with installed(sample_site):
        import harness_sample

        assert [plugin.name for plugin in check_plugin(harness_sample)] == ["most-frequent", "project-out", "own-words", "overlap", "words"]
    for kind in KINDS:
        for plugin in host.all(kind).values():
            check_options(plugin.options)
            assert plugin.summary


def test_the_toy_is_the_same_everywhere(bench: TaskBench, tmp_path: Path) -> None:
    again = toy_bench(tmp_path)
    assert (again.model.digest, again.dictionaries["sae"].digest) == (bench.model.digest, bench.dictionaries["sae"].digest)
    assert len(bench.statistics().live) > 40
    assert 1 < bench.statistics().l0 < 10


# ----------------------------------------------------------------------------------------------------------------- labelers that break it


@dataclasses.dataclass
class SomeLabeler:
    """Returns what the test gives it."""

    traits = LabelerTraits()

    answers: Callable[[Any, Any], Any]

    def label(self, bench: Any, concepts: Any) -> Any:
        return self.answers(bench, concepts)


FEATURE = (FeatureRef("sae", 1),)


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        (lambda bench, concepts: [1 for _ in concepts], "class int"),
        (lambda bench, concepts: [Labeling(c, FEATURE) for c in concepts[1:]], "gave 2 answers for 3 concepts"),
        (lambda bench, concepts: [Labeling(Concept(c.id, "mine"), FEATURE) for c in concepts], "not one of those that it was asked for"),
        (lambda bench, concepts: [Labeling(c, (FeatureRef("sae", 99),)) for c in concepts], "named feature sae/99"),
        (lambda bench, concepts: [Abstention(c, " ") for c in concepts], "gives no reason"),
        (lambda bench, concepts: [Labeling(c, FEATURE, float("inf")) for c in concepts], "gave the score inf"),
        (lambda bench, concepts: [Labeling(c, FEATURE, 1.0, {"x": {1, 2}}) for c in concepts], "not a JSON value"),
        (lambda bench, concepts: [Labeling(c, FEATURE, np.random.default_rng().random()) for c in concepts], "a second labeler gave other answers"),
        (lambda bench, concepts: [Labeling(c, FEATURE, i) for i, c in enumerate(concepts)], "depend on the order of the concepts"),
    ],
)
def test_a_labeler_that_breaks_it(bench: TaskBench, answers: Any, named: str) -> None:
    fails(lambda: check_labeler(lambda: SomeLabeler(answers), bench), named)


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        (lambda bench, concepts: [Labeling(c, FEATURE, i) for i, c in enumerate(concepts)], "these scores do not descend"),
        (lambda bench, concepts: [Abstention(c, "why") for c in concepts], "in chosen mode only the chosen come back"),
        (lambda bench, concepts: [Labeling(concepts[0], FEATURE)] * 2, "the same features twice"),
    ],
)
def test_a_labeler_that_breaks_it_in_chosen_mode(chosen: TaskBench, answers: Any, named: str) -> None:
    fails(lambda: check_labeler(lambda: SomeLabeler(answers), chosen), named)


# ----------------------------------------------------------------------------------------------------------------- steerers that break it


@dataclasses.dataclass(frozen=True, eq=False)
class Edit:
    """x' = change(x, rows); its own stack."""

    change: Callable[[Any, int], Any]
    sites: tuple[Site, ...] = (Site(1),)
    positions: Positions = Positions()  # noqa: RUF009
    batch_key: Any = "k"
    rows: int = 1

    def stack(self, rows: Any, device: Any) -> Edit:
        return dataclasses.replace(self, rows=len(rows))

    def apply(self, x: Any, ctx: Any) -> Any:
        return self.change(x, self.rows)


class SomeSteerer:
    """Intervenes as the test says."""

    def __init__(self, answer: Callable[[Any, float], Any], **members: Any) -> None:
        self.answer = answer
        self.traits = SteererTraits(**{"unit": "none", "grid": (1.0,), **members})

    def prepare(self, bench: Any, labelings: Any) -> None: ...
    def intervene(self, labeling: Any, strength: float) -> Any:
        return self.answer(labeling, strength)


def edited(change: Callable[[Any, int], Any], **members: Any) -> Callable[[Any, float], Intervention]:
    return lambda labeling, strength: Intervention(edits=(Edit(change, **members),))


def nothing(labeling: Any, strength: float) -> Intervention:
    return Intervention()


class Moving:
    """Another effect at each call."""

    calls = 0

    def __call__(self, labeling: Any, strength: float) -> Intervention:
        self.calls += 1
        return Intervention(prompt_prefix=str(self.calls))


@pytest.mark.parametrize(
    ("answer", "members", "named"),
    [
        (nothing, {"unit": "metre"}, "unit is 'metre'; known: max-activation, "),
        (nothing, {"grid": ()}, "give finite strengths"),
        (nothing, {"grid": (1.0, float("nan"))}, "give finite strengths"),
        (nothing, {"grid": (2.0, 1.0)}, "strengths must ascend"),
        (nothing, {"neutral": "0"}, "neutral is '0'"),
        (nothing, {"needs_features": None}, "needs_features is None"),
        (lambda labeling, strength: None, {}, "intervene gave NoneType at strength 1 for concept 'music'"),
        (lambda labeling, strength: Intervention(prompt_prefix=None), {}, "prompt_prefix is not a text"),  # type: ignore[arg-type]
        (lambda labeling, strength: Intervention(edits=("x",)), {}, "str lacks sites, positions, batch_key, stack"),  # type: ignore[arg-type]
        (edited(lambda x, rows: x, sites=()), {}, "names no site"),
        (edited(lambda x, rows: x, sites=(Site(3),)), {}, "the engine torch cannot place Edit at strength 1 for concept 'music': layer 3 does"),
        (edited(lambda x, rows: x, positions=None), {}, "the positions of Edit are NoneType"),
        (edited(lambda x, rows: x, batch_key=1), {}, "the batch key of Edit must be a text"),
        (edited(lambda x, rows: x.mul_(2)), {}, "changes its input; apply must be pure"),
        (edited(lambda x, rows: x[..., :3]), {}, "gives shape [3, 6, 3] for [3, 6, 32]"),
        (edited(lambda x, rows: x / 0), {}, "not finite"),
        (edited(lambda x, rows: x + rows), {}, "a row gets something else alone than among others"),
        (Moving(), {}, "a second call of intervene gave something else"),
        (nothing, {"suppresses": "yes"}, "suppresses is 'yes'; known: negate, ablate, or None"),
        (nothing, {"suppresses": "negate", "grid": (-1.0, 1.0)}, "must be at least 0, since they are turned round"),
        (lambda labeling, strength: Intervention(prompt_prefix=f"{abs(strength)}"), {"suppresses": "negate"}, "strength -1 does what 1 does"),
        (edited(lambda x, rows: x * 0 + 5), {"neutral": 1.0}, "at the neutral strength 1 the model writes something else than unsteered"),
    ],
)
def test_a_steerer_that_breaks_it(bench: TaskBench, answer: Any, members: dict[str, Any], named: str) -> None:
    fails(lambda: check_steerer(lambda: SomeSteerer(answer, **members), bench), named)


def test_a_steerer_must_spare_what_the_task_spares(folder: Path) -> None:
    toy_bench(folder)
    sparing = toy_bench(folder)
    steering = sparing.task.file.steering.model_copy(update={"first_token": False})
    sparing.task = dataclasses.replace(sparing.task, file=sparing.task.file.model_copy(update={"steering": steering}))
    fails(lambda: check_steerer(lambda: SomeSteerer(edited(lambda x, rows: x)), sparing), "tokens that the task spares (first_token")
    allowed = edited(lambda x, rows: x, positions=Positions(first_token=False))
    check_steerer(lambda: SomeSteerer(allowed, neutral=1.0), sparing)
    steering = steering.model_copy(update={"prompt": False})
    sparing.task = dataclasses.replace(sparing.task, file=sparing.task.file.model_copy(update={"steering": steering}))
    for counted in ({"first": 2}, {"last": 1}):
        named = edited(lambda x, rows: x, positions=Positions(prompt=False, first_token=False, **counted))
        fails(lambda named=named: check_steerer(lambda: SomeSteerer(named), sparing), "touches tokens of the prompt that the task spares")  # type: ignore[misc]


def test_steerers_of_other_streams_and_by_adapters_keep_it(bench: TaskBench, lora: Callable[..., Path]) -> None:
    for site in (Site(1, "attention"), Site(2, "mlp")):
        check_steerer(lambda site=site: SomeSteerer(edited(lambda x, rows: x * 2, sites=(site,))), bench)  # type: ignore[misc]
    folder = str(lora(bench.model, ["q_proj", "down_proj"]))

    def worn(labeling: Any, strength: float) -> Intervention:
        return Intervention(adapter=folder)

    (intervention,) = check_steerer(lambda: SomeSteerer(worn, adapter=True), bench)
    assert intervention.adapter == folder
    fails(lambda: check_steerer(lambda: SomeSteerer(worn), bench), "an adapter comes at strength 1 for concept 'music', and the traits say that")
    fails(
        lambda: check_steerer(lambda: SomeSteerer(worn, adapter=True, neutral=1.0), bench),
        "at the neutral strength 1 the model writes something else",
    )
    fails(lambda: check_steerer(lambda: SomeSteerer(edited(lambda x, rows: x, sites=(Site(1, "head"),))), bench), "stream 'head' does not exist")  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------------- detectors that break it


class SomeDetector:
    """Scores as it is named, once it knows its bench."""

    def __init__(self, score: Callable[[Any, Any, Any], Any], **members: Any) -> None:
        self.score = score
        self.traits = members["traits"] if "traits" in members else DetectorTraits(**members)

    def prepare(self, bench: Any, labelings: Any) -> None:
        self.bench = bench

    def scores(self, labelings: Any, texts: Any) -> Any:
        return self.score(self.bench, labelings, texts)


def table(score: Callable[[Any, Any, int], float]) -> Callable[[Any, Any, Any], Any]:
    """A detector's function from one of (bench, labeling, text, place)."""
    return lambda bench, labelings, texts: np.array([[score(bench, one, text) for text in texts.texts] for one in labelings], dtype=np.float64)


def lengths(bench: Any, labelings: Any, texts: Any) -> Any:
    return np.array([[float(len(text)) for text in texts.texts] for _ in labelings]).reshape(len(labelings), len(texts))


def known(bench: Any, labeling: Any, text: str) -> float:
    """1 for a text that the corpus says has the label: what no detector may know of a report text."""
    labelled = {bench.corpus[int(place)].text for place in bench.labels.of(labeling.concept.label)}
    return float(any(text.startswith(one) for one in labelled)) + len(text)


def examples(bench: Any, labeling: Any, text: str) -> float:
    return float(sum(map(len, labeling.concept.positives)))


@pytest.mark.parametrize(
    ("score", "members", "named"),
    [
        (lengths, {"traits": None}, "traits is NoneType"),
        (lengths, {"needs_features": 1}, "needs_features is 1"),
        (lengths, {"trivial": None}, "trivial is None"),
        (lambda *given: lengths(*given).tolist(), {}, "scores gave list; it must give an array"),
        (lambda *given: lengths(*given).T, {}, "scores has shape (15, 2) for 2 labelings and 15 texts"),
        (lambda *given: lengths(*given).astype(np.float32), {}, "scores has type float32; it must be float64"),
        (lambda *given: lengths(*given) + np.nan, {}, "scores of set 'report' are not finite"),
        (lambda *given: lengths(*given) + np.random.default_rng().random(), {}, "a second detector gave set 'report' other scores"),
        (lambda bench, ls, ts: lengths(bench, ls, ts) + np.arange(len(ts)), {}, "scores of set 'report' depend on the order of the texts"),
        (lambda bench, ls, ts: lengths(bench, ls, ts) + len(ts), {}, "a text of set 'report' has another score alone"),
        (lambda bench, ls, ts: lengths(bench, ls, ts) + np.arange(len(ls))[:, None], {}, "scores depend on the order of the labelings"),
        (lambda bench, ls, ts: lengths(bench, ls, ts) + len(ls), {}, "a labeling has other scores alone"),
        (lambda bench, ls, ts: lengths(bench, ls, ts) + (ts.places is None), {}, "where TextSet.places does not say so"),
        (table(known), {}, "the labels of texts outside bench.split.train change the scores"),
        (table(examples), {}, "the labels of texts outside bench.split.train change the scores"),
    ],
)
def test_a_detector_that_breaks_it(bench: TaskBench, score: Any, members: dict[str, Any], named: str) -> None:
    fails(lambda: check_detector(lambda: SomeDetector(score, **members), bench), named)


# ------------------------------------------------------------------------------------------------------------------- judges that break it


class SomeJudge:
    """Submits as it is named."""

    def __init__(self, submit: Callable[[Any], Any], collect: Callable[[Any], Any] = lambda tickets: [], **members: Any) -> None:
        self.submit, self.collect = submit, collect  # type: ignore[method-assign]
        self.traits = JudgeTraits(**{"rubric": "r/1", "offline": True, **members})

    def prepare(self, bench: Any) -> None: ...
    def submit(self, items: Any) -> Any: ...
    def collect(self, tickets: Any) -> Any: ...


def fair(item: JudgeItem, value: float = 1.0) -> Rating:
    return Rating(item.id, "rated", value, value, value)


@pytest.mark.parametrize(
    ("submit", "members", "named"),
    [
        (lambda items: map(fair, items), {"rubric": ""}, "rubric is ''"),
        (lambda items: map(fair, items), {"offline": 1}, "offline is 1"),
        (lambda items: [fair(JudgeItem("x", "", "", ""))], {}, "rated something where there was nothing to rate"),
        (lambda items: [1.0 for _ in items], {}, "submit gave float; it must give Rating values"),
        (lambda items: map(fair, items[1:]), {}, "submit left items without an answer: item-0"),
        (lambda items: [*map(fair, items), *map(fair, items)], {}, "submit answered item 'item-0' twice"),
        (lambda items: [fair(dataclasses.replace(item, id="x")) for item in items], {}, "answered item 'x', which it was not asked for"),
        (lambda items: [fair(item, place % 2) for place, item in enumerate(items)], {}, "and in another order"),
        (lambda items: [fair(item, len(items) % 2) for item in items], {}, "and alone"),
        (lambda items: [dataclasses.replace(fair(item), details={"x": object()}) for item in items], {}, "not a JSON value"),
        (
            lambda items: [Rating(item.id, "pending", ticket="t") for item in items],
            {"collect": lambda tickets: [fair(JudgeItem("x", "", "", ""))]},
            "collect answered item 'x', which it was not asked for",
        ),
    ],
)
def test_a_judge_that_breaks_it(bench: TaskBench, submit: Any, members: dict[str, Any], named: str) -> None:
    fails(lambda: check_judge(lambda: SomeJudge(submit, **members), bench), named)


def test_a_judge_that_answers_differently_each_time_may_say_so(bench: TaskBench) -> None:
    def draw(items: Any) -> Any:
        return [fair(item, place % 2) for place, item in enumerate(items)]

    assert len(check_judge(lambda: SomeJudge(draw), bench, deterministic=False)) == 12


# ------------------------------------------------------------------------------------------------------------------------ registration


class Undocumented(Options):
    """Options."""

    x: int = 1


class Outside(Options):
    """Options."""

    x: int = Field(5, le=3)
    """A number whose default is out of its bounds."""



class Unmarked(Options):
    """For the test below."""

    words_file: str | None = None
    """A file that is read, and nothing says so."""


class Marked(Options):
    """For the test below."""

    words_file: str | None = input_field(None)
    """A file that is read."""
    log_path: str | None = transport_field(None)
    """A file that changes no result."""
    profile: str = "none"
    """No file."""
    paths: tuple[Path, ...] = ()
    """Files that are read."""


def test_options_that_are_not_documented() -> None:
    fails(lambda: check_options(Undocumented), "option x of Undocumented has no docstring below it")
    fails(lambda: check_options(type("Loose", (Undocumented,), {"model_config": {"extra": "allow"}})), "Loose takes unknown options")
    fails(lambda: check_options(type("Soft", (Undocumented,), {"model_config": {"frozen": False}})), "Soft is not frozen")
    fails(lambda: check_options(Unmarked), "option words_file of Unmarked is text that is called as a file is")
    check_options(Marked)
    fails(lambda: check_options(Outside), "the default of option x of Outside is not allowed: Input should be less than or equal to 3")


def test_a_plugin_that_cannot_be_registered_or_has_no_summary() -> None:
    class Misspelt:
        @hookimpl
        def harness_register_judge(self, registry: Any) -> None: ...

    class Mute:
        @hookimpl
        def harness_register_judges(self, registry: Any) -> None:
            registry.add("mute", SomeJudge)

    fails(lambda: check_plugin(Misspelt()), "did you mean 'harness_register_judges'?")
    fails(lambda: check_plugin(Mute()), "judge 'mute' has no summary")
