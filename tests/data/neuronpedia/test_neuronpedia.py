"""Neuronpedia exports on disk: every format, what is no explanation, which SAE they belong to."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.neuronpedia.explanations import Explanation, SourceId, best_first, explained_features
from harness.data.neuronpedia.exports import SUFFIXES, parse_record, read_explanations, why_unusable
from harness.data.neuronpedia.open import check_belongs, open_explanations
from harness.errors import DataError, DictionaryError

GEMMA = SourceId("gemma-2-2b", "20-gemmascope-res-16k")


@pytest.fixture
def exports(shared_data: Path) -> Path:
    return shared_data / "neuronpedia"


def said(feature: int, text: Any, **more: Any) -> dict[str, Any]:
    """A row of the bulk files."""
    return {"modelId": GEMMA.model, "layer": GEMMA.source, "index": str(feature), "description": text, "explanationModelName": "m", **more}


def write(path: Path, *rows: Any) -> Path:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# ---------------------------------------------------------------------------------------------------------------- the real files


def test_a_real_reply_of_the_api(exports: Path) -> None:
    found = read_explanations(exports / "feature_gemma-2-2b_21-gemmascope-res-65k_353.json")
    assert str(found.source) == "gemma-2-2b/21-gemmascope-res-65k"
    text = "specific patterns related to letters and their arrangement in written texts"
    assert found.of(353) == (Explanation(353, text, "gpt-4o-mini (oai_token-act-pair)"),)
    assert found.of(354) == ()
    assert (found.source.layer, found.source.width) == (21, "65k")


def test_a_real_map_of_labels_whose_dashes_are_no_labels(exports: Path) -> None:
    path = exports / "labels_gemma-3-1b-it_nikxtaco.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    found = read_explanations(path)
    assert len(found.by_feature) + found.n_unlabelled == len(raw) == 1178
    assert found.n_unlabelled == sum(not any(c.isalnum() for c in label) for label in raw.values()) == 321
    assert found.of(11)[0].text == "model responses to queries"
    assert found.of(56) == ()
    assert raw[f"{found.source}/56"] == "—"
    assert found.unlabelled[56] == "without a letter or digit"
    assert found.of(2922)[0].text == "handling errors or empty lists"  # speaks of errors, and is a label
    assert "857 features explained, 321 unlabelled (321 without a letter or digit)" in found.summary()


def test_a_real_dashboard_without_explanations_says_so(exports: Path) -> None:
    path = exports / "saedashboard_batch-0.json"
    with pytest.raises(DataError) as error:
        read_explanations(path)
    assert (error.value.given, bool(error.value.hint)) == (str(path), True)
    assert "2 features of gpt2-small/0-res-jb" in str(error.value)
    assert "usable" not in str(error.value), "it has no place for explanations, so none was refused"


def test_a_dashboard_with_explanations(exports: Path, tmp_path: Path) -> None:
    content = json.loads((exports / "saedashboard_batch-0.json").read_text(encoding="utf-8"))
    content["features"][1]["explanations"] = [{"description": "military units", "explanationModelName": "m"}]
    (tmp_path / "dashboard.json").write_text(json.dumps(content), encoding="utf-8")
    found = read_explanations(tmp_path / "dashboard.json")
    index = content["features"][1]["feature_index"]
    assert found.features == (index,)
    assert found.of(index)[0].text == "military units"
    assert str(found.source) == "gpt2-small/0-res-jb"
    assert found.n_unlabelled == 1


def test_a_folder_of_several_sources_needs_a_name(exports: Path) -> None:
    with pytest.raises(DataError) as error:
        read_explanations(exports)
    sources = ["gemma-2-2b/21-gemmascope-res-65k", "gemma-3-1b-it/22-gemmascope-2-res-16k", "gpt2-small/0-res-jb"]
    assert (error.value.given, error.value.allowed) == (exports, sources)
    assert "source_id" in error.value.hint
    assert read_explanations(exports, "gemma-2-2b").features == (353,)
    assert len(read_explanations(exports, None, "22-gemmascope-2-res-16k").by_feature) == 857
    with pytest.raises(DataError) as error:
        read_explanations(exports, GEMMA.model, GEMMA.source)
    assert (error.value.given, error.value.allowed) == ("gemma-2-2b/20-gemmascope-res-16k", sources)
    assert error.value.hint


# -------------------------------------------------------------------------------------------------------------------- formats


def test_batches_repeat_indices_are_not_contiguous_and_come_packed(tmp_path: Path) -> None:
    write(tmp_path / "explanations" / "batch-0.jsonl.gz", said(1007, "cats"), said(3, "dogs", embedding=[0.1] * 4), said(1007, "felines"))
    write(tmp_path / "explanations" / "batch-1.jsonl", said(3, "dogs"), said(12, None))
    write(tmp_path / "features" / "batch-0.jsonl.gz", *({"modelId": GEMMA.model, "layer": GEMMA.source, "index": i} for i in ("3", "77")))
    write(tmp_path / "source.jsonl", {"id": GEMMA.source, "modelId": GEMMA.model})
    found = read_explanations(tmp_path)
    assert {feature: [e.text for e in found.of(feature)] for feature in found.features} == {3: ["dogs"], 1007: ["cats", "felines"]}
    assert found.unlabelled == {12: "null", 77: "no explanation"}
    assert found.largest == 1007
    assert [skip.reason for skip in found.skipped] == ["no index: neither a feature nor an explanation"]


def test_the_same_content_in_every_format_is_the_same(tmp_path: Path) -> None:
    rows = [said(5, "cheese"), said(9, "Error: 404")]
    nested = [{k: row[k] for k in ("modelId", "layer", "index")} | {"explanations": [row]} for row in rows]
    files = {
        "list.json": json.dumps(nested),
        "lines.jsonl": "\ufeff" + "\r\n".join(json.dumps(row) for row in rows),
        "lines-named.json": "\n".join(json.dumps(row) for row in rows),
        "nested.jsonl": "\n\n".join(json.dumps(row) for row in nested),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        found = read_explanations(tmp_path / name)
        assert found.by_feature == {5: (Explanation(5, "cheese", "m"),)}, name
        assert found.unlabelled == {9: "error text or placeholder"}, name


def test_a_map_of_bare_indices_needs_its_source(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps({"4": "tea", "7": ""}), encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_explanations(tmp_path / "labels.json")
    assert error.value.given == tmp_path / "labels.json"
    assert "model_id and source_id" in error.value.hint
    found = read_explanations(tmp_path / "labels.json", GEMMA.model, GEMMA.source)
    assert found.of(4) == (Explanation(4, "tea", "labels.json"),)
    assert found.unlabelled == {7: "empty"}


def test_a_truncated_batch_is_used_up_to_the_break(tmp_path: Path) -> None:
    whole = write(tmp_path / "batch-0.jsonl.gz", *(said(i, f"topic {i} {i * 7919 % 997}") for i in range(500))).read_bytes()
    (tmp_path / "batch-0.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    found = read_explanations(tmp_path / "batch-0.jsonl.gz")
    assert 0 < len(found.by_feature) < 500
    assert "breaks off" in found.skipped[-1].reason
    assert "records skipped" in found.summary()


def test_malformed_rows_are_skipped_counted_and_named(tmp_path: Path) -> None:
    first = json.dumps(said(1, "tea")) + "\n"
    bad = [
        '{"index": 3',
        '{"index": -1, "description": "x"}',
        '{"index": true}',
        "[]",
        '"text"',
        '{"error": "Not found"}',
        '{"index": "1e3"}',
    ]
    bad += [json.dumps(said(2, "up") | {"modelId": "../../etc"})]
    (tmp_path / "x.jsonl").write_text(first + "\n".join(bad), encoding="utf-8")
    found = read_explanations(tmp_path / "x.jsonl")
    assert found.features == (1,)
    assert len(found.skipped) == len(bad) - 1  # an empty list is a list of nothing
    assert (found.skipped[0].offset, found.skipped[0].reason[:14]) == (len(first), "not valid JSON")
    assert any("model id" in skip.reason for skip in found.skipped)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not valid JSON"),
        ("null", "a JSON NoneType, not an object"),
        ("[]", "x.json"),
        ('{"error": "Feature not found"}', "an error reply"),
        (json.dumps([said(1, "Error: timeout")]), "1 error text or placeholder"),
    ],
)
def test_a_file_without_an_explanation_is_one_clear_error(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "x.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_explanations(tmp_path / "x.json")
    assert str(error.value.given) == str(tmp_path / "x.json")
    assert "export" in error.value.hint
    assert reason in error.value.message, "why it was skipped"
    assert "\n" not in str(error.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_explanations(tmp_path / "gone.json")
    assert (error.value.given, error.value.allowed, bool(error.value.hint)) == (tmp_path / "gone.json", None, True)
    with pytest.raises(DataError) as error:
        read_explanations(tmp_path)
    assert (error.value.given, error.value.allowed, bool(error.value.hint)) == (tmp_path, SUFFIXES, True)


# ------------------------------------------------------------------------------------------------------- what is no explanation

NONE = [
    None, "", "  \n", 404, [], {}, "—", "-", "...", "Error: 404", "error", "ERROR: Failed to fetch", "Error fetching explanation", "[error]",
    "Error 500", "Not found", "not found.", "Feature not found", "404", "HTTP 404", "404 Not Found", "HTTP Error 404: Not Found",
    "404 Client Error: Not Found for url: https://www.neuronpedia.org/api/feature/x", "429 Too Many Requests", "500 Internal Server Error",
    "503 Service Temporarily Unavailable", "<!DOCTYPE html><html><head>", "<html>\n<body>Bad gateway</body></html>", "  <HTML>", "null", "None",
    "nan", "N/A", "(none)", "undefined", "Unknown", "No explanation", "No explanation found", "no explanations available yet.",
    "No description available", "Explanation not available", "Failed to fetch explanation", "Could not retrieve label", "Request failed: timeout",
    "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='www.neuronpedia.org')", "KeyError: 'explanations'", "API error (429)",
    "ReadTimeout('')", '{"error": "Feature not found"}', '{"message":"Rate limit"}', "Traceback (most recent call last):", "status code 502",
    "Connection error: reset", "Timeout error", "Unlabeled",
]  # fmt: skip
REAL = [
    "error messages and code", "handling errors or empty lists", "errors in reasoning", "Error handling in Python code", "not found in nature",
    "HTTP status codes such as 404", "HTML tags", "the tag <html> in web pages", "numbers such as 404", "the number 500", "1990s", "no matter",
    "no and related negations", "no explanation is needed, expressions of trust", "failure to thrive", "failed attempts to fetch water",
    "unknown authors", "null hypotheses", "nonexistent things", "requests for help", "timeouts in sports", "exceptions to rules", "C", "—and—",
    "connection", "server hardware", "network errors in logs of routers", "denial of access", "500 years ago", "Server-side rendering",
    "predicting equipment failure", "closing bracket before https", "internal rhyme", "descriptions not available elsewhere",
]  # fmt: skip


@pytest.mark.parametrize("text", NONE, ids=repr)
def test_what_caches_hold_in_place_of_a_label_is_none(text: Any) -> None:
    assert why_unusable(text)
    row = parse_record({"index": 1, "explanations": [text]}, "x")
    assert not isinstance(row, str)
    assert row.said == ()
    assert row.refused


@pytest.mark.parametrize("text", REAL)
def test_explanations_that_speak_of_errors_are_explanations(text: str) -> None:
    assert why_unusable(text) is None


def test_no_real_label_is_taken_for_an_error(exports: Path, shared_data: Path) -> None:
    """1,678 real explanations: the labels of one SAE, and AxBench's concepts, which are Neuronpedia's, too."""
    labels = json.loads((exports / "labels_gemma-3-1b-it_nikxtaco.json").read_text(encoding="utf-8")).values()
    rows = (shared_data / "axbench" / "concept500_2b_l10" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [*labels, *(json.loads(row)["concept"] for row in rows)]
    assert {text for text in texts if why_unusable(text)} == {text for text in texts if not any(c.isalnum() for c in text)}


def test_an_unusable_explanation_beside_a_usable_one_does_not_count(tmp_path: Path) -> None:
    found = read_explanations(write(tmp_path / "x.jsonl", said(1, "Error: 429"), said(1, "tea"), said(2, "N/A"), said(2, None)))
    assert [e.text for e in found.of(1)] == ["tea"]
    assert set(found.unlabelled) == {2}


# ----------------------------------------------------------------------------------------------------------------------- order


def test_scored_explanations_come_first_then_author_and_text() -> None:
    items = [Explanation(1, "b", "z"), Explanation(1, "a", "z"), Explanation(1, "c", "y"), Explanation(1, "low", "q", 0.1)]
    items += [Explanation(1, "high", "q", 0.9), Explanation(1, "b", "z", 0.5)]
    expected = [("high", 0.9), ("b", 0.5), ("low", 0.1), ("c", None), ("a", None)]
    for order in itertools.islice(itertools.permutations(items), 100):
        assert [(e.text, e.score) for e in best_first(order)] == expected


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.none() | st.floats(0, 1)), max_size=8), st.randoms())
def test_the_order_of_the_file_does_not_matter(parts: list[Any], random: Any) -> None:
    items = [Explanation(1, text, by, score) for text, by, score in parts]
    turned = random.sample(items, len(items))
    assert best_first(items) == best_first(turned)
    assert {(e.text, e.by) for e in best_first(items)} == {(e.text, e.by) for e in items}


def test_the_mean_of_an_explanations_scores(tmp_path: Path) -> None:
    scores = [
        {"value": 0.5, "explanationScoreTypeName": "recall_alt"},
        {"value": 0.7},
        {"value": None},
        {"value": float("inf")},
        {"value": True},
    ]
    found = read_explanations(write(tmp_path / "x.jsonl", said(1, "tea", scores=scores), said(1, "a drink")))
    assert [(e.text, e.score) for e in found.of(1)] == [("tea", pytest.approx(0.6)), ("a drink", None)]


def test_explained_features_is_lazy_and_keeps_the_order() -> None:
    asked: list[int] = []

    def of(feature: int) -> tuple[Explanation, ...]:
        asked.append(feature)
        return () if feature % 2 else (Explanation(feature, "x", "y"),)

    labels: Any = SimpleNamespace(of=of)
    drawn = list(itertools.islice(explained_features(labels, [7, 6, 4, 3, 2, 0]), 2))
    assert [feature for feature, _ in drawn] == [6, 4]
    assert asked == [7, 6, 4]


# ------------------------------------------------------------------------------------------------------------------- belonging


def sae(**facts: Any) -> Any:
    """As much of a dictionary as says what it is."""
    metadata = {"neuronpedia_id": facts.pop("neuronpedia_id", None)}
    defaults = {"source": "my-sae", "model_name": "gemma-2-2b", "hook_name": "blocks.20.hook_resid_post", "d_sae": 16384}
    return SimpleNamespace(**{**defaults, **facts}, cfg={"metadata": metadata})


@pytest.mark.parametrize(
    ("source", "facts", "given", "own"),
    [
        ("gemma-2-2b/21-gemmascope-res-16k", {}, 21, "layer 20"),
        ("gemma-2-2b/20-gemmascope-res-65k", {}, "65k", "16384 features"),
        ("gemma-2-2b/20-gemmascope-res-1m", {}, "1m", "16384 features"),
        ("gemma-2-9b/20-gemmascope-res-16k", {}, "gemma-2-9b", "gemma-2-2b"),
        ("gemma-2-2b-it/20-gemmascope-res-16k", {}, "gemma-2-2b-it", "gemma-2-2b"),
        ("gpt2-small/4-res-jb", {"model_name": "gpt2", "hook_name": "blocks.5.hook_resid_pre", "d_sae": 24576}, 4, "layer 5"),
    ],
)
def test_explanations_of_another_sae_are_refused_by_both_names(source: str, facts: dict[str, Any], given: object, own: str) -> None:
    with pytest.raises(DictionaryError) as error:
        check_belongs(SourceId.parse(source), sae(**facts))
    assert error.value.given == given
    assert error.value.allowed in (own, None)
    assert error.value.hint
    assert source in error.value.message
    assert f"{own}" in error.value.message.split("dictionary my-sae")[1]


@pytest.mark.parametrize(
    ("source", "facts"),
    [
        ("gemma-2-2b/20-gemmascope-res-16k", {}),
        ("gpt2-small/5-res-jb", {"model_name": "openai-community/gpt2", "hook_name": "blocks.5.hook_resid_pre", "d_sae": 24576}),
        ("gpt2-small/5-res_post_128k-oai", {"model_name": "gpt2-small", "hook_name": "blocks.5.hook_resid_post", "d_sae": 131072}),
        (
            "llama3.1-8b-it/19-resid-post-gf",
            {"model_name": "meta-llama/Llama-3.1-8B-Instruct", "hook_name": "model.layers.19", "d_sae": 65536},
        ),
        ("gemma-3-4b/17-gemmascope-2-res-262k", {"model_name": "google/gemma-3-4b-pt", "hook_name": "model.layers.17", "d_sae": 262144}),
        ("gemma-2-9b/20-gemmascope-res-1m", {"model_name": "", "d_sae": 1048576}),
        ("pythia-70m-deduped/e-att-sm", {"model_name": "pythia-70m-deduped", "d_sae": 32768}),
    ],
)
def test_explanations_of_its_own_source_are_taken_with_a_note(source: str, facts: dict[str, Any]) -> None:
    assert "were taken to be its own" in check_belongs(SourceId.parse(source), sae(**facts))


def test_the_dictionarys_own_name_settles_it() -> None:
    odd = sae(neuronpedia_id="pythia-70m-deduped/0-res-sm", model_name="EleutherAI/pythia-70m-deduped", hook_name="blocks.1.hook_resid_pre")
    assert check_belongs(SourceId("pythia-70m-deduped", "0-res-sm"), odd) == ""
    with pytest.raises(DictionaryError) as error:
        check_belongs(SourceId("pythia-70m-deduped", "0-res-sm"), odd, largest=16384)
    assert (error.value.given, error.value.allowed, bool(error.value.hint)) == (16384, "0 to 16383", True)
    other = sae(neuronpedia_id="gemma-2-2b/20-gemmascope-res-16k__l0-38")
    assert "may be another SAE" in check_belongs(GEMMA, other)


def test_opening_a_local_export_for_a_dictionary(exports: Path, tmp_path: Path) -> None:
    path = str(exports / "labels_gemma-3-1b-it_nikxtaco.json")
    right = sae(model_name="google/gemma-3-1b-it", hook_name="blocks.22.hook_resid_post")
    labels, note = open_explanations(right, path)
    assert labels.of(17)[0].text == "food and meals"
    assert "does not name its source" in note
    named = sae(model_name="google/gemma-3-1b-it", neuronpedia_id="gemma-3-1b-it/22-gemmascope-2-res-16k")
    assert open_explanations(named, path)[1] == ""
    with pytest.raises(DictionaryError) as error:
        open_explanations(sae(), path)
    assert (error.value.given, error.value.allowed) == (22, "layer 20")
    with pytest.raises(DictionaryError) as error:
        open_explanations(sae(d_sae=512), path)
    assert (error.value.given, error.value.allowed) == (16383, "0 to 511")
    with pytest.raises(DataError) as absent:
        open_explanations(sae(neuronpedia_id=str(GEMMA)), path)
    assert (absent.value.given, absent.value.allowed) == (str(GEMMA), ["gemma-3-1b-it/22-gemmascope-2-res-16k"])


def test_names_that_are_missing_or_do_not_agree() -> None:
    for origin in ("bulk", "api"):
        with pytest.raises(DataError) as nameless:
            open_explanations(sae(), origin, model_id="gemma-2-2b")
        assert nameless.value.given == "my-sae"
        assert "model_id and source_id" in nameless.value.hint
    with pytest.raises(DataError) as error:
        open_explanations(sae(), "api", model_id="gpt2", source_id=str(GEMMA))
    assert (error.value.given, error.value.allowed, bool(error.value.hint)) == ("gpt2", "gemma-2-2b", True)
    with pytest.raises(DictionaryError) as other:  # before anything is fetched
        open_explanations(sae(), "bulk", source_id="gemma-2-2b/3-gemmascope-res-16k")
    assert other.value.given == 3


@pytest.mark.parametrize("text", ["gemma-2-2b", "a/b/c", "../x", "a/..", "/", "a/b?c", "a b/c"])
def test_names_that_could_not_be_a_path_are_refused(text: str) -> None:
    with pytest.raises(DataError) as error:
        SourceId.parse(text)
    model, _, source = text.strip("/").partition("/")
    assert error.value.given in (model, source)
    assert "model/source" in error.value.hint


def test_the_width_tags_of_published_saes_fit() -> None:
    for tag, width in {
        "4k": 4096,
        "16k": 16384,
        "32k": 32768,
        "65k": 65536,
        "131k": 131072,
        "128k": 131072,
        "25k": 24576,
        "524k": 524288,
    }.items():
        source = SourceId("gemma-2-2b", f"20-gemmascope-res-{tag}")
        check_belongs(source, sae(d_sae=width))
        for wrong in (width // 2, width * 2, 512):
            with pytest.raises(DictionaryError) as error:
                check_belongs(source, sae(d_sae=wrong))
            assert error.value.given == tag
