"""The contract kit: it passes what keeps the contract, and says in a sentence what does not."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from harness import hookimpl
from harness.contracts import JudgeTraits, LabelerTraits, SteererTraits
from harness.interventions import Intervention, Positions, Site
from harness.options import Options
from harness.plugin.host import PluginHost
from harness.run.bench import TaskBench
from harness.testing import check_judge, check_labeler, check_options, check_plugin, check_steerer, toy_bench
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


def fails(check: Callable[[], Any], told: str) -> None:
    with pytest.raises(AssertionError) as error:
        check()
    assert told in str(error.value)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------------- what keeps the contract


@pytest.mark.parametrize("name", ["calibf1", "random", "most-frequent"])
def test_labelers_keep_it(host: PluginHost, bench: TaskBench, chosen: TaskBench, name: str) -> None:
    assert len(check_labeler(host.get("labeler", name).create, bench)) == 3
    assert check_labeler(host.get("labeler", name).create, chosen)


@pytest.mark.parametrize("name", ["sae-clamp", "sae-add", "diff-mean", "prompt", "none", "project-out"])
def test_steerers_keep_it(host: PluginHost, bench: TaskBench, name: str) -> None:
    registered = host.get("steerer", name)
    assert len(check_steerer(registered.create, bench)) == len(registered.create().traits.grid)
    if "unit" in registered.options.model_fields:
        check_steerer(lambda: registered.create({"unit": "residual-norm"}), bench)


def test_judges_keep_it(host: PluginHost, bench: TaskBench, tmp_path: Path) -> None:
    at_once = check_judge(host.get("judge", "words").create, bench)
    later = check_judge(lambda: host.get("judge", "words").create({"mailbox": str(tmp_path)}), bench)
    assert {rating.status for rating in at_once.values()} == {rating.status for rating in later.values()} == {"rated"}
    assert at_once == later


def test_every_plugin_installed_here_is_documented(host: PluginHost, sample_site: Path, installed: Callable[..., Any]) -> None:
    with installed(sample_site):
        import harness_sample

        assert [plugin.name for plugin in check_plugin(harness_sample)] == ["most-frequent", "project-out", "words"]
    for kind in ("labeler", "steerer", "judge"):
        for plugin in host.all(kind).values():  # type: ignore[arg-type]
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
    """Answers as it is told."""

    traits = LabelerTraits()

    answers: Callable[[Any, Any], Any]

    def label(self, bench: Any, concepts: Any) -> Any:
        return self.answers(bench, concepts)


FEATURE = (FeatureRef("sae", 1),)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (lambda bench, concepts: [1 for _ in concepts], "answered with int"),
        (lambda bench, concepts: [Labeling(c, FEATURE) for c in concepts[1:]], "gave 2 answers for 3 concepts"),
        (lambda bench, concepts: [Labeling(Concept(c.id, "mine"), FEATURE) for c in concepts], "none of those that it was asked for"),
        (lambda bench, concepts: [Labeling(c, (FeatureRef("sae", 99),)) for c in concepts], "named feature sae/99"),
        (lambda bench, concepts: [Abstention(c, " ") for c in concepts], "gives no reason"),
        (lambda bench, concepts: [Labeling(c, FEATURE, float("inf")) for c in concepts], "is inf; None means none"),
        (lambda bench, concepts: [Labeling(c, FEATURE, 1.0, {"x": {1, 2}}) for c in concepts], "is no JSON value"),
        (lambda bench, concepts: [Labeling(c, FEATURE, random.random()) for c in concepts], "a second labeler gave other answers"),
        (lambda bench, concepts: [Labeling(c, FEATURE, i) for i, c in enumerate(concepts)], "depend on the order of the concepts"),
    ],
)
def test_a_labeler_that_breaks_it(bench: TaskBench, answers: Any, told: str) -> None:
    fails(lambda: check_labeler(lambda: SomeLabeler(answers), bench), told)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (lambda bench, concepts: [Labeling(c, FEATURE, i) for i, c in enumerate(concepts)], "these scores do not descend"),
        (lambda bench, concepts: [Abstention(c, "why") for c in concepts], "in chosen mode only the chosen come back"),
        (lambda bench, concepts: [Labeling(concepts[0], FEATURE)] * 2, "the same features twice"),
    ],
)
def test_a_labeler_that_breaks_it_in_chosen_mode(chosen: TaskBench, answers: Any, told: str) -> None:
    fails(lambda: check_labeler(lambda: SomeLabeler(answers), chosen), told)


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
    """Intervenes as it is told."""

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
    ("answer", "members", "told"),
    [
        (nothing, {"unit": "metre"}, "unit is 'metre'; known: max-activation, residual-norm, none"),
        (nothing, {"grid": ()}, "give finite strengths"),
        (nothing, {"grid": (1.0, float("nan"))}, "give finite strengths"),
        (nothing, {"grid": (2.0, 1.0)}, "strengths must ascend"),
        (nothing, {"neutral": "0"}, "neutral is '0'"),
        (nothing, {"needs_features": None}, "needs_features is None"),
        (lambda labeling, strength: None, {}, "intervene gave NoneType at strength 1 for concept 'music'"),
        (lambda labeling, strength: Intervention(prompt_prefix=None), {}, "prompt_prefix is no text"),  # type: ignore[arg-type]
        (lambda labeling, strength: Intervention(edits=("x",)), {}, "str lacks sites, positions, batch_key, stack"),  # type: ignore[arg-type]
        (edited(lambda x, rows: x, sites=()), {}, "names no site"),
        (edited(lambda x, rows: x, sites=(Site(3),)), {}, "edits layer 3, which the model does not have"),
        (edited(lambda x, rows: x, positions=None), {}, "the positions of Edit are NoneType"),
        (edited(lambda x, rows: x, batch_key=1), {}, "the batch key of Edit must be a text"),
        (edited(lambda x, rows: x.mul_(2)), {}, "changes its input; apply must be pure"),
        (edited(lambda x, rows: x[..., :3]), {}, "gives shape [3, 5, 3] for [3, 5, 32]"),
        (edited(lambda x, rows: x / 0), {}, "not finite"),
        (edited(lambda x, rows: x + rows), {}, "a row gets something else alone than among others"),
        (Moving(), {}, "a second call of intervene gave something else"),
        (edited(lambda x, rows: x * 0 + 5), {"neutral": 1.0}, "at the neutral strength 1 the model writes something else than unsteered"),
    ],
)
def test_a_steerer_that_breaks_it(bench: TaskBench, answer: Any, members: dict[str, Any], told: str) -> None:
    fails(lambda: check_steerer(lambda: SomeSteerer(answer, **members), bench), told)


def test_a_steerer_must_spare_what_the_task_spares(folder: Path) -> None:
    toy_bench(folder)
    sparing = toy_bench(folder)
    steering = sparing.task.file.steering.model_copy(update={"first_token": False})
    sparing.task = dataclasses.replace(sparing.task, file=sparing.task.file.model_copy(update={"steering": steering}))
    fails(lambda: check_steerer(lambda: SomeSteerer(edited(lambda x, rows: x)), sparing), "tokens that the task spares (first_token")
    allowed = edited(lambda x, rows: x, positions=Positions(first_token=False))
    check_steerer(lambda: SomeSteerer(allowed, neutral=1.0), sparing)


# ------------------------------------------------------------------------------------------------------------------- judges that break it


class SomeJudge:
    """Submits as it is told."""

    def __init__(self, submit: Callable[[Any], Any], collect: Callable[[Any], Any] = lambda tickets: [], **members: Any) -> None:
        self.submit, self.collect = submit, collect  # type: ignore[method-assign]
        self.traits = JudgeTraits(**{"rubric": "r/1", "offline": True, **members})

    def prepare(self, bench: Any) -> None: ...
    def submit(self, items: Any) -> Any: ...
    def collect(self, tickets: Any) -> Any: ...


def fair(item: JudgeItem, value: float = 1.0) -> Rating:
    return Rating(item.id, "rated", value, value, value)


@pytest.mark.parametrize(
    ("submit", "members", "told"),
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
        (lambda items: [dataclasses.replace(fair(item), details={"x": object()}) for item in items], {}, "is no JSON value"),
        (
            lambda items: [Rating(item.id, "pending", ticket="t") for item in items],
            {"collect": lambda tickets: [fair(JudgeItem("x", "", "", ""))]},
            "collect answered item 'x', which it was not asked for",
        ),
    ],
)
def test_a_judge_that_breaks_it(bench: TaskBench, submit: Any, members: dict[str, Any], told: str) -> None:
    fails(lambda: check_judge(lambda: SomeJudge(submit, **members), bench), told)


def test_a_judge_that_answers_differently_each_time_may_say_so(bench: TaskBench) -> None:
    def draw(items: Any) -> Any:
        return [fair(item, place % 2) for place, item in enumerate(items)]

    assert len(check_judge(lambda: SomeJudge(draw), bench, deterministic=False)) == 8


# ------------------------------------------------------------------------------------------------------------------------ registration


class Undocumented(Options):
    """Options."""

    x: int = 1


class Outside(Options):
    """Options."""

    x: int = Field(5, le=3)
    """A number whose default is out of its bounds."""


def test_options_that_are_not_documented() -> None:
    fails(lambda: check_options(Undocumented), "option x of Undocumented has no docstring below it")
    fails(lambda: check_options(type("Loose", (Undocumented,), {"model_config": {"extra": "allow"}})), "Loose takes unknown options")
    fails(lambda: check_options(type("Soft", (Undocumented,), {"model_config": {"frozen": False}})), "Soft is not frozen")
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
