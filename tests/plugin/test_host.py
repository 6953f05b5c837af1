"""Plugins as they come: installed distributions, entry points, name clashes, broken ones, misspelt hooks, observers."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness as package
from harness import hookimpl
from harness.errors import PluginError, UnknownNameError
from harness.options import Options
from harness.plugin import spec as hookspecs
from harness.plugin.host import PluginHost

JUDGE = """
from harness import hookimpl
from harness.contracts import JudgeTraits
class Judge:
    traits = JudgeTraits(rubric="r/1", offline=True)
    def __init__(self, options): pass
    def prepare(self, bench): pass
    def submit(self, items): return []
    def collect(self, tickets): return []
@hookimpl
def harness_register_judges(registry):
    registry.add("{name}", Judge, summary="a judge")
"""


def module(**attributes: Any) -> types.ModuleType:
    """A plugin module with these attributes."""
    made = types.ModuleType("made")
    vars(made).update(attributes)
    return made


def registering(kind: str, *arguments: Any, **options: Any) -> types.ModuleType:
    """A plugin that registers one thing."""

    def hook(registry: Any) -> None:
        registry.add(*arguments, **options)

    hook.__name__ = f"harness_register_{kind}s"
    return module(**{hook.__name__: hookimpl(hook)})


# ---------------------------------------------------------------------------------------------------------------------- installed


def test_an_installed_distribution_is_found_by_its_entry_point(sample_site: Path, installed: Callable[..., Any]) -> None:
    with installed(sample_site):
        host = PluginHost.load()
        labeler, judge = host.get("labeler", "most-frequent"), host.get("judge", "words")
        assert {plugin.distribution for plugin in (labeler, judge, host.get("steerer", "project-out"))} == {"harness-sample"}
        assert (labeler.version, judge.version) == ("1.2.3", "1.2.3")
        assert labeler.source.endswith("harness_sample/labeler.py")
        assert judge.create({"mailbox": "here"}).options.mailbox == "here"
        assert "sample" not in {broken.entry_point for broken in host.broken}


def test_the_command_lists_and_shows_it(harness: Callable[..., Any]) -> None:
    listed = harness("plugins", "--json").json
    rows = {(row["kind"], row["name"]): row for row in listed["plugins"]}
    assert rows["judge", "words"]["distribution"] == "harness-sample"
    assert rows["labeler", "most-frequent"]["options"][0]["description"] == "Abstain where the rise is no larger than this."
    shown = harness("plugins", "show", "calibf1")
    assert shown.code == 0
    for part in ("-L pi0=", "0.001", "> 0, < 1", "calibf1.py", "expensive"):
        assert part in shown.out
    assert "no options" in harness("plugins", "show", "none").out


# ------------------------------------------------------------------------------------------------------------------------- clashes


def test_two_plugins_with_one_name_name_both_distributions(harness: Callable[..., Any], install: Callable[..., Path]) -> None:
    site = install(JUDGE.format(name="words"), "theirs", "other-words")
    error = harness("plugins", sites=(site,)).error
    assert "two judges are named 'words'" in error
    assert "harness-sample" in error
    assert "other-words" in error


def test_two_tasks_with_one_name_name_both_distributions() -> None:
    host = PluginHost()
    host.add(registering("task", "t", Path("a")), name="a", distribution="one")
    with pytest.raises(PluginError) as error:
        host.add(registering("task", "t", Path("b")), name="b", distribution="two")
    assert error.value.given == "t"
    assert "one of one, one of two" in error.value.message
    assert error.value.hint


def test_one_module_under_two_entry_points_is_one_plugin() -> None:
    host, plugin = PluginHost(), registering("judge", "j", object)
    host.add(plugin, name="a")
    host.add(plugin, name="b")
    assert list(host.all("judge")) == ["j"]
    assert host.broken == []


# -------------------------------------------------------------------------------------------------------------------------- broken


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("import no_such_library_xyz", "No module named 'no_such_library_xyz'"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        (JUDGE.format(name="Bad Name"), "'Bad Name'"),
        (JUDGE.replace("harness_register_judges", "harness_register_judgs"), "did you mean 'harness_register_judges'?"),
        (JUDGE.replace("@hookimpl", ""), "@harness.hookimpl"),
        (JUDGE.replace("harness_register_judges", "harness_registr").replace("@hookimpl", ""), "unknown hook 'harness_registr'"),
        ("x = 1", "harness_register_labelers"),
        (JUDGE.replace("(registry)", "(registry, task)"), "task"),
        (JUDGE.replace("Judge, summary", "Judge, options=dict, summary"), "harness.options.Options"),
        (JUDGE.replace('"{name}", Judge', '"{name}", 5'), "int"),
    ],
)
def test_a_broken_plugin_is_reported_and_stops_nothing(
    harness: Callable[..., Any], install: Callable[..., Path], source: str, named: str
) -> None:
    site = install(source.replace("{name}", "mine"), distribution="broken-dist")
    done = harness("plugins", sites=(site,))
    assert done.code == 0
    assert "calibf1" in done.out
    line = next(line for line in done.err.splitlines() if line.startswith("broken: mine (broken_dist_module) of broken-dist: "))
    assert named in line
    broken = {row["entry_point"]: row for row in harness("plugins", "--json", sites=(site,)).json["broken"]}
    assert named in broken["mine"]["error"]


def test_a_broken_plugin_that_was_asked_for_stops_with_its_own_traceback(
    harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path
) -> None:
    site = install("def load():\n    import no_such_library_xyz\nload()\n", distribution="broken-dist")
    for command in (("plugins", "show", "mine"), ("eval", "--steerer", "mine", "--task", tiny_task, "--out", tmp_path / "out")):
        done = harness(*command, sites=(site,))
        assert done.error.startswith("plugin 'mine' (broken_dist_module) of broken-dist is broken: ModuleNotFoundError: No module named")
        assert "broken_dist_module.py\", line 2, in load" in done.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_name_hints_at_broken_plugins(harness: Callable[..., Any], install: Callable[..., Path]) -> None:
    site = install("import no_such_library_xyz", distribution="broken-dist")
    assert "broken plugins: mine" in harness("eval", "--steerer", "my-steerer", "--task", "demo", sites=(site,)).error


def test_a_plugin_that_breaks_half_way_leaves_nothing_behind() -> None:
    host = PluginHost()

    def labelers(registry: Any) -> None:
        registry.add("good", object)

    def steerers(registry: Any) -> None:
        raise RuntimeError("no steerers today")

    plugin = module(
        harness_register_labelers=hookimpl(specname="harness_register_labelers")(labelers),
        harness_register_steerers=hookimpl(specname="harness_register_steerers")(steerers),
    )
    host.add(plugin, name="half", distribution="d")
    assert host.all("labeler") == {}
    assert [(b.entry_point, b.reason) for b in host.broken] == [("half", "RuntimeError: no steerers today")]
    host.add(registering("labeler", "good", object), name="whole")
    assert list(host.all("labeler")) == ["good"]


# ------------------------------------------------------------------------------------------------------------------- asking for one


def test_an_unknown_plugin_names_the_nearest() -> None:
    host = PluginHost()
    host.add(registering("labeler", "calibf1", object), name="calibf1")
    with pytest.raises(UnknownNameError) as error:
        host.get("labeler", "califb1")
    assert (error.value.kind, error.value.given, error.value.near) == ("labeler", "califb1", "calibf1")
    assert "harness plugins" in error.value.hint
    with pytest.raises(UnknownNameError) as error:
        host.get("labeler", "zzz")
    assert (error.value.near, error.value.known) == (None, ("calibf1",))
    with pytest.raises(UnknownNameError) as error:
        host.find("calibf")
    assert (error.value.kind, error.value.given, error.value.near) == ("plugin", "calibf", "calibf1")


def test_an_object_that_lacks_a_part_of_the_contract_is_refused_by_name() -> None:
    class Half:
        traits = None

        def __init__(self, options: Options) -> None:
            pass

        def submit(self, items: Any) -> list[Any]:
            return []

    host = PluginHost()
    host.add(registering("judge", "half", Half), name="half", distribution="d")
    with pytest.raises(PluginError) as error:
        host.get("judge", "half").create()
    assert error.value.given == ["prepare", "collect"]
    assert "judge 'half' of d" in error.value.message
    assert "harness.contracts.Judge" in error.value.hint


# ----------------------------------------------------------------------------------------------------------------------- observers


def test_observers_are_called_and_one_that_fails_does_not_keep_the_others_from_it() -> None:
    heard: list[Any] = []

    def deaf(run: Any) -> None:
        raise OSError("no\nnetwork")

    host = PluginHost()
    for name, function in (("a", lambda run, folder: heard.append((run, folder))), ("b", deaf), ("c", lambda folder: heard.append(folder))):
        host.add(module(harness_run_started=hookimpl(specname="harness_run_started")(function)), name=name, distribution=f"dist-{name}")
    failures = host.notify("harness_run_started", run={"task": 1}, folder=Path("x"))
    assert heard == [Path("x"), ({"task": 1}, Path("x"))]
    assert failures == ["observer harness_run_started of dist-b failed: OSError: no network"]


def test_every_hook_is_documented_and_typed() -> None:
    hooks = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("harness_")}
    assert len(hooks) == 9
    for name, hook in hooks.items():
        assert inspect.getdoc(hook), name
        assert "->" in inspect.getsource(hook).splitlines()[1], name
        assert set(inspect.signature(hook).parameters) <= set(hook.__annotations__), name
    assert package.__all__ == ["__version__", "evaluate", "hookimpl", "load_run", "load_task", "rate"]
