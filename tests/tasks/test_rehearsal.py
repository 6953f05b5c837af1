"""A rehearsal of every shipped task of the hub, by its name, on a hub of tiny models: fetched, labelled, steered, rated, and once more offline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from conftest import write_lines
from helpers.axbench import WORDINGS
from helpers.hub import Hub, using
from helpers.shipped import AXBENCH, D_SAE, NAMES, TASKS, fill, shipped

from harness.errors import DictionaryError
from harness.tasks.find import load_task

RUN = ("--labeler", "calibf1", "-L", "top_k=1", "--steerer", "sae-clamp", "--no-controls", "--judge", "words", "--device", "cpu")


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """A hub with all that the shipped tasks name."""
    with Hub() as server:
        fill(server)
        yield server


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub-cache")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short texts, half of them with a label."""
    path = tmp_path_factory.mktemp("corpus") / "texts.jsonl"
    words = ["bees" if number % 2 else "tea" for number in range(24)]
    write_lines(path, [{"id": str(n), "text": f"{word} {word} {n}", "labels": [word]} for n, word in enumerate(words)])
    return path


def smaller(name: str, folder: Path) -> Path:
    """A copy of a shipped task with the miniature's width, and less of everything that takes time."""
    document: Any = tomlkit.parse((TASKS / name / "task.toml").read_text(encoding="utf-8"))
    document["dictionaries"][0]["width"] = D_SAE
    document["concepts"]["min_support"] = 5
    document["instructions"]["per_concept"] = 2
    document["decoding"]["max_new_tokens"] = 3
    document["steering"]["grids"] = {"sae-clamp": [1.0], "sae-add": [0.5, 1.0]}
    document["evaluation"] = {"repeats": 1, "splits": 2} | ({"protocol": "axbench", "negatives": "plain"} if name in AXBENCH else {})
    folder.mkdir()
    (folder / "task.toml").write_text(tomlkit.dumps(document), encoding="utf-8")
    return folder


PIPELINE = tuple(name for name in NAMES if name not in AXBENCH)
WHOLE = tuple({load_task(TASKS / name).file.model.name: name for name in PIPELINE}.values())
"""A task of each model is evaluated as a whole; the others, whose dictionaries lie beside, are opened."""


@pytest.mark.parametrize("name", [name for name in PIPELINE if name not in WHOLE])
def test_a_shipped_task_opens_by_its_name(name: str, hub: Hub, hub_cache: Path, corpus: Path, tmp_path: Path) -> None:
    from harness.run.bench import Choices, open_bench

    with using(hub, hub_cache):
        bench = open_bench(load_task(smaller(name, tmp_path / name)), Choices(corpus=str(corpus), device="cpu"), quiet=True)
        assert bench.dictionaries["sae"].layer == bench.site.layer
        assert bench.dictionaries["sae"].commit == hub.repositories["models", repo_of(name)].refs["main"]
        assert len(bench.instructions) == 20


@pytest.mark.parametrize("name", WHOLE)
def test_a_shipped_task_runs_by_its_name(
    name: str, hub: Hub, hub_cache: Path, corpus: Path, tmp_path: Path, harness: Callable[..., Any]
) -> None:
    task = smaller(name, tmp_path / name)
    command = ("eval", "--task", task, "--corpus", corpus, *RUN, "--limit", "1", "--out", tmp_path, "--json")
    with using(hub, hub_cache):
        entry = harness(*command).json
    assert entry["rows"][0]["n_texts"] == 2
    file = load_task(task).file
    where = {
        "model": ("models", file.model.name),
        "dictionary": ("models", repo_of(name)),
        "instructions": ("datasets", "tatsu-lab/alpaca_eval"),
    }
    assert {ref["what"]: ref["commit"] for ref in entry["sources"]} == {what: hub.repositories[key].refs["main"] for what, key in where.items()}
    assert not any(ref["pinned"] for ref in entry["sources"])
    if name == WHOLE[-1]:  # a finished run needs no hub
        with using("http://127.0.0.1:9", hub_cache):
            assert harness(*command).json["run_digest"] == entry["run_digest"]


@pytest.mark.parametrize("name", [AXBENCH[0], AXBENCH[-1]])  # of each model one: the others name another layer
def test_axbenchs_own_tasks_run_by_their_names(name: str, hub: Hub, hub_cache: Path, tmp_path: Path, harness: Callable[..., Any]) -> None:
    """Concepts, features and texts come from the hub: the SAE row and its detection, on two of the concepts."""
    task = smaller(name, tmp_path / name)
    command = ("eval", "--task", task, "--no-controls", "--judge", "words", "--device", "cpu", "--limit", "2", "--out", tmp_path, "--json")
    with using(hub, hub_cache):
        entry = harness(*command).json
    rows = {(row["kind"], row["subject"].get("steerer") or row["subject"].get("detector")): row for row in entry["rows"]}
    steered, detected = rows["steering", "sae-add"], rows["detection", "sae"]
    assert [(item["text"], item["features"]) for item in steered["items"]] == [(WORDINGS[number], [f"sae/{10 + number}"]) for number in (0, 1)]
    assert (steered["n_texts"], entry["protocol"]["name"]) == (2 * 2 * 2, "axbench")
    assert detected["primary"] == "auroc_plain"
    assert set(detected["metrics"]) >= {"auroc", "auroc_plain", "auroc_others", "auroc_hard_negatives", "hard_negatives_rejected_youden"}
    served = {ref["what"]: (ref["source"], ref["commit"]) for ref in entry["sources"]}
    dataset = hub.repositories["datasets", "pyvene/axbench-concept500"].refs["main"]
    assert served["corpus"] == served["concepts"] == (str(load_task(task).file.corpus.source), dataset)
    if name == AXBENCH[0]:  # a finished run needs no hub, and a pinned copy names the commit for both
        with using("http://127.0.0.1:9", hub_cache):
            assert harness(*command).json["run_digest"] == entry["run_digest"]
        with using(hub, hub_cache):
            assert harness("tasks", "pin", name, "-o", tmp_path / "pinned.toml").code == 0
        pinned = load_task(tmp_path / "pinned.toml").file
        assert pinned.corpus.revision == pinned.concepts.revision == dataset


def test_axbenchs_features_are_refused_on_another_dictionary(hub: Hub, hub_cache: Path, tmp_path: Path, harness: Callable[..., Any]) -> None:
    task = smaller("axbench-2b-l10", tmp_path / "task")
    path = task / "task.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("axbench-concept500/2b/l10", "axbench-concept500/2b/l20"), encoding="utf-8")
    command = ("eval", "--task", task, "--steerer", "sae-add", "--labeler", "stated", "--no-controls", "--judge", "words", "--device", "cpu")
    with using(hub, hub_cache):
        error = harness(*command, "--limit", "1", "--out", tmp_path).error
    assert "gemma-2-2b/20-gemmascope-res-16k" in error
    assert "layer 10" in error


def repo_of(name: str) -> str:
    """The repository of a shipped task's dictionary."""
    from harness.sae.registry import source_of

    return source_of(shipped()[name].file.dictionaries[0].source)[0].repo


def test_a_pinned_copy_names_what_the_hub_serves(hub: Hub, hub_cache: Path, tmp_path: Path, harness: Callable[..., Any]) -> None:
    name = "gemma-2-2b-it-l20"
    with using(hub, hub_cache):
        done = harness("tasks", "pin", name, "-o", tmp_path / "pinned", "--json").json
    task, before = load_task(tmp_path / "pinned"), shipped()[name]
    pinned = [task.file.model, task.file.dictionaries[0], task.file.instructions]
    assert [table.revision for table in pinned] == [hub.repositories[key].refs["main"] for key in (
        ("models", "google/gemma-2-2b-it"), ("models", "google/gemma-scope-2b-pt-res"), ("datasets", "tatsu-lab/alpaca_eval")
    )]  # fmt: skip
    assert {ref["what"] for ref in done["sources"]} == {"model", "dictionary", "instructions"}
    assert task.digest() != before.digest(), "another task: what it names cannot change"
    plain = tomlkit.parse((tmp_path / "pinned" / "task.toml").read_text(encoding="utf-8"))
    for table in (plain["model"], plain["dictionaries"][0], plain["instructions"]):  # type: ignore[index]
        del table["revision"]  # type: ignore[union-attr, attr-defined]
    assert plain.unwrap() == tomlkit.parse((TASKS / name / "task.toml").read_text(encoding="utf-8")).unwrap()


def test_a_new_commit_is_not_taken_by_a_pinned_task(hub: Hub, tmp_path: Path, corpus: Path, harness: Callable[..., Any]) -> None:
    name = NAMES[0]
    small = smaller(name, tmp_path / "small")
    with using(hub, tmp_path / "cache"):
        assert harness("tasks", "pin", small, "-o", tmp_path / "pinned.toml").code == 0
    repository = hub.repositories["datasets", "tatsu-lab/alpaca_eval"]
    commit = repository.refs["main"]
    repository.push({"alpaca_eval.json": b"[]"})
    try:
        with using(hub, tmp_path / "cache"):
            task = ("--corpus", corpus, *RUN, "--limit", "1", "--out", tmp_path, "--json")
            entry = harness("eval", "--task", tmp_path / "pinned.toml", *task).json
            assert "holds no instructions" in harness("eval", "--task", small, *task).error
    finally:
        repository.refs["main"] = commit
    assert all(ref["pinned"] and ref["commit"] == ref["revision"] for ref in entry["sources"])


def test_what_is_small_is_asked_for_first(hub: Hub, corpus: Path, tmp_path: Path, harness: Callable[..., Any]) -> None:
    """Whatever cannot be had is known before anything large is fetched; a plan names it all."""
    name = "gemma-3-270m-it-l9"
    command = ("eval", "--task", name, "--corpus", corpus, *RUN, "--out", tmp_path)
    model, dictionary = hub.repositories["models", "google/gemma-3-270m-it"], hub.repositories["models", "google/gemma-scope-2-270m-it"]
    instructions = hub.repositories.pop(("datasets", "tatsu-lab/alpaca_eval"))
    model.gated = dictionary.gated = True
    try:
        with using(hub, tmp_path / "cache"):
            hub.requests.clear()
            assert "alpaca_eval" in harness(*command).error
            assert not hub.asked("google")
            plan = harness(*command, "--dry-run", "--json").json
            assert sum("gated" in problem and hub.url in problem for problem in plan["problems"]) == 2
            assert sum("alpaca_eval" in problem for problem in plan["problems"]) == 1
            hub.repositories["datasets", "tatsu-lab/alpaca_eval"], model.gated = instructions, False
            hub.requests.clear()
            assert "gemma-scope-2-270m-it-res" in harness(*command).error
            assert not hub.asked("model.safetensors")
    finally:
        hub.repositories["datasets", "tatsu-lab/alpaca_eval"] = instructions
        model.gated = dictionary.gated = False
    with using("http://127.0.0.1:9", tmp_path / "empty"):
        plan = harness(*command, "--dry-run", "--json").json
    assert [("http://127.0.0.1:9" in problem) for problem in plan["problems"]] == [True]


def test_a_source_may_be_a_folder_of_the_hub(hub: Hub, tmp_path: Path) -> None:
    from helpers.shipped import dictionary_files

    import harness.sae

    files = dictionary_files("google/gemma-scope-2b-pt-res", 20, "google/gemma-2-2b")
    repository = hub.add("someone/saes", {f"layer_20/{name}": content for name, content in files.items()})
    first = repository.refs["main"]
    repository.push({"README.md": b"#"})
    with using(hub, tmp_path / "cache"):
        for source in ("hub:someone/saes/layer_20", "someone/saes:layer_20"):
            found = harness.sae.load(source, revision=first)
            assert (found.layer, found.commit, found.d_sae) == (20, first, D_SAE)
        with pytest.raises(DictionaryError) as error:
            harness.sae.load("hub:someone/saes/layer_20")
        assert "holds no dictionary" in error.value.message
        for wrong in ("hub:someone", "hub:someone/saes/../x"):
            with pytest.raises(DictionaryError) as error:
                harness.sae.load(wrong)
            assert error.value.allowed
