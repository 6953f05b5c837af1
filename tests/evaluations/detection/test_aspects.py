"""Aspect texts in a run: scored beside the corpus' texts, at thresholds that the threshold part chose, for detectors and for judges."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.aspects import AspectText
from harness.evaluations.judge_aspects import judged
from harness.types import Rating

TEXTS = [
    ("girl", "The girl saw a big dog.", "The boy saw a big dog.", "The girl saw a dog.", "The girl and her mom saw a big dog."),
    ("girl", "Mom gave the girl a cake.", "Mom gave the boy a cake.", "Tom gave the girl a cake.", "Mom gave the girl a big cake."),
    ("big", "A big tree and a girl.", "A small tree and a girl.", "A big tree and a boy.", "A big tree and a girl and her mom."),
    ("big", "Her mom had a big hat.", "Her mom had a red hat.", "Tim had a big hat.", "Her mom, a girl and a dog had a big hat."),
    ("zebra", "A zebra and a girl.", "A cat and a girl.", "A zebra and a boy.", "A zebra, a girl and a mom."),
]


@pytest.fixture(scope="module")
def task(variant_in: Callable[[Path], Callable[..., Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = variant_in(tmp_path_factory.mktemp("aspects"))(("splits = 2", 'splits = 2\naspects = "aspects.jsonl"'))
    names = ("concept", "text", "target_removed", "others_removed", "added")
    rows = [{"id": str(number), "others": ["mom"], "further": [], **dict(zip(names, row, strict=True))} for number, row in enumerate(TEXTS)]
    (folder / "aspects.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_detectors_are_asked_about_all_variants(harness: Callable[..., Any], task: Path, tmp_path: Path) -> None:
    command = ("eval", "--detector", "bow", "--detector", "sae", "--labeler", "calibf1", "--task", task, "--out", tmp_path)
    entry = harness(*command, "--json").json
    rows = {f"{row['subject']['labeler'] or ''} {row['subject']['detector']}".strip(): row for row in entry["rows"]}
    bow = rows["bow"]["aspects"]
    assert sorted((item["id"], item["concept"]) for item in bow["items"]) == [(str(n), row[0]) for n, row in enumerate(TEXTS) if row[0] != "zebra"]
    for name, metric in bow["metrics"].items():
        assert metric["value"] == pytest.approx(np.mean([item["values"][name] for item in bow["items"]]))
    assert bow["metrics"]["auroc_target_removed"]["value"] == 1.0  # the words differ in the target alone
    majority = rows["majority"]["aspects"]
    assert {name: metric["value"] for name, metric in majority["metrics"].items()} == {
        "auroc_target_removed": 0.5, "auroc_others_removed": 0.5, "auroc_added": 0.5, "right_in_all": 0.0
    }  # fmt: skip
    assert "right in all" in " ".join(harness(*command).out.split())
    (run,) = (tmp_path / "runs").iterdir()
    assert harness("runs", "verify", run, "--out", tmp_path).code == 0


def test_another_set_is_another_run_of_detection_alone(harness: Callable[..., Any], task: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(task, other)
    lines = (other / "aspects.jsonl").read_text(encoding="utf-8")
    (other / "aspects.jsonl").write_text(lines.replace("red hat", "green hat"), encoding="utf-8")
    for folder in (task, other):
        assert harness("eval", "--detector", "majority", "--no-controls", "--task", folder, "--out", tmp_path, "--json").code == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_judge_is_asked_as_a_detector_is(harness: Callable[..., Any], task: Path) -> None:
    done = harness("judge", "aspects", "words", "--task", task, "--json")
    assert done.json["n_unrated"] == 0
    assert done.json["metrics"].keys() == {"auroc_target_removed", "auroc_others_removed", "auroc_added", "right_in_all"}
    assert len(done.json["items"]) == len(TEXTS)


def test_a_task_without_such_texts_is_said(harness: Callable[..., Any], tiny_task: Path) -> None:
    done = harness("judge", "aspects", "words", "--task", tiny_task)
    assert done.code == 2
    assert "aspect" in done.err


def test_a_judges_unrated_variant_takes_its_base_text_out() -> None:
    texts = [AspectText(name, "c", (f"{name} 0", f"{name} 1", f"{name} 2", f"{name} 3")) for name in "abc"]
    values = {"a": (2, 0, 1, 1), "b": (2, 1, 2, 2), "c": (0, 0, 0, 0)}
    names = ("text", "target_removed", "others_removed", "added")
    ratings = [
        Rating(f"{name}:{variant}", "rated", value, 1, 1)
        for name, own in values.items() for variant, value in zip(names, own, strict=True) if (name, variant) != ("c", "added")
    ]  # fmt: skip
    ratings.append(Rating("c:added", "unrated", reason="no answer"))
    found = judged("digest", texts, ratings, 0)
    by_id = {item.id: item.values for item in found.items}
    assert by_id["a"]["right_in_all"] == 1.0
    assert by_id["b"]["right_in_all"] == 0.0  # the concept is seen where it is not
    assert set(by_id["c"].values()) == {None}
    assert found.metrics["auroc_others_removed"].value == pytest.approx((0.75 + 1.0) / 2)
