"""What a run is going to do: methods, options, strengths, controls, identity and cost, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError

from harness import hookimpl
from harness.contracts import LabelerTraits, SteererTraits
from harness.errors import HarnessError, OptionError, PluginError, TaskError, UnknownNameError
from harness.files.hashing import path_digest
from harness.options import Options, filter_field
from harness.plugin.host import PluginHost
from harness.run.bench import Choices, TaskBench, open_bench
from harness.run.estimate import device_flops, estimate
from harness.run.manifest import identity_of
from harness.run.plan import Asked, Plan, make_plan
from harness.tasks.find import load_task
from harness.tasks.schema import Task, TaskFile
from harness.types import Json

CLAMP = Asked(("calibf1",), ("sae-clamp",))


def names(plan: Plan) -> list[tuple[str, str]]:
    return [(method.name, method.role) for method in plan.methods]


# ------------------------------------------------------------------------------------------------------------------------- methods


def test_labelers_times_steerers_then_controls_each_once(host: PluginHost, task: Task) -> None:
    plan = make_plan(host, task, Asked(("calibf1", "most-frequent", "calibf1"), ("sae-clamp", "prompt", "project-out")))
    assert names(plan) == [
        ("calibf1 × sae-clamp", "method"),
        ("most-frequent × sae-clamp", "method"),
        ("prompt", "method"),  # uses no feature: once for all labelers, and no control any more
        ("calibf1 × project-out", "method"),
        ("most-frequent × project-out", "method"),
        ("random:min_output_score=0.001 × sae-clamp", "control"),  # with the output score that calibf1 asks for
        ("random × sae-clamp", "control"),  # without, as most-frequent
    ]
    assert [labeler.registered.name for labeler in plan.labelers] == ["calibf1", "most-frequent", "random", "random"]
    assert [labeler.options["min_output_score"] for labeler in plan.labelers[2:]] == [0.001, None]
    assert plan.judge.registered.name == "words"


def test_no_controls(host: PluginHost, task: Task) -> None:
    assert names(make_plan(host, task, replace(CLAMP, controls=False))) == [("calibf1 × sae-clamp", "method")]


def test_full_controls_follow_each_method_that_steers_by_features(host: PluginHost, task: Task) -> None:
    asked = Asked(("calibf1",), ("sae-clamp", "prompt"), steerer_options={"unit": "residual-norm"}, full_controls=True)
    plan = make_plan(host, task, asked)
    assert names(plan)[:2] == [("calibf1 × sae-clamp:unit=residual-norm", "method"), ("prompt", "method")]
    assert names(plan)[3:] == [
        ("permuted × sae-clamp:unit=residual-norm", "control"),
        ("calibf1 × random-direction", "control"),
    ]
    method, permuted, drawn = plan.methods[0], plan.methods[3], plan.methods[4]
    assert permuted.labeler is not None
    assert permuted.labeler.follows == plan.labelers[0].identity_key
    assert permuted.draws == next(control.draws for control in task.file.controls if control.labeler)
    assert drawn.steerer.options["unit"] == "residual-norm"
    assert method.grid == permuted.grid == drawn.grid
    assert permuted.controls == drawn.controls == (plan.labelers[0].key,)


def test_full_controls_of_a_detector(host: PluginHost, task: Task) -> None:
    plan = make_plan(host, task, Asked(("calibf1",), (), detectors=("sae", "bow"), full_controls=True))
    assert "permuted × sae" in [d.name for d in plan.detections if d.role == "control"]


def test_the_grid_is_the_tasks_or_the_steerers_own(host: PluginHost, task: Task) -> None:
    grids = {m.method.name: m.grid for m in make_plan(host, task, Asked(("calibf1",), ("sae-clamp", "project-out", "none"))).methods}
    assert grids["calibf1 × sae-clamp"] == (0.5, 1.0)
    assert grids["calibf1 × project-out"] == (0.5, 1.0)
    assert grids["none"] == (0.0,)


def test_a_task_grid_in_another_unit_than_the_one_asked_for_is_left_aside(host: PluginHost, task: Task) -> None:
    plan = make_plan(host, task, replace(CLAMP, steerer_options={"unit": "residual-norm"}))
    assert {m.strength_unit for m in plan.methods if m.labeler} == {"residual-norm"}
    assert {m.grid for m in plan.methods if m.labeler} == {(0.1, 0.2, 0.3, 0.4, 0.6)}  # not 0.5 and 1 times the maximum


# ------------------------------------------------------------------------------------------------------------------------- options


def test_options_reach_those_that_have_them_controls_included(host: PluginHost, task: Task) -> None:
    asked = Asked(("calibf1", "most-frequent"), ("sae-clamp", "sae-add"), None, {"pi0": "0.01"}, {"quantile": "0.9", "sae-add:quantile": "0.5"})
    plan = make_plan(host, task, asked)
    found = {m.method.name: m for m in plan.methods}
    assert found["calibf1 × sae-clamp"].labeler.options["pi0"] == 0.01  # type: ignore[union-attr]
    assert found["random × sae-clamp"].steerer.options["quantile"] == 0.9
    assert found["calibf1 × sae-add"].steerer.options["quantile"] == 0.5
    assert found["calibf1 × sae-add"].steerer.given == {"quantile": 0.5}
    assert found["random × sae-clamp"].labeler.options["count"] == 3  # type: ignore[union-attr]  # of the task file


def test_the_command_line_goes_before_the_task_file(host: PluginHost, task: Task) -> None:
    plan = make_plan(host, task, replace(CLAMP, labeler_options={"pi0": "0.2", "random:count": "9"}))
    calibf1, random = plan.labelers
    assert calibf1.given == {"pi0": 0.2}
    assert random.options["count"] == 9


@pytest.mark.parametrize(
    ("change", "error", "given", "way_on"),
    [
        ({"labeler_options": {"pi": "1"}}, UnknownNameError, "pi", "pi0"),
        ({"labeler_options": {"count": "1"}}, UnknownNameError, "count", "calibf1"),  # of a control alone
        ({"labeler_options": {"pi0": "7"}}, OptionError, "7", "> 0, < 1"),
        ({"labeler_options": {"most-frequent:margin": "1"}}, OptionError, "most-frequent", "calibf1"),
        ({"steerer_options": {"units": "x"}}, UnknownNameError, "units", "unit"),
        ({"steerer_options": {"prompt:units": "x"}}, UnknownNameError, "units", "prompt"),
        ({"judge_options": {"x": "1"}}, UnknownNameError, "x", "words"),
        ({"labelers": (), "steerers": ("prompt",), "labeler_options": {"pi0": "1"}}, OptionError, "pi0", "--labeler"),
        ({"labelers": ()}, OptionError, "sae-clamp", "--labeler"),
        ({"steerers": ()}, OptionError, "tiny", "--steerer"),
        ({"labelers": ("calibf2",)}, UnknownNameError, "calibf2", "calibf1"),
        ({"steerers": ("sae-clmp",)}, UnknownNameError, "sae-clmp", "sae-clamp"),
        ({"judge": "word"}, UnknownNameError, "word", "words"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    host: PluginHost, task: Task, change: dict[str, Any], error: type[HarnessError], given: str, way_on: str
) -> None:
    """``way_on`` is what the error must name: the nearest name, else whose option it is; what is allowed; or the option to give."""
    with pytest.raises(error) as raised:
        make_plan(host, task, replace(CLAMP, **change))
    assert raised.value.given == given
    if isinstance(raised.value, UnknownNameError):
        assert raised.value.near == way_on if raised.value.near else way_on in raised.value.kind
    else:
        assert way_on in f"{raised.value.allowed} {raised.value.hint}"


def test_folds_need_as_many_instructions(host: PluginHost, variant: Callable[..., Path]) -> None:
    task = load_task(variant(("splits = 2", "splits = 5")))
    with pytest.raises(TaskError) as error:
        make_plan(host, task, CLAMP)
    assert (error.value.given, error.value.allowed) == (4, "at least 5")
    assert "instructions.per_concept" in error.value.hint
    assert "evaluation.splits" in error.value.hint
    make_plan(host, task, Asked((), ("prompt",), controls=False))  # a single strength is not chosen, so needs no folds


def test_a_task_may_leave_the_judge_to_the_user(host: PluginHost, variant: Callable[..., Path]) -> None:
    task = load_task(variant(('judge = "words"\n', "")))
    with pytest.raises(OptionError) as error:
        make_plan(host, task, CLAMP)
    assert error.value.given == "tiny"
    assert "--judge" in error.value.hint
    assert make_plan(host, task, replace(CLAMP, judge="words")).judge.registered.name == "words"


def test_a_task_without_a_dictionary_serves_no_features(host: PluginHost, tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text('schema = 1\nname = "t"\nversion = 1\nsummary = "s"\njudge = "words"\n[model]\nname = "m"\n')
    with pytest.raises(TaskError) as error:
        make_plan(host, load_task(tmp_path), CLAMP)
    assert error.value.given == "sae-clamp"
    assert "task 't'" in error.value.message
    assert error.value.hint


# ------------------------------------------------------------------------------------------------------------------------ controls


def test_a_random_control_draws_from_what_the_labeler_draws_from(host: PluginHost, task: Task) -> None:
    asked = replace(CLAMP, labeler_options={"min_cosine": "0.3", "features_per_label": "2", "held_out": "0", "dictionary": "sae"})
    _, random = make_plan(host, task, asked).labelers
    assert {name: random.options[name] for name in ("min_cosine", "features_per_label", "held_out", "dictionary")} == {
        "min_cosine": 0.3, "features_per_label": 2, "held_out": 0.0, "dictionary": "sae"
    }  # fmt: skip


def test_each_way_to_filter_has_its_own_control(host: PluginHost, task: Task) -> None:
    plan = make_plan(host, task, Asked(("calibf1", "most-frequent"), ("sae-clamp",), None, {"calibf1:min_cosine": "0.3"}))
    controls = [m.labeler.options["min_cosine"] for m in plan.methods if m.role == "control" and m.labeler]
    assert controls == [0.3, None]


def test_a_control_knows_whom_it_stands_for(host: PluginHost, task: Task) -> None:
    two = Asked(("calibf1", "most-frequent"), ("sae-clamp",))
    alike = replace(two, labeler_options={"calibf1:min_output_score": "none"})
    keys = {labeler.registered.name: labeler.key for labeler in make_plan(host, task, alike).labelers}
    (shared,) = [m for m in make_plan(host, task, alike).methods if m.method.labeler == "random"]
    assert shared.controls == (keys["calibf1"], keys["most-frequent"])
    apart = [m for m in make_plan(host, task, two).methods if m.method.labeler == "random"]
    assert [len(m.controls) for m in apart] == [1, 1]
    assert all(m.controls == () for m in make_plan(host, task, two).methods if m.role == "method")


def test_in_chosen_mode_each_labeler_has_a_control_that_follows_it(host: PluginHost, variant: Callable[..., Path]) -> None:
    chosen = ('mode = "fixed"\nfile = "concepts.jsonl"', 'mode = "chosen"')
    task = load_task(variant(chosen, ('labeler = "random"\n', 'labeler = "random"\ndraws = 3\n')))
    plan = make_plan(host, task, Asked(("calibf1", "most-frequent"), ("sae-clamp",), None, {"calibf1:min_output_score": "none"}))
    leaders, controls = plan.labelers[:2], plan.labelers[2:]
    assert [control.follows for control in controls] == [leader.identity_key for leader in leaders]
    assert len({m.method.id for m in plan.methods}) == len(plan.methods) == 5
    assert [m.draws for m in plan.methods] == [1, 1, 3, 3, 1]
    assert estimate(plan, task, 4, False).generations == 4 * 4 * (2 + 2 + 3 * (2 + 2) + 1)
    unused = make_plan(host, task, Asked(("calibf1",), ("prompt",)))  # nobody chooses, so the control is on its own
    assert [(labeler.registered.name, labeler.follows) for labeler in unused.labelers] == [("random", None)]
    assert [m.draws for m in unused.methods] == [1, 1]
    alone = make_plan(host, task, Asked(("random",), ("sae-clamp",)))  # as a method it draws pairs of its own
    assert next(labeler.follows for labeler in alone.labelers) is None


def test_draws_need_a_labeler_that_draws(host: PluginHost, variant: Callable[..., Path]) -> None:
    task = load_task(variant(('labeler = "random"\n', 'labeler = "max-auc"\ndraws = 2\n')))
    with pytest.raises(OptionError) as error:
        make_plan(host, task, CLAMP)
    assert (error.value.given, error.value.allowed) == (2, 1)
    with pytest.raises(ValidationError, match="no labeler that could draw"):
        with_draws(task, 1, 2)


def with_draws(task: Task, place: int, draws: int) -> Task:
    """The task whose control at this place states so many draws."""
    file = task.file.model_dump(mode="json", by_alias=True)
    file["schema"], file["controls"][place]["draws"] = 2, draws
    return replace(task, file=TaskFile.model_validate(file))


def test_draws_left_out_are_one_and_change_no_digest(task: Task) -> None:
    """Digests of before there were draws hold: no ranking of such a task is cut in two."""
    control = task.file.controls[0]
    assert control.draws == 1
    assert with_draws(task, 0, 1).digest() == task.digest() != with_draws(task, 0, 2).digest()
    content = task.file.model_dump(mode="json", by_alias=True)
    assert "draws" in content["controls"][0]


def third_party(grid: tuple[float, ...]) -> Any:
    """A plugin with a steerer of this grid."""

    class Steerer:
        traits = SteererTraits(unit="none", grid=grid)

        def __init__(self, options: Any) -> None:
            pass

        def prepare(self, bench: Any, labelings: Any) -> None: ...
        def intervene(self, labeling: Any, strength: float) -> None: ...

    class Plugin:
        @hookimpl
        def harness_register_steerers(self, registry: Any) -> None:
            registry.add("odd", Steerer, summary="odd")

    return Plugin()


@pytest.mark.parametrize("grid", [(), (2.0, 1.0), (1.0, 1.0), (1.0, float("inf")), (float("nan"),)])
def test_a_steerers_own_grid_must_ascend(sample_site: Path, installed: Callable[..., Any], task: Task, grid: tuple[float, ...]) -> None:
    with installed(sample_site):
        host = PluginHost.load()
        host.add(third_party(grid), name="odd", distribution="d")
        with pytest.raises(PluginError) as error:
            make_plan(host, task, Asked((), ("odd",)))
        assert repr(error.value.given) == repr(grid)
        assert "strengths" in error.value.message
        assert "steerer 'odd' of d" in error.value.message


def test_whole_numbers_in_a_grid_are_strengths_like_others(sample_site: Path, installed: Callable[..., Any], task: Task) -> None:
    with installed(sample_site):
        host = PluginHost.load()
        host.add(third_party((1, 2)), name="odd")
        grid = make_plan(host, task, Asked((), ("odd",))).methods[0].grid
        assert grid == (1.0, 2.0)
        assert {type(strength) for strength in grid} == {float}


# ------------------------------------------------------------------------------------------------------------- identity and estimate


@pytest.fixture(scope="module")
def bench(task: Task, cache_folder: Path) -> TaskBench:
    return open_bench(task, Choices(device="cpu"), quiet=True)


def test_every_choice_enters_the_runs_identity(host: PluginHost, task: Task, bench: TaskBench) -> None:
    base = identity_of(make_plan(host, task, CLAMP), bench)
    assert identity_of(make_plan(host, task, CLAMP), bench) == base
    asked = [
        replace(CLAMP, labeler_options={"pi0": "0.2"}),
        replace(CLAMP, steerer_options={"quantile": "0.9"}),
        replace(CLAMP, judge_options={"mailbox": "m"}),
        replace(CLAMP, steerers=("sae-clamp", "none")),
        replace(CLAMP, controls=False),
    ]
    assert all(identity_of(make_plan(host, task, other), bench) != base for other in asked)
    for choices in (Choices(device="cpu", seed=1), Choices(device="cpu", limit=1), Choices(device="cpu", split="x")):
        bench_with = replace(bench, choices=choices)
        bench_with.__dict__.update(model=bench.model, model_ref=bench.model_ref, dictionary_refs=bench.dictionary_refs)
        assert identity_of(make_plan(host, task, CLAMP), bench_with) != base


def test_instructions_are_told_by_their_content(host: PluginHost, task: Task, bench: TaskBench, tmp_path: Path) -> None:
    """What a file is called is nothing that a text depends on; a run with the task's own has the digest that it always had."""
    own = task.path("instructions.jsonl")

    def digest_with(path: Path | None) -> Json:
        given = replace(bench, choices=Choices(device="cpu", instructions=None if path is None else str(path)))
        given.__dict__.update(model=bench.model, model_ref=bench.model_ref, dictionary_refs=bench.dictionary_refs)
        return identity_of(make_plan(host, task, CLAMP), given)["instructions"]

    assert digest_with(None) == path_digest(own)
    copied, other, renamed = tmp_path / "copied.jsonl", tmp_path / "other.jsonl", tmp_path / "renamed.jsonl"
    copied.write_bytes(own.read_bytes())
    assert digest_with(copied) == digest_with(own) == digest_with(None)
    for path in (other, renamed):
        path.write_bytes(own.read_bytes().replace(b"Once upon a time", b"Long ago"))
    assert digest_with(other) == digest_with(renamed) != digest_with(None)


def test_the_estimate_counts_what_a_run_does(host: PluginHost, task: Task, evaluation: tuple[Path, Any]) -> None:
    plan = make_plan(host, task, CLAMP)
    cost = estimate(plan, task, 4, True, flops=1e12)
    done = evaluation[1]["rows"]
    # calibf1 abstains from one concept, at 2 strengths × 4 instructions
    assert cost.generations == sum(row["n_texts"] for row in done) + 2 * 4 == 4 * (2 + 2 + 1) * 4
    assert (cost.ratings, cost.new_tokens) == (cost.generations, cost.generations * 10)
    assert cost.seconds is not None
    assert estimate(plan, task, 4, True).seconds is None
    assert device_flops("cpu") > 1e9


class Filtered(Options):
    """For the test below."""

    other: float | None = filter_field(None, ge=0)
    """A filter that the random labeler does not know."""
    count: int = Field(1, ge=1)
    """No filter."""


def test_a_filter_that_the_control_does_not_know_is_not_handed_to_it(sample_site: Path, installed: Callable[..., Any], task: Task) -> None:
    class Labeler:
        def __init__(self, options: Filtered) -> None: ...
        traits = LabelerTraits()

        def label(self, bench: Any, concepts: Any) -> list[Any]:
            return []

    class Plugin:
        @hookimpl
        def harness_register_labelers(self, registry: Any) -> None:
            registry.add("filtered", Labeler, options=Filtered, summary="filtered")

    with installed(sample_site):
        host = PluginHost.load()
        host.add(Plugin(), name="filtered")
        random = make_plan(host, task, Asked(("filtered",), ("sae-clamp",), None, {"other": "1", "count": "7"})).labelers[1]
        assert random.registered.name == "random"
        assert random.options["count"] == 7  # an option that both have reaches both
        assert "other" not in random.options


def test_the_content_of_a_file_that_an_option_names_is_part_of_the_identity(
    host: PluginHost, task: Task, tmp_path: Path, harness: Callable[..., Any]
) -> None:
    """Else a run would go on with the labels of a file as it was before."""
    path = tmp_path / "labels.csv"
    command = ("eval", "--labeler", "file", "-L", f"path={path}", "--steerer", "sae-add", "-S", "unit=residual-norm", "--task", task.folder)
    for feature in (3, 3, 7):
        path.write_text(f"concept,feature\ngirl,{feature}\n", encoding="utf-8")
        done = harness(*command, "--no-controls", "--quiet", "--out", tmp_path)
        assert done.code == 0, done.err
    assert len(list((tmp_path / "runs").iterdir())) == 2


# ------------------------------------------------------------------------------------------------------------------ one grammar, variants


def test_one_plugin_with_other_options_is_another_method(host: PluginHost, task: Task) -> None:
    asked = Asked(("calibf1", "calibf1:pi0=0.2"), ("sae-clamp", "sae-clamp:quantile=0.5", "none"), metrics=("overlap", "overlap:features=8"))
    plan = make_plan(host, task, replace(asked, detectors=("own-words", "own-words:count=3")))
    assert names(plan)[:5] == [
        ("calibf1 × sae-clamp", "method"),
        ("calibf1:pi0=0.2 × sae-clamp", "method"),
        ("calibf1 × sae-clamp:quantile=0.5", "method"),
        ("calibf1:pi0=0.2 × sae-clamp:quantile=0.5", "method"),
        ("none", "method"),
    ]
    assert names(plan)[5:7] == [("random × sae-clamp", "control"), ("random × sae-clamp:quantile=0.5", "control")]  # one for each way to steer
    assert [labeler.label for labeler in plan.labelers] == ["calibf1", "calibf1:pi0=0.2", "random"]
    assert [m.metric.label for m in plan.metrics] == ["overlap", "overlap:features=8"]
    assert [d.name for d in plan.detections if d.role == "method"] == ["own-words", "own-words:count=3"]
    assert plan.notices == ()
    assert plan.called(plan.methods[0].steerer) == "steerer sae-clamp"
    assert plan.called(plan.methods[2].steerer) == "steerer sae-clamp:quantile=0.5"


def test_the_same_thing_twice_is_one_and_said(host: PluginHost, task: Task) -> None:
    asked = Asked(("calibf1", "calibf1:pi0=0.05"), ("none", "none", "sae-clamp:quantile=0.99"), steerer_options={"sae-clamp:quantile": "0.9"})
    with pytest.raises(OptionError) as error:
        make_plan(host, task, asked)
    assert error.value.given == "sae-clamp:quantile"
    plan = make_plan(host, task, replace(asked, steerer_options={}, controls=False))
    assert len(plan.labelers) == 1  # 0.05 is what the task gives
    assert {notice.split(" was asked for twice")[0] for notice in plan.notices} == {"labeler calibf1", "steerer none"}


def test_what_is_not_used_is_said(host: PluginHost, task: Task) -> None:
    plan = make_plan(host, task, Asked(("calibf1",), ("none",), labeler_options={"pi0": "0.5"}))
    assert plan.notices == ("labeler calibf1:pi0=0.5 was asked for and is not used: none needs no features",)
    plan = make_plan(host, task, Asked((), (), "words", detectors=("majority",)))
    assert len(plan.notices) == 1
    assert plan.notices[0].startswith("judge words was asked for and is not used")
    for options in ({"metric_options": {"features": "8"}}, {"detector_options": {"count": "8"}}, {"steerer_options": {"unit": "none"}}):
        asked = replace(Asked(("calibf1",), ("sae-clamp",)), **options) if "steerer_options" not in options else Asked(detectors=("bow",), **options)
        with pytest.raises(OptionError) as error:
            make_plan(host, task, asked)
        assert error.value.given == next(iter(next(iter(options.values()))))


def test_the_rows_of_a_task_are_taken_one_by_one(host: PluginHost, variant: Callable[..., Path]) -> None:
    rows = """
[[methods]]
labeler = "calibf1"
steerer = "sae-clamp"

[[methods]]
labeler = "most-frequent"
steerer = "sae-add:quantile=0.5"

[[methods]]
labeler = "calibf1"
labeler_options = {pi0 = 0.2}
steerer = "sae-clamp"
options = {quantile = 0.9}

[[detectors]]
labeler = "most-frequent"
detector = "sae"
options = {pool = "mean"}

[[detectors]]
detector = "own-words:count=3"

[[detectors]]
detector = "own-words"

[[metrics]]
metric = "overlap"

[[metrics]]
metric = "overlap"
options = {features = 8}
"""
    own = load_task(variant(("schema = 1\n", "schema = 2\n"), ("[evaluation]", rows + "\n[evaluation]")))
    plan = make_plan(host, own, Asked(controls=False))
    assert names(plan) == [
        ("calibf1 × sae-clamp", "method"),
        ("most-frequent × sae-add:quantile=0.5", "method"),
        ("calibf1:pi0=0.2 × sae-clamp:quantile=0.9", "method"),
    ]
    assert [d.name for d in plan.detections] == ["most-frequent × sae", "own-words", "own-words:count=5"]
    assert [(m.metric.label, m.metric.options["features"]) for m in plan.metrics] == [("overlap", 256), ("overlap:features=8", 8)]
    named = make_plan(host, own, Asked(detectors=("own-words",), controls=False))
    assert named.detections[0].detector.options["count"] == 3  # as in the first row that names it
    other = make_plan(host, own, Asked(("max-auc",), controls=False, steerer_options={"sae-clamp:quantile": "0.4"}))
    assert [m.name for m in other.methods][0::2] == ["max-auc × sae-clamp:quantile=0.4"]  # rows one and three are one by now
    assert any("max-auc × sae-clamp:quantile=0.4 was asked for twice" in notice for notice in other.notices)


@pytest.mark.parametrize(
    ("old", "new", "table"),
    [
        ("sae-clamp = [0.5, 1.0]", "sae-clmp = [0.5, 1.0]", "steering.grids"),
        ("[labelers.calibf1]", "[labelers.calbf1]", "labelers"),
    ],
)
def test_options_and_strengths_for_nobody_are_refused(host: PluginHost, variant: Callable[..., Path], old: str, new: str, table: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        make_plan(host, load_task(variant((old, new))), Asked((), ("none",)))
    assert table in error.value.kind
    assert error.value.near in ("sae-clamp", "calibf1")
