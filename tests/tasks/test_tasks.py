"""The task file: its schema, its errors, its digest, and how tasks and their files are found."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from harness.errors import DataError, TaskError, UnknownNameError
from harness.files import hashing
from harness.files.hashing import path_digest
from harness.plugin.host import PluginHost
from harness.tasks import schema
from harness.tasks.dictionaries import MetricTable, TrainTable
from harness.tasks.find import find_task, hub_file, load_task, options_of, resolve
from harness.tasks.schema import DetectorTable, MethodTable, TaskFile

MINIMAL = 'schema = 1\nname = "t"\nversion = 1\nsummary = "s"\n[model]\nname = "m"\n'
DICTIONARY = '[[dictionaries]]\nsource = "here"\nlayer = 1\n'
SECOND = MINIMAL.replace("schema = 1", "schema = 2")
TRAIN = '[[train]]\nname = "mini"\nlayer = 1\n'


def write(folder: Path, text: str) -> Path:
    (folder / "task.toml").write_text(text, encoding="utf-8")
    return folder


def test_what_a_task_leaves_out_has_a_default(tmp_path: Path) -> None:
    task = load_task(write(tmp_path, MINIMAL))
    assert (task.name, task.file.concepts.mode, task.file.decoding.max_new_tokens, task.file.evaluation.splits) == ("t", "chosen", 128, 4)
    assert load_task(tmp_path / "task.toml") == task


@pytest.mark.parametrize(
    ("text", "named", "given"),
    [
        (MINIMAL.replace("version = 1\n", ""), "version", {}),
        (MINIMAL.replace("schema = 1", "schema = 4"), "schema", 4),
        (MINIMAL + "[decoding]\ntemperatur = 1\n", "decoding.temperatur", "decoding.temperatur"),
        (MINIMAL + "[decoding]\ntemperature = -1\n", "decoding.temperature", -1),
        (MINIMAL + "[decoding]\ntop_p = nan\n", "decoding.top_p", float("nan")),
        (MINIMAL + "[concepts]\nmode = 'fixed'\n", "concepts.file", {"mode": "fixed"}),
        (MINIMAL + "[concepts]\nmode = 'free'\n", "concepts.mode", "free"),
        (MINIMAL + DICTIONARY + DICTIONARY, "sae, sae", {}),
        (MINIMAL + "[steering.grids]\nx = [0.2, 0.1]\n", "steering.grids.x", {}),
        (MINIMAL + "[steering.grids]\nx = []\n", "steering.grids.x", {}),
        (MINIMAL + "[corpus]\nformat = 'word'\n", "corpus.format", "word"),
        (MINIMAL + "[[controls]]\nlabeler = 'random'\nsteerer = 'sae-clamp'\n", "a control uses a labeler", {}),
        (MINIMAL + "[[dictionaries]]\nsource = 'x'\nlayer = -1\n", "dictionaries.0.layer", -1),
        (MINIMAL + "x = = 1\n", "TOML", None),
        ("\xff", "TOML", None),
    ],
)
def test_a_task_file_that_does_not_hold_names_file_and_key(tmp_path: Path, text: str, named: str, given: object) -> None:
    """``given`` is the value at fault; {} stands for a whole table, None for the file."""
    (tmp_path / "task.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(TaskError) as error:
        load_task(tmp_path)
    assert str(tmp_path / "task.toml") in error.value.message
    assert named in error.value.message
    assert error.value.hint
    if isinstance(given, dict):
        assert given.items() <= error.value.given.items()
    elif given is None:
        assert error.value.given == tmp_path / "task.toml"
    else:
        assert repr(error.value.given) == repr(given)


NEWER = {
    "train": TRAIN,
    "methods": '[[methods]]\nsteerer = "none"\n',
    "detectors": '[[detectors]]\ndetector = "bow"\noptions = {c = 1.0}\n',
    "metrics": '[[metrics]]\nmetric = "density"\n',
}


@pytest.mark.parametrize("key", NEWER)
def test_version_2_has_keys_that_version_1_has_not(tmp_path: Path, key: str) -> None:
    file = load_task(write(tmp_path, SECOND + DICTIONARY + NEWER[key])).file
    assert len(getattr(file, key)) == 1
    with pytest.raises(TaskError) as error:
        load_task(write(tmp_path, MINIMAL + DICTIONARY + NEWER[key]))
    assert f"[[{key}]]" in error.value.message
    assert "schema = 2" in error.value.message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (TRAIN + TRAIN, "mini, mini"),
        (DICTIONARY + TRAIN.replace("mini", "sae"), "sae, sae"),
        (TRAIN.replace("mini", "a/b"), "train.0.name"),
        (TRAIN.replace("mini", "a@b"), "train.0.name"),
        (TRAIN + "seeds = []\n", "got []"),
        (TRAIN + "seeds = [1, 1]\n", "got [1, 1]"),
        (TRAIN + "seeds = [-1]\n", "got [-1]"),
        (TRAIN + "width = 32\n", "width 32, got 32"),
        (TRAIN + "warm_up = 0.5\ndecay = 0.6\n", "got 0.5 and 0.6"),
        (TRAIN + "architecture = 'wide'\n", "train.0.architecture"),
        (TRAIN + "texts = 'report'\n", "train.0.texts"),
        (TRAIN + "seed = 1\n", "train.0.seed"),
        (NEWER["methods"] * 2, "[[methods]]"),
        (NEWER["detectors"] * 2, "[[detectors]]"),
        (DICTIONARY + NEWER["metrics"] * 2, "[[metrics]]"),
        (NEWER["metrics"], "a metric measures dictionaries"),
        (TRAIN + NEWER["metrics"] + "dictionaries = ['midi']\n", "'midi'; the task has mini"),
        ("[[methods]]\nlabeler = 'random'\nsteerer = 'sae-clamp'\n", "a method uses a labeler"),
        (DICTIONARY + NEWER["metrics"] + "seeds = 0\n", "metrics.0.seeds"),
        (TRAIN + "controls = ['frozen']\n", "train.0.controls"),
        (TRAIN + "controls = ['frozen-decoder', 'frozen-decoder']\n", "names one twice"),
        (TRAIN + "cosine = 1.5\n", "train.0.cosine"),
        (TRAIN + "tokens = 't.npz'\ntexts = 'all'\n", "texts = 'all'"),
        (TRAIN + NEWER["metrics"] + "controls = ['frozen-decoder']\n", "no [[train]] table"),
    ],
)
def test_tables_of_version_2_that_do_not_hold(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(TaskError) as error:
        load_task(write(tmp_path, SECOND + text))
    assert named in error.value.message
    assert error.value.hint


def test_metrics_with_other_options_are_others(tmp_path: Path) -> None:
    text = SECOND + DICTIONARY + NEWER["metrics"] + NEWER["metrics"] + "options = {dense = 0.2}\n"
    assert [table.options for table in load_task(write(tmp_path, text)).file.metrics] == [{}, {"dense": 0.2}]


def test_a_trained_dictionary_has_a_name_for_each_seed(tmp_path: Path) -> None:
    file = load_task(write(tmp_path, SECOND + DICTIONARY + TRAIN + "seeds = [4, 0, 7]\n")).file
    assert file.train[0].seed_names == {"mini": 4, "mini@0": 0, "mini@7": 7}
    assert file.dictionary_names == ("sae", "mini", "mini@0", "mini@7")


def test_controls_that_are_trained_have_names_and_stand_beside_by_default(tmp_path: Path) -> None:
    text = SECOND + DICTIONARY + TRAIN + "seeds = [4, 0]\ncontrols = ['frozen-decoder', 'frozen-encoder']\n" + NEWER["metrics"]
    file = load_task(write(tmp_path, text)).file
    assert file.train[0].control_names == {
        "frozen-decoder": {"mini@frozen-decoder": 4, "mini@frozen-decoder@0": 0},
        "frozen-encoder": {"mini@frozen-encoder": 4, "mini@frozen-encoder@0": 0},
    }
    assert file.dictionary_names[:3] == ("sae", "mini", "mini@0")
    assert file.dictionary_names[3:] == tuple(name for names in file.train[0].control_names.values() for name in names)
    metric = file.metrics[0]
    assert file.controls_of(metric, "mini") == {"random": 3, "frozen-decoder": 2, "frozen-encoder": 2}
    assert file.controls_of(metric, "sae") == {"random": 3}
    some = metric.model_copy(update={"controls": ("frozen-encoder", "random"), "control_seeds": 5})
    assert file.controls_of(some, "mini") == {"frozen-encoder": 2, "random": 5}
    assert file.controls_of(some, "sae") == {"random": 5}
    assert file.controls_of(metric.model_copy(update={"controls": ()}), "mini") == {}


BAG = "[[ensembles]]\nname = 'bag'\nkind = 'bagging'\n"
BOOST = "[[ensembles]]\nname = 'boost'\nkind = 'boosting'\n"
THIRD = SECOND.replace("schema = 2", "schema = 3")


def test_ensembles_are_dictionaries_of_the_task(tmp_path: Path) -> None:
    seeds = TRAIN + "seeds = [0, 1]\n"
    text = THIRD + DICTIONARY + seeds + BAG + "of = 'mini'\n" + BOOST + "of = 'mini'\nn = 3\n"
    file = load_task(write(tmp_path, text)).file
    assert file.dictionary_names == ("sae", "mini", "mini@1", "bag", "boost")
    assert list(file.table_names) == ["sae", "mini", "bag", "boost"]
    assert {file.table_names[name] for name in ("mini", "bag", "boost")} == {1}
    assert load_task(write(tmp_path, THIRD + seeds)).digest() != load_task(write(tmp_path, THIRD + seeds + BAG + "of = 'mini'\n")).digest()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (BAG, "either members or"),
        (BAG + "of = 'mini'\nmembers = ['mini', 'sae']\n", "either members or"),
        (BAG + "of = 'midi'\n", "'midi'"),
        (BAG + "of = 'mini'\n", "one seed"),
        (BAG + "members = ['mini']\n", "got mini"),
        (BAG + "members = ['mini', 'sea']\n", "'sea'"),
        (BAG + "members = ['mini', 'sae']\n", "different layers"),
        (BAG + "members = ['mini', 'sae']\nn = 2\n", "n of 'bag'"),
        (BOOST + "of = 'mini'\n", "needs"),
        (BOOST + "of = 'mini'\nn = 1\n", "ensembles.0.n"),
        (BOOST.replace("boost'", "mini'", 1) + "of = 'mini'\nn = 2\n", "mini, "),
    ],
)
def test_ensembles_that_do_not_hold(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(TaskError) as error:
        load_task(write(tmp_path, THIRD + DICTIONARY.replace("layer = 1", "layer = 2") + TRAIN + text))
    assert named in error.value.message


def test_a_file_of_token_ids_belongs_to_the_task(tmp_path: Path) -> None:
    plain, with_file = load_task(write(tmp_path, SECOND + TRAIN)), load_task(write(tmp_path, SECOND + TRAIN + "tokens = 't.npz'\n"))
    (tmp_path / "t.npz").write_bytes(b"one")
    first = with_file.digest()
    (tmp_path / "t.npz").write_bytes(b"two")
    assert len({plain.digest(), first, with_file.digest()}) == 3
    same = load_task(write(tmp_path, SECOND + TRAIN + "controls = []\ncosine = 0.8\n"))
    assert same.digest() == plain.digest()


def test_training_settings_are_those_of_training_with_its_defaults() -> None:
    from dataclasses import asdict

    from harness.sae.training.config import TrainConfig

    table = TrainTable(name="mini", layer=1)
    known = asdict(TrainConfig())
    assert table.settings == {name: known[name] for name in table.settings}
    assert set(known) - set(table.settings) == {"skip", "outlier", "token_budget", "save_dtype", "seed", "control"}
    assert TrainConfig(**table.settings, seed=3) == TrainConfig(seed=3)


def test_a_folder_without_a_task_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(TaskError) as error:
        load_task(tmp_path)
    assert error.value.given == tmp_path / "task.toml"
    assert "harness tasks" in error.value.hint
    (tmp_path / "task.toml").mkdir()
    with pytest.raises(TaskError) as error:
        load_task(tmp_path)
    assert error.value.given == tmp_path / "task.toml"
    assert "harness tasks" not in error.value.hint


def test_tasks_are_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = PluginHost()
    (tmp_path / "a").mkdir()
    host.tasks.add("known", write(tmp_path / "a", MINIMAL))
    assert find_task(host, "known").folder == tmp_path / "a"
    monkeypatch.chdir(tmp_path)
    assert find_task(host, "a").folder == tmp_path / "a"
    assert find_task(host, "./a").folder == tmp_path / "a"
    with pytest.raises(UnknownNameError) as unknown:
        find_task(host, "knwon")
    assert (unknown.value.kind, unknown.value.given, unknown.value.near) == ("task", "knwon", "known")
    assert "task.toml" in unknown.value.hint
    with pytest.raises(TaskError) as absent:
        find_task(host, "./absent")
    assert absent.value.given == Path("absent/task.toml")


# ------------------------------------------------------------------------------------------------------------------------- digest


def test_the_digest_is_of_content_not_of_place(tiny_task: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_task, tmp_path / "elsewhere")
    assert load_task(tmp_path / "elsewhere").digest() == load_task(tiny_task).digest()


def test_a_new_summary_is_the_same_task(variant: Callable[..., Path], tiny_task: Path) -> None:
    assert load_task(variant(("stories for small children", "other words"))).digest() == load_task(tiny_task).digest()


@pytest.mark.parametrize("change", [("temperature = 0.7", "temperature = 0.8"), ("version = 1", "version = 2"), ("count = 3", "count = 4")])
def test_whatever_scores_depend_on_changes_the_digest(variant: Callable[..., Path], tiny_task: Path, change: tuple[str, str]) -> None:
    assert load_task(variant(change)).digest() != load_task(tiny_task).digest()


@pytest.mark.parametrize("name", ["corpus.jsonl", "concepts.jsonl", "instructions.jsonl"])
def test_other_data_change_the_digest(variant: Callable[..., Path], tiny_task: Path, name: str) -> None:
    folder = variant()
    content = (folder / name).read_text(encoding="utf-8")
    (folder / name).write_text(content.replace("i", "j", 1), encoding="utf-8")
    assert load_task(folder).digest() != load_task(tiny_task).digest()


def test_the_file_format_and_what_is_run_by_default_change_no_digest(variant: Callable[..., Path], tiny_task: Path) -> None:
    second = variant(("schema = 1\n", "schema = 2\n"), ("[evaluation]", NEWER["methods"] + NEWER["detectors"] + NEWER["metrics"] + "\n[evaluation]"))
    assert load_task(second).digest() == load_task(tiny_task).digest()


def test_what_is_trained_changes_the_digest(variant: Callable[..., Path], tiny_task: Path) -> None:
    digests = {load_task(tiny_task).digest()}
    for name, table in (("a", TRAIN), ("b", TRAIN + "k = 8\n")):
        digests.add(load_task(variant(("schema = 1\n", "schema = 2\n"), ("[evaluation]", table + "\n[evaluation]"), name=name)).digest())
    assert len(digests) == 3


def test_digests_of_before_version_2_hold() -> None:
    """The demo's steering rows of before are ranked under this digest; it may change with the task's version alone."""
    file = TaskFile.model_validate({"schema": 1, "name": "t", "version": 1, "summary": "s", "model": {"name": "m"}})
    assert schema.Task(Path("/nowhere"), file).digest() == "ca71774bce1370a5"


def test_what_the_command_line_replaces_enters_the_digest(tiny_task: Path) -> None:
    task = load_task(tiny_task)
    assert len({task.digest(), task.digest(["a"]), task.digest(["b"])}) == 3


def test_a_folders_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "x").write_text("1")
    assert path_digest(tmp_path / "a") == path_digest(tmp_path / "b")
    (tmp_path / "b" / "sub" / "x").rename(tmp_path / "b" / "sub" / "y")
    assert path_digest(tmp_path / "a") != path_digest(tmp_path / "b")


def test_a_large_file_is_known_by_size_and_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_HASH_WHOLE_BELOW", 100)
    monkeypatch.setattr(hashing, "_SAMPLE", 10)
    content = bytearray(range(200))
    path = tmp_path / "x"

    def digest_with(place: int | None = None, extra: bytes = b"") -> str:
        changed = bytearray(content)
        if place is not None:
            changed[place] ^= 1
        path.write_bytes(bytes(changed) + extra)
        return path_digest(path)

    assert len({digest_with(), digest_with(0), digest_with(105), digest_with(199), digest_with(extra=b"!")}) == 5
    assert digest_with(50) == digest_with()  # between the samples: the price of not reading 100 GB


# ------------------------------------------------------------------------------------------------------------------ files of a task


def test_files_are_relative_to_the_task_and_registry_names_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    task = load_task(write(tmp_path, MINIMAL + DICTIONARY + '[[dictionaries]]\nname = "b"\nsource = "release/id"\nlayer = 1\n'))
    assert [task.local_source(table) for table in task.file.dictionaries] == [str(tmp_path / "here"), "release/id"]
    assert task.path("../x") == tmp_path.parent / "x"


def test_data_that_a_task_does_not_ship_must_be_given(tmp_path: Path) -> None:
    task = load_task(write(tmp_path, MINIMAL))
    with pytest.raises(TaskError) as error:
        resolve(task, None, "--corpus", "corpus")
    assert error.value.given is None
    assert "task 't'" in error.value.message
    assert "--corpus PATH" in error.value.hint
    with pytest.raises(TaskError) as error:
        resolve(task, "gone.jsonl", "--corpus", "corpus")
    assert error.value.given == (tmp_path / "gone.jsonl").resolve()
    assert "--corpus PATH" in error.value.hint
    with pytest.raises(DataError) as source:
        hub_file("hub:owner/name")
    assert source.value.given == "hub:owner/name"
    assert "hub:owner/dataset/path" in source.value.hint


def test_options_are_kept_by_kind_and_name(tiny_task: Path) -> None:
    task = load_task(tiny_task)
    assert options_of(task, "labeler") == {"calibf1": {"pi0": 0.05}, "random": {"count": 3}}
    assert options_of(task, "judge") == {}


def test_every_key_is_documented() -> None:
    tables: list[type[BaseModel]] = [value for value in vars(schema).values() if isinstance(value, type) and issubclass(value, BaseModel)]
    assert {TaskFile, TrainTable, MethodTable, DetectorTable, MetricTable} <= set(tables)
    for table in tables:
        if table.__name__ in ("BaseModel", "Table"):
            continue
        assert table.__doc__, table
        for name, info in table.model_fields.items():
            nested = isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
            listed = "Table" in str(info.annotation)
            assert info.description or nested or listed, f"{table.__name__}.{name} has no docstring"


def test_the_commands_list_and_validate(harness: Callable[..., Any], variant: Callable[..., Path], tmp_path: Path) -> None:
    rows = {row["name"]: row for row in harness("tasks", "--json").json}
    assert rows["demo"]["distribution"] == "sae-harness"
    assert "demo" in harness("tasks").out
    good = harness("tasks", "validate", variant())
    assert good.code == 0
    assert re.search(r"estimate: one H100 \(bf16\): 4 concepts, \d+ generations", good.out)
    bad = variant(("[labelers.calibf1]\npi0 = 0.05", "[labelers.calibf1]\npi = 0.05"), ('"corpus.jsonl"', '"gone.jsonl"'), name="bad")
    done = harness("tasks", "validate", bad, "--json")
    assert done.error == f"1 of 1 tasks do not validate: {bad}; see above"
    problems = " | ".join(json.loads(done.out)[0]["problems"])
    assert "unknown option of labeler calibf1 'pi'; did you mean 'pi0'?" in problems
    assert "gone.jsonl does not exist" in problems


def test_validate_knows_what_is_run_by_default(harness: Callable[..., Any], variant: Callable[..., Path]) -> None:
    tables = NEWER["metrics"] + "options = {dens = 0.2}\n" + '[[methods]]\nsteerer = "sae-clmp"\nlabeler = "calibf1"\n' + TRAIN
    bad = variant(("schema = 1\n", "schema = 2\n"), ("[evaluation]", tables + "\n[evaluation]"), name="listed")
    problems = json.loads(harness("tasks", "validate", bad, "--json").out)[0]["problems"]
    assert any("'dens'" in problem and "'dense'" in problem for problem in problems)
    assert any("'sae-clmp'" in problem for problem in problems)
    assert len(problems) == 2
