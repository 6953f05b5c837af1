"""The pages are true: generated parts are current, snippets run, commands exist and run on a small task, links lead somewhere."""

from __future__ import annotations

import doctest
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest
import tomli
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tasks/**/*.md"), *ROOT.glob("benchmarks/*.md"))
    if path.is_file()
)
GENERATED = re.compile(r"<!-- generated: .*?<!-- end -->", re.DOTALL)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ELSEWHERE = (
    "models fetch", "tasks validate", "gemma", "stackexchange.com", "my-task", "RUN", "sae train", "data generate", "data filter", "gpt-4o",
    "selftest", "texts.csv", "my-method", "my_method", "runs matrix", "label-paper",
    "axbench-2b", "data fetch", "synthetic", "sae ensemble", "data tokens", "--metric autointerp", "--task aspects", "judge aspects", "traits-mini",
)  # fmt: skip
"""Commands of the pages that are parsed, but not run here: they need a network, a key, hours, or files of the reader's own.

Those with the method of write-a-plugin.md are run in order by tests/test_write_a_plugin.py.
"""

FILES = {"my_methods.py": "python", "pyproject.toml": "toml"}
"""Files that plugins.md makes piece by piece: a block whose first line is the file's name is a part of it."""


def blocks(page: Path, language: str) -> Iterator[str]:
    """The code blocks that were written by hand; those that are made from files are tested as those files."""
    return (body for found, body in FENCE.findall(GENERATED.sub("", page.read_text(encoding="utf-8"))) if found == language)


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """(where, arguments) of every ``harness …`` line in the pages' shell blocks."""
    for page in PAGES:
        for language in ("bash", "sh"):
            for body in blocks(page, language):
                for line in body.replace("\\\n", " ").splitlines():
                    words = shlex.split(line, comments=True)
                    if words[:1] == ["harness"]:
                        yield f"{page.relative_to(ROOT)}: {' '.join(words)}", words[1:]


COMMANDS = list(dict(command_lines()).items())


# --------------------------------------------------------------------------------------------------------------------- pages


def test_the_generated_parts_are_current() -> None:
    """Also fails where an option, a command's flag, a hook or a key of the task file has no description."""
    answer = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_hook_and_shipped_plugin_is_on_the_page() -> None:
    from harness.files.version import DISTRIBUTION
    from harness.plugin import spec as hookspecs
    from harness.plugin.host import PluginHost
    from harness.plugin.registry import KINDS

    page, options = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("plugins.md", "options.md"))
    names = [name for name in vars(hookspecs) if name.startswith("harness_")]
    host = PluginHost.load()
    shipped = [f"### {kind} `{p.name}`\n" for kind in KINDS for p in host.all(kind).values() if p.distribution == DISTRIBUTION]
    assert len(names) >= 9
    assert len(shipped) >= 15
    assert [name for name in names if f"`{name}(" not in page] == []
    assert [name for name in shipped if name not in options] == []


def test_every_protocol_and_its_traits_are_on_the_page() -> None:
    from harness import contracts

    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    names = [name for name in contracts.__all__ if getattr(getattr(contracts, name), "_is_protocol", False)]
    traits = [name for name in contracts.__all__ if name.endswith("Traits") and name != "NumberTraits"]
    assert {"Labeler", "Steerer", "Detector", "Metric", "Judge", "Bench"} <= set(names)
    assert len(traits) == 5
    assert [name for name in names if f"<!-- generated: contract {name} -->" not in page] == []
    assert [name for name in traits if f"<!-- generated: fields {name} -->" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if not target.startswith(("http://", "https://"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_readme_names_what_others_rely_on() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("calibrated_f1", "harmonic_mean", "cross_validate", "harness.sae.load", "harness.data.open_corpus", "harness.hookimpl"):
        assert name in text
    for method in ("encode", "decode", "feature", "clamp"):
        assert f"sae.{method}(" in text
    assert "make demo" in text
    assert "make test" in text


def test_every_page_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in ROOT.glob("docs/*.md") if f"](docs/{path.name})" not in text] == []


def test_the_examples_of_the_readme_are_true(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's place is taken by the contract kit's task, whose model and corpus are small."""
    toy = written_task(tmp_path / "toy")
    (tmp_path / "tasks").symlink_to(ROOT / "tasks")
    monkeypatch.syspath_prepend(str(sample))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count('load_task("demo"') == 1
    examples = doctest.DocTestParser().get_doctest(text.replace('load_task("demo"', f"load_task({str(toy)!r}"), {}, "README.md", None, 0)
    result = doctest.DocTestRunner().run(examples)
    assert result.attempted >= 15
    assert result.failed == 0
    assert len(list((tmp_path / "leaderboard" / "entries").iterdir())) == 1


def test_other_python_snippets_run(own: Path, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snippets without a prompt are files of a reader's plugin: their hooks must register, their tests must pass.

    Those of python.md are one program, which tests/evaluations/test_face.py runs; the script of labelling.md reads a file, which
    tests/sae/formats/test_conversion.py makes; those of write-a-plugin.md are parts of a file, which tests/test_write_a_plugin.py puts together.
    """
    from harness.plugin.host import PluginHost

    for folder in (own, sample):
        monkeypatch.syspath_prepend(str(folder))
    hooks = tests = 0
    for page in PAGES:
        if page.name in ("python.md", "labelling.md", "write-a-plugin.md"):
            continue
        for number, body in enumerate(body for body in blocks(page, "python") if ">>>" not in body):
            file = tmp_path / f"{page.stem}_{number}.py"
            file.write_text(body, encoding="utf-8")  # options take their descriptions from their source
            namespace: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
            exec(compile(body, str(file), "exec"), namespace)
            found = {name: staticmethod(value) for name, value in namespace.items() if name.startswith("harness_")}
            if found:
                host = PluginHost()
                host.add(type("Snippet", (), found), name=f"snippet-{number}")
                assert host.broken == []
            hooks += len(found)
            for name, test in [(name, value) for name, value in namespace.items() if name.startswith("test_")]:
                test(*[tmp_path / name for _ in inspect.signature(test).parameters])
                tests += 1
    assert hooks >= 7
    assert tests >= 6


def test_the_options_of_the_page_are_marked_and_described(tmp_path: Path) -> None:
    from harness.options import filter_names, input_names, transport_names
    from harness.testing import check_options

    (body,) = [body for body in blocks(ROOT / "docs" / "plugins.md", "python") if "class MyOptions" in body]
    (tmp_path / "own_options.py").write_text(body, encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "own_options"}
    exec(compile(body, str(tmp_path / "own_options.py"), "exec"), namespace)
    model = namespace["MyOptions"]
    check_options(model)
    assert (input_names(model), filter_names(model), transport_names(model)) == (("words",), ("dictionary",), ("timeout",))


def test_the_task_file_of_the_docs_is_valid(tmp_path: Path) -> None:
    from harness.tasks.find import load_task

    body, training, matrix = blocks(ROOT / "docs" / "tasks.md", "toml")
    (tmp_path / "task.toml").write_text(body, encoding="utf-8")
    task = load_task(tmp_path)
    assert task.name == "my-task"
    assert task.file.steering.grids == {"sae-clamp": (0.5, 1.0, 2.0)}
    assert [(table.labeler, table.detector) for table in task.file.detectors] == [("calibf1", "sae"), (None, "diff-mean")]
    (tmp_path / "task.toml").write_text(f"{body}\n{training}", encoding="utf-8")
    assert load_task(tmp_path).file.dictionary_names == ("sae", "small", "small@1", "small@2")
    (tmp_path / "task.toml").write_text(f"{body.replace('schema = 2', 'schema = 3')}\n{matrix}", encoding="utf-8")
    assert [cell.name for cell in load_task(tmp_path).file.cells][::3] == ["score=calibrated-f1,layer=15", "score=f1,layer=20"]


def test_the_task_of_the_readme_works(
    tiny_task: Path, tiny_model_path: Path, tiny_sae_path: Path, tmp_path: Path, harness: Callable[..., Any]
) -> None:
    """Copied as it stands, with a reader's paths and files in place, and a judge that needs no model."""
    (body,) = blocks(ROOT / "README.md", "toml")
    own = {"path/to/model": tiny_model_path.as_posix(), "path/to/sae": tiny_sae_path.as_posix(), 'judge = "offline"': 'judge = "words"'}
    for theirs, ours in own.items():
        assert body.count(theirs) == 1
        body = body.replace(theirs, ours)
    folder = tmp_path / "my-task"
    folder.mkdir()
    (folder / "task.toml").write_text(body, encoding="utf-8")
    for name in ("corpus.jsonl", "concepts.jsonl"):
        shutil.copy(tiny_task / name, folder / name)
    rows = "".join(json.dumps({"id": str(number), "text": f"Day {number}"}) + "\n" for number in range(8))
    (folder / "instructions.jsonl").write_text(rows, encoding="utf-8")
    checked = harness("tasks", "validate", folder)
    assert checked.code == 0, checked.out
    (row, *controls) = harness(
        "eval", "--task", folder, "--labeler", "calibf1:pi0=0.05", "--steerer", "sae-clamp", "--concepts", "girl", "--out", tmp_path, "--json"
    ).json["rows"]
    assert (row["n_answered"], row["n_texts"], row["subject"]["grid"]) == (1, 24, [0.5, 1.0, 2.0])
    assert [control["subject"]["steerer"] for control in controls] == ["sae-clamp", "prompt"]


def test_the_picture_shows_the_demos_newest_entry() -> None:
    from harness.leaderboard.columns import number
    from harness.leaderboard.files import load_entries

    entries, problems = load_entries(ROOT / "leaderboard" / "entries")
    assert problems == []
    demos = [entry for entry in entries if entry.task.name == "demo" and entry.rows_of("steering")]
    entry = max(demos, key=lambda entry: (int(entry.task.version), entry.created))
    svg = ElementTree.parse(ROOT / "docs" / "first-result.svg").getroot()
    texts = ["".join(element.itertext()) for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    for row in entry.rows_of("steering"):
        assert number(row.score.value) in texts
        assert any(text.startswith(row.subject.name) for text in texts)
    assert "](docs/first-result.svg)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_says_what_the_screen_says_of_the_demos_newest_entry() -> None:
    from harness.leaderboard.files import load_entries
    from harness.leaderboard.ranking import rank
    from harness.leaderboard.summary import opening_verdicts

    entries, _ = load_entries(ROOT / "leaderboard" / "entries")
    demos = [entry for entry in entries if entry.task.name == "demo" and entry.rows_of("steering")]
    newest = max(demos, key=lambda entry: (int(entry.task.version), entry.created))
    (group,) = [group for group in rank([newest]) if group.key.kind == "steering"]
    shown = [" ".join(block.split()) for block in blocks(ROOT / "README.md", "text")]
    assert {" ".join(lines) for lines in opening_verdicts(group)} <= set(shown)


def test_citation_and_changelog_are_in_step_with_the_version() -> None:
    from harness.files.version import VERSION

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format needs
    assert (citation["cff-version"], str(citation["version"]), citation["type"]) == ("1.2.0", VERSION, "software")
    assert "sae-harness" in citation["title"]
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert citation["license"] == project["project"]["license"]
    assert project["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "harness.files.version.VERSION"
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", changelog, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert [heading for heading in headings[1:] if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading)] == []
    assert any(heading.startswith(f"[{VERSION}]") for heading in headings)
    kinds = set(re.findall(r"^### (.*)$", changelog, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_version_is_stated_in_one_place() -> None:
    import harness
    from harness.files.version import VERSION

    assert harness.__version__ == VERSION
    stated = [
        str(path.relative_to(ROOT))
        for path in (*ROOT.glob("*.toml"), *ROOT.glob("harness/**/*.py"), *ROOT.glob("plugins/**/*.py"))
        if re.search(rf"""(?i)version\w*\s*=\s*["']{re.escape(VERSION)}["']""", path.read_text(encoding="utf-8"))
    ]
    assert stated == ["harness/files/version.py"]


def test_the_task_file_of_the_docs_names_what_there_is(tmp_path: Path) -> None:
    """Its methods, detectors and metrics can be planned, with their options."""
    from harness.plugin.host import PluginHost
    from harness.run.plan import Asked, make_plan
    from harness.tasks.find import load_task

    (tmp_path / "task.toml").write_text("\n".join(list(blocks(ROOT / "docs" / "tasks.md", "toml"))[:2]), encoding="utf-8")
    plan = make_plan(PluginHost.load(), load_task(tmp_path), Asked())
    methods, detections = ([planned.name for planned in found] for found in (plan.methods, plan.detections))
    own = ["calibf1 × sae-clamp", "calibf1:pi0=0.1 × sae-clamp:quantile=0.9"]
    assert methods == [*own, "random × sae-clamp", "random × sae-clamp:quantile=0.9", "prompt"]
    assert detections[:2] == ["calibf1 × sae", "diff-mean"]
    assert [(metric.metric.registered.name, metric.dictionary) for metric in plan.metrics] == [("reconstruction", "sae"), ("reconstruction", "small")]


# ------------------------------------------------------------------------------------------------------------------- commands


def pip_install(source: Path, site: Path) -> Path:
    """Install a distribution into a folder of its own, without a network."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    answer = subprocess.run([*command, "--target", str(site), str(source)], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return site


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/sample_plugin, installed."""
    folder = tmp_path_factory.mktemp("sample")
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    shutil.copytree(ROOT / "tests" / "sample_plugin", folder / "source", ignore=ignored)
    return pip_install(folder / "source", folder / "site")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The methods of docs/plugins.md, copied from the page into the two files that it names, and installed."""
    page, folder = ROOT / "docs" / "plugins.md", tmp_path_factory.mktemp("own")
    files = {name: [body for body in blocks(page, language) if body.startswith(f"# {name}\n")] for name, language in FILES.items()}
    assert [len(found) for found in files.values()] == [5, 1]
    (folder / "source").mkdir()
    for name, found in files.items():
        (folder / "source" / name).write_text("\n\n".join(found), encoding="utf-8")
    return pip_install(folder / "source", folder / "site")


def written_task(folder: Path) -> Path:
    """The contract kit's task with a judge and, as the demo has them, methods, detectors and metrics that are run when none is named."""
    from harness.testing import toy_task

    file = toy_task(folder) / "task.toml"
    demo = (ROOT / "tasks" / "demo" / "task.toml").read_text(encoding="utf-8")
    listed = demo[demo.index("[[methods]]") :]
    file.write_text(file.read_text(encoding="utf-8").replace("schema = 1", 'schema = 2\njudge = "words"') + listed, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def workplace(sample: Path, own: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[str]], int]]:
    """Runs a command line in a folder with the contract kit's task ``toy``, the pages' plugins installed; returns the exit code."""
    folder = tmp_path_factory.mktemp("workplace")
    written_task(folder / "toy")
    for name in ("labels.csv", "others.csv"):
        (folder / name).write_text("concept,feature\nmusic,3\nwater,7\n", encoding="utf-8")
    (folder / "dump").mkdir()
    shutil.copy(folder / "toy" / "corpus.jsonl", folder / "dump" / "beer")  # a dump's folder, as far as the commands can tell
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(sample))
        patch.syspath_prepend(str(own))
        patch.chdir(folder)
        patch.setenv("HARNESS_CACHE", str(folder / "cache"))

        def run(arguments: list[str]) -> int:
            from harness.cli import main

            with pytest.raises(SystemExit) as stop:
                main(arguments)
            return int(stop.value.code or 0)

        yield run


@pytest.mark.parametrize("arguments", [a for _, a in COMMANDS], ids=[where for where, _ in COMMANDS])
def test_the_commands_of_the_pages_exist(arguments: list[str]) -> None:
    from harness.cli import cli

    root = click.Context(cli, info_name="harness", **cli.context_settings)  # a command keeps the help options that it is first asked with
    context, command, rest = root, cli, list(arguments)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        if command.name == "judge" and rest[0] not in command.commands:
            rest.insert(0, "rate")  # harness judge RUN is short for harness judge rate RUN
        name = rest.pop(0)
        inner = command.get_command(context, name)
        assert inner is not None, name
        command, context = inner, click.Context(inner, info_name=name, parent=context)
    command.make_context("harness", rest, parent=root)


@pytest.mark.parametrize(
    "arguments",
    [a for _, a in COMMANDS if not any(word in " ".join(a) for word in ELSEWHERE)],
    ids=[where for where, _ in COMMANDS if not any(word in where for word in ELSEWHERE)],
)
def test_the_commands_of_the_pages_run(arguments: list[str], workplace: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> None:
    stand_ins = {"path/to/corpus": "dump/beer", "beer": "./toy", "cooking,chess": "music,water"}
    arguments = [stand_ins.get(word, word) for word in arguments]
    if arguments[0] in ("eval", "label", "steer") and "--task" not in arguments and "compare" not in arguments:
        arguments = [*arguments, "--task", "./toy"]
    assert workplace(arguments) == 0
    assert capsys.readouterr().out.strip()


def test_the_sample_plugins_result(workplace: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> None:
    """The page's own command: the entry has the sample's methods with their options, and its judge can rate the run again."""
    asked = ["--labeler", "most-frequent", "-L", "margin=0.01", "--steerer", "project-out", "--judge", "words"]
    assert workplace(["eval", "--task", "./toy", *asked, "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)
    (ours,) = entry["rows"]
    assert (ours["subject"]["labeler"], ours["subject"]["steerer"]) == ("most-frequent", "project-out")
    assert ours["subject"]["labeler_options"] == {"given": {"margin": 0.01}, "default": {"dictionary": None}}
    assert (ours["n_items"], ours["n_answered"]) == (3, 3)
    assert ours["n_texts"] == 3 * 2 * 4
    assert ours["n_unrated"] == 0
    assert entry["judge"]["offline"] is True
    assert entry["plugins"]["harness-sample"] == "1.2.3"
    (run,) = [path.name for path in Path("runs").iterdir() if json.loads((path / "entry.json").read_text())["id"] == entry["id"]]
    assert workplace(["judge", run, "--judge", "words", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["rows"] == entry["rows"]
