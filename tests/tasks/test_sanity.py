"""The sanity suite's tasks: the paper's setting by hub names and in miniature, every arm under every metric, planned without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomlkit
from helpers.hub import Hub, using
from helpers.shipped import model_files

from harness.evaluations.dictionary.records import subjects_of
from harness.plugin.host import PluginHost
from harness.run.bench import Choices, open_bench
from harness.run.check_task import check_task
from harness.run.plan import Asked, make_plan
from harness.tasks.find import load_task
from harness.types import rng

TASKS = Path(__file__).resolve().parents[2] / "tasks"
CONTROLS = ("frozen-decoder", "soft-frozen-decoder", "frozen-encoder")
ARMS = ("trained", *CONTROLS, "random")


@pytest.fixture(scope="module")
def host() -> PluginHost:
    """All plugins."""
    return PluginHost.load()


def test_the_papers_setting_and_its_miniature() -> None:
    """Korznikov et al. 2026: Gemma-2-2B, layer 12, 73,728 features, L0 160; the demo's model, layer and width."""
    paper, mini, demo = (load_task(TASKS / name).file for name in ("sanity", "sanity-mini", "demo"))
    assert paper.model.name == "google/gemma-2-2b"
    assert [(table.architecture, table.layer, table.width, table.k) for table in paper.train] == [
        ("batchtopk", 12, 73_728, 160), ("jumprelu", 12, 73_728, 160)
    ]  # fmt: skip
    (table,) = mini.train
    assert (mini.model, table.layer, table.width) == (demo.model, demo.dictionaries[0].layer, demo.dictionaries[0].width)
    for train in (*paper.train, table):
        assert (train.seeds, train.controls, train.random_rows, train.cosine) == ((0, 1, 2), CONTROLS, "isotropic", 0.8)
    names = [[table.request.name for table in file.metrics] for file in (paper, mini)]
    assert names[0] == names[1] == ["reconstruction", "sparse-probing", "sparse-probing", "ravel", "autointerp", "stability"]
    assert [table.options["k"] for file in (paper, mini) for table in file.metrics if table.request.name == "sparse-probing"] == [1, 5, 1, 5]


@pytest.mark.parametrize("name", ["sanity", "sanity-mini"])
def test_the_task_validates(name: str, host: PluginHost) -> None:
    assert check_task(host, name)["problems"] == []


def test_every_arm_stands_under_every_metric(host: PluginHost) -> None:
    """Three seeds of the dictionary and of each control, three draws of the random one: fifteen measurements of each metric, planned in a moment."""
    task = load_task(TASKS / "sanity-mini")
    plan, bench = make_plan(host, task, Asked()), open_bench(task, Choices(device="cpu"), quiet=True)
    assert len(plan.metrics) == len(task.file.metrics)
    for planned in plan.metrics:
        assert Counter(subject.arm for subject in subjects_of(planned, bench)) == dict.fromkeys(ARMS, 3)
    traits = {planned.metric.registered.name: planned.metric.instance.traits for planned in plan.metrics}
    assert {name: (own.item, own.items_shared) for name, own in traits.items() if name != "stability"} == {
        "reconstruction": ("text", True), "sparse-probing": ("data set", True), "ravel": ("pair", True), "autointerp": ("latent", False),
    }  # fmt: skip


def test_the_papers_task_runs_by_its_names(tmp_path: Path, harness: Callable[..., Any]) -> None:
    """On a hub with a tiny model and a few texts: one recipe and two seeds of it, each with its controls, under the first metric."""
    document: Any = tomlkit.parse((TASKS / "sanity" / "task.toml").read_text(encoding="utf-8"))
    document["train"] = document["train"][:1]
    document["train"][0].update({"width": 48, "k": 4, "seeds": [0, 1], "batch_size": 256, "max_tokens": 10_000, "epochs": 1.0})
    document["metrics"] = document["metrics"][:1]
    document["metrics"][0]["options"].update({"max_tokens": 600, "spliced_tokens": 0})
    (tmp_path / "sanity").mkdir()
    (tmp_path / "sanity" / "task.toml").write_text(tomlkit.dumps(document), encoding="utf-8")
    texts = [" ".join(f"word {place}" for place in rng(0, "texts", str(number)).integers(1000, size=12)) for number in range(400)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "texts.parquet")
    command = ("eval", "--task", tmp_path / "sanity", "--device", "cpu", "--out", tmp_path)
    with Hub() as hub:
        hub.add("google/gemma-2-2b", model_files("google/gemma-2-2b", 14))
        file = {"sample/10BT/000_00000.parquet": (tmp_path / "texts.parquet").read_bytes()}
        hub.add("HuggingFaceFW/fineweb", file, kind="datasets")
        with using(hub, tmp_path / "hub"):
            entry = harness(*command, "--json").json
            shown = harness(*command)
    assert entry["rows"][0]["subject"]["arm"] == "trained"
    assert {row["subject"]["arm"] for row in entry["rows"]} == set(ARMS)
    against = {one["arm"]: one for one in entry["rows"][0]["against"]}
    assert {arm: len(one["pairs"]) for arm, one in against.items()} == {**dict.fromkeys(CONTROLS, 4), "random": 6}
    assert all(one["n_items"] > 3 for one in against.values())
    (page,) = [Path(line.removeprefix("page:").strip()) for line in shown.out.splitlines() if line.startswith("page:")]
    text = (page if page.is_absolute() else tmp_path / page.name).read_text(encoding="utf-8")
    assert "Does batchtopk beat dictionaries with random parts? explained variance:" in text
