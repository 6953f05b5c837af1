"""Every plugin of this distribution keeps its contract, on the toy task; one that needs something of its own gets it here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ModelError
from harness.files.artifacts import ArtifactCache
from harness.files.progress import Progress
from harness.files.version import DISTRIBUTION
from harness.model.embedded import ensure
from harness.plugin.host import PluginHost
from harness.plugin.registry import KINDS, Kind
from harness.run.bench import Choices, TaskBench
from harness.tasks.find import load_task
from harness.testing import CHECKS, check_detector, check_judge, check_labeler, check_metric, check_options, check_steerer, toy_bench
from harness.testing.judges import example_items
from harness.types import ASPECTS, FeatureRef, Labeling

CHECK: dict[Kind, Callable[..., Any]] = {
    "labeler": check_labeler, "steerer": check_steerer, "detector": check_detector, "metric": check_metric, "judge": check_judge,
}  # fmt: skip
ELSEWHERE = ("recovery", "stability", "hedging", "interaction-sparsity")
"""Metrics of subjects that the toy task does not have: their own tests check their contracts."""
PLUGINS = [
    (kind, name)
    for kind in KINDS
    for name, one in PluginHost.load().all(kind).items()
    if one.distribution == DISTRIBUTION and name not in ELSEWHERE
]
PLAIN = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
KEY = "sk-test-0123456789abcdefghij"


@pytest.fixture(scope="module")
def host() -> PluginHost:
    return PluginHost.load()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def bench(folder: Path) -> TaskBench:
    made = toy_bench(folder)
    made.answered = {"another": [Labeling(concept, (FeatureRef("sae", place),)) for place, concept in enumerate(made.concepts)]}
    return made


ANSWERING = ("reft-r1", "ssv", "reps", "lora", "loreft", "sft")
"""Methods that learn from answers to instructions."""


@pytest.fixture(scope="module")
def answers(folder: Path) -> TaskBench:
    """The toy task with texts that answer instructions."""
    return toy_bench(folder, conversations=True)


@pytest.fixture
def server(api_servers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A server of both APIs that rates everything 1, and an empty cache."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, KEY)
    with api_servers.ApiServer(lambda body: "Rating: [[1]]") as running:
        yield running


def options_of(kind: Kind, name: str, tmp_path: Path, folder: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a plugin needs that has no default here: a file, a server, a folder, a model that can be asked."""
    if (kind, name) == ("labeler", "file"):
        (tmp_path / "labels.csv").write_text("concept,feature\nmusic,3\nwater,7\n", encoding="utf-8")
        return {"path": str(tmp_path / "labels.csv")}
    if (kind, name) == ("labeler", "neuronpedia"):
        topics = ("music and songs", "water", "bread and dough", "Error: 404")
        (tmp_path / "export.json").write_text(json.dumps({f"model/1-res/{index}": topics[index % 4] for index in range(48)}), encoding="utf-8")
        return {"source": str(tmp_path / "export.json"), "match": "words"}
    if (kind, name) == ("labeler", "permuted"):
        return {"follows": "another"}
    if (kind, name) == ("detector", "prompt"):
        return {"question": "{text}\nAbout {concept}?"}  # of bytes, of which the toy reads 256
    if (kind, name) == ("metric", "ravel"):
        return {"prompts": 30}  # the toy knows nothing, which so many show
    if (kind, name) == ("metric", "autointerp"):
        return {"background": 20, "max_tokens": 900}
    if (kind, name) == ("judge", "human"):
        return {"folder": str(tmp_path / "sheets")}
    if (kind, name) == ("judge", "hf-local"):
        model = shutil.copytree(folder / "fixed" / "model", tmp_path / "model")
        (model / "chat_template.jinja").write_text(PLAIN, encoding="utf-8")
        rubric = tmp_path / "short"  # its prompts fit into the toy's 256 tokens
        rubric.mkdir()
        (rubric / "rubric.toml").write_text('schema = 1\nname = "short"\nversion = "1"\n', encoding="utf-8")
        for aspect in ASPECTS:
            (rubric / f"{aspect}.md").write_text("Rate. {concept} {instruction} {text}", encoding="utf-8")
        return {"model": str(model), "rubric": str(rubric), "cache": False, "asks": 1, "max_tokens": 4, "device": "cpu", "dtype": "float32"}
    if (kind, name) == ("metric", "sparse-probing"):
        return {"data": "corpus", "ks": [1, 2]}
    if name in ANSWERING:
        return {"epochs": 1}
    if name in ("openai", "gpt-4o", "anthropic"):
        url = request.getfixturevalue("server").url
        return {"base_url": url if name == "anthropic" else f"{url}/v1", "cache": False, "concurrency": 4, "key_name": f"{name.upper()}_API_KEY"}
    return {}


@pytest.mark.parametrize(("kind", "name"), PLUGINS, ids=[f"{kind} {name}" for kind, name in PLUGINS])
def test_it_keeps_its_contract(
    kind: Kind, name: str, host: PluginHost, bench: TaskBench, folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    registered = host.get(kind, name)
    given = options_of(kind, name, tmp_path, folder, request)
    if name == "gpt-4o":
        given["key_name"] = "OPENAI_API_KEY"
    if name in ANSWERING:
        bench = request.getfixturevalue("answers")
    if (kind, name) == ("judge", "offline"):
        bench = judged_by_models(request, tmp_path)
    check_options(registered.options, given if any(info.is_required() for info in registered.options.model_fields.values()) else None)
    further: dict[str, Any] = {}
    if (kind, name) == ("judge", "human"):
        further["deterministic"] = False
    if name in ("offline", "hf-local"):  # the one is slow, the other gives up after 20 replies without a rating
        further["items"] = example_items(bench)[:3 if name == "offline" else 6]
    found = CHECK[kind](lambda: registered.factory(registered.build_options(given)), bench, **further)
    assert found is not None


def judged_by_models(request: pytest.FixtureRequest, tmp_path: Path) -> TaskBench:
    """A bench whose model can tell a sentence from shuffled words; skips where that or the model of sentences is absent."""
    from harness_plugins.judges.offline.embedding import EMBEDDING_MODEL

    try:
        ensure(EMBEDDING_MODEL)
    except ModelError as error:
        pytest.skip(f"{EMBEDDING_MODEL} cannot be had here: {error}")
    task = load_task(request.getfixturevalue("tiny_task"))
    return TaskBench(task, Choices(device="cpu", dtype="float32"), ArtifactCache(tmp_path / "cache"), Progress(quiet=True))


def test_every_kind_has_a_check() -> None:
    assert set(CHECK) == set(KINDS)
    assert {kind for kind, _ in PLUGINS} == set(KINDS)
    assert all(sentence for sentence in CHECKS.values())
