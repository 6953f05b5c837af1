"""Detection and dictionary items: lists, filters, the scores of a labeling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from helpers.runs import manifest
from helpers.view_runs import CONCEPTS, LABELINGS

from harness.evaluations.detection.records import Truth, pack, texts_record
from harness.evaluations.detection.rows import DETECT, TEXTS, item_id
from harness.scoring import auroc
from harness.store import Item, Outcome, RunStore
from harness.store.manifest import MethodRecord, MetricRecord, PluginRef
from harness.types import DetectionMethod, Measurement
from harness.view.runs import Runs

METHOD = DetectionMethod("finder", "listener")
N, PLACES = 150, np.arange(150) * 3 + 1
SCORES = np.sin(np.arange(N)).astype(np.float32)
POSITIVE, HARD = np.arange(N) % 4 == 0, np.arange(N) % 10 == 1


class Split:
    """What :func:`texts_record` asks a split for."""

    def as_json(self) -> dict[str, int]:
        return {"report": N}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a detection of two concepts, one still to be done, and with two measurements of dictionaries."""
    plugin = PluginRef(kind="detector", name="listener", key="listener", distribution="")
    metric = PluginRef(kind="metric", name="density", key="density", distribution="")
    path = tmp_path_factory.mktemp("others") / "run"
    metrics = tuple(
        MetricRecord(id=f"m{place}", role=role, plugin=metric, dictionary="sae", arm=arm)
        for place, (arm, role) in enumerate((("trained", "method"), ("<i>shuffled</i>", "control")))
    )
    method = MethodRecord(kind="detection", id=METHOD.id, name=METHOD.name, role="method", plugin=plugin)
    with RunStore.create_or_open(path, manifest({"n": 1}, methods=(method,), metrics=metrics)) as store:
        store.add_concepts(CONCEPTS)
        store.add_labelings("finder", LABELINGS)
        store.add_methods([METHOD])
        truth = Truth(POSITIVE[:50], POSITIVE, HARD[:50], HARD & ~POSITIVE, None, np.zeros(N, dtype=bool))
        record: Any = texts_record(Split(), PLACES[:50], PLACES)  # type: ignore[arg-type]
        store.set_record(TEXTS, record)
        store.add_items(Item(item_id(METHOD.id, x.id), "detection", truth.as_json(), METHOD.id, x.id, x.concept.id) for x in LABELINGS)
        done = Outcome(item_id(METHOD.id, LABELINGS[0].id), "", "done", {"threshold": pack(SCORES[:50]), "report": pack(SCORES)})
        store.add_outcome(DETECT, done)
        store.add_items(Item(m.id, "dictionary", {"dictionary": "sae", "arm": m.arm, "training_seed": None}, m.id) for m in metrics)
        found = Measurement(0.125, parts={"dead": 0.5, "odd": None}, part_reasons={"odd": "no <b>reason</b>"})
        store.add_outcome("measure", Outcome("m0", "", "done", found.as_json()))
        store.add_outcome("measure", Outcome("m1", "", "done", Measurement(None, reason="it <b>needs</b> a corpus").as_json()))
    return path


@pytest.fixture(scope="module")
def client(folder: Path, serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        with serve(Runs([folder])) as address, httpx.Client(base_url=f"{address}/run/run") as client:
            yield client


def rows(page: str) -> list[list[str]]:
    """The cells of a page's table, without markup."""
    import re

    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        [" ".join(re.sub("<[^>]*>", "", cell).split()) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in body.split("</tr>")[:-1]
    ]


def test_labelings_are_listed_with_their_figures(client: httpx.Client) -> None:
    plain = ~(HARD & ~POSITIVE)
    expected = f"{auroc(SCORES[plain], POSITIVE[plain]):.3f}"
    page = client.get("/detection").text
    assert rows(page)[0] == ["the sea", METHOD.name, "sae/0", expected, str(POSITIVE.sum()), str(N)]
    assert rows(page)[1][-1] == "not yet"
    assert len(rows(client.get("/detection", params={"concept": "war"}).text)) == 1
    assert rows(client.get("/detection", params={"concept": "nobody's"}).text) == [["Nothing fits this filter."]]


def test_the_scores_of_a_labeling_are_filtered_and_ordered(client: httpx.Client) -> None:
    address = f"/detection/{item_id(METHOD.id, LABELINGS[0].id)}"
    found = rows(client.get(address).text)
    order = np.argsort(-SCORES, kind="stable")
    assert len(found) == 100
    assert [int(row[1]) for row in found] == list(PLACES[order[:100]])
    rest = rows(client.get(address, params={"from": "100"}).text)
    assert [int(row[1]) for row in rest] == list(PLACES[order[100:]])
    hard = rows(client.get(address, params={"label": "hard negative", "order": "corpus"}).text)
    assert [int(row[1]) for row in hard] == list(PLACES[HARD & ~POSITIVE])
    high = rows(client.get(address, params={"score_min": "0.9", "score_max": "0.95", "order": "low"}).text)
    assert [float(row[3]) for row in high] == pytest.approx(sorted(score for score in SCORES.tolist() if 0.9 <= score <= 0.95), rel=1e-5)
    assert len(rows(client.get(address, params={"set": "threshold"}).text)) == 50
    for wrong in ({"label": "maybe"}, {"set": "train"}, {"score_min": "high"}, {"order": "x"}, {"from": "nan"}):
        assert client.get(address, params=wrong).status_code == 400
    assert client.get("/detection/nothing").status_code == 404


def test_a_labeling_that_is_still_to_be_done_has_no_scores(client: httpx.Client) -> None:
    assert "not yet" in client.get(f"/detection/{item_id(METHOD.id, LABELINGS[1].id)}").text


def test_measurements_are_listed_with_what_is_missing(client: httpx.Client) -> None:
    page = client.get("/dictionary").text
    assert [row[4] for row in rows(page)] == ["0.125", "it &lt;b&gt;needs&lt;/b&gt; a corpus"]
    assert rows(page)[0][5] == "dead 0.5, odd –"
    assert len(rows(client.get("/dictionary", params={"arm": "<i>shuffled</i>"}).text)) == 1
    assert "<i>" not in page


def test_a_run_without_texts_says_so(client: httpx.Client) -> None:
    page = client.get("/").text
    assert "No text has been written yet" in page
    assert page.count('aria-current="page"') == 1
    assert 'href="/run/run/detection"' in page
    assert 'href="/run/run/dictionary"' in page
