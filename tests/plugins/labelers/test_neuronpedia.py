"""neuronpedia: explained live features in chosen mode, the best-fitting explanation in fixed mode, and never an answer without one."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_plugins.labelers.neuronpedia import LEAST, NeuronpediaLabeler, NeuronpediaOptions, word_overlap
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import DataError, DictionaryError, ModelError, OptionError
from harness.labelling.options import FilterOptions
from harness.model.embedded import ensure
from harness.model.sentences import LONGEST, MODEL, SentenceEmbedder
from harness.options import build, filter_names
from harness.run.bench import TaskBench
from harness.sae.causal import output_scores
from harness.testing.labelers import check_labeler
from harness.testing.toy import toy_bench
from harness.types import Abstention, Concept, Labeling

SOURCE = "stories260k/2-res-tiny"
TEXTS = {
    0: "food and meals", 1: "wild animals in the forest", 2: "—", 3: "Error: 429", 4: "cooking and recipes", 5: None,
    6: "sports and ball games", 7: "the weather, above all rain", 8: "cheese and bread",
}  # fmt: skip
LIVE = (0, 1, 2, 3, 4, 5, 6, 7)


@pytest.fixture
def export(tmp_path: Path) -> str:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({f"{SOURCE}/{index}": text for index, text in TEXTS.items()}), encoding="utf-8")
    return str(path)


@pytest.fixture
def bench(make_bench: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes a bench on which features 0 to 7 fire, feature j on j + 1 of a text's 10 tokens."""

    def make(**options: Any) -> Any:
        counts = np.tile(np.arange(1, len(LIVE) + 1), (4, 1))
        made = make_bench(counts, np.full(4, 10), [["a"]] * 4, **options)
        made.track = lambda items, description, total=None: iter(items)
        return made

    return make


def label(bench: Any, concepts: list[Concept], **options: Any) -> list[Any]:
    return NeuronpediaLabeler(NeuronpediaOptions(**options)).label(bench, concepts)


def concept(text: str) -> Concept:
    return Concept(text, text)


# ------------------------------------------------------------------------------------------------------------------ chosen mode


def test_each_explained_live_feature_is_its_own_concept(bench: Callable[..., Any], export: str) -> None:
    at = bench(concept_mode="chosen")
    answers = label(at, [], source=export, order="index")
    assert [answer.features[0].index for answer in answers] == [0, 1, 4, 6, 7]  # 2, 3, 5 are unlabelled, 8 never fires
    first = answers[0]
    assert (first.concept.id, first.concept.text, first.concept.label, first.score) == (f"{SOURCE}/0", "food and meals", None, None)
    assert first.evidence["source"] == SOURCE
    assert first.evidence["features"] == [
        {"feature": 0, "explanation": "food and meals", "by": "labels.json", "explanation_score": None, "similarity": None,
         "density": pytest.approx(0.1), "other_explanations": []}
    ]  # fmt: skip
    assert any("3 unlabelled (" in warning for warning in at.warnings)
    assert any("of the 8 features that fire on the corpus 5 are explained; count is 100" in warning for warning in at.warnings)


def test_the_draw_is_the_seeds_and_uniform(bench: Callable[..., Any], export: str) -> None:
    def drawn(seed: int) -> list[int]:
        return [a.features[0].index for a in label(bench(concept_mode="chosen", seed=seed), [], source=export, count=2)]

    assert drawn(1) == drawn(1)
    counts = Counter(feature for seed in range(200) for feature in drawn(seed))
    assert set(counts) == {0, 1, 4, 6, 7}
    assert all(50 < count < 110 for count in counts.values())  # 80 each on average, with fixed seeds
    assert all(len(set(drawn(seed))) == 2 for seed in range(20))


def test_no_explained_feature_fires(bench: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({f"{SOURCE}/400": "tea"}), encoding="utf-8")
    with pytest.raises(DataError) as error:
        label(bench(concept_mode="chosen"), [], source=str(tmp_path / "x.json"))
    assert error.value.given == str(tmp_path / "x.json")
    assert "source" in error.value.hint
    assert "8 features" in error.value.message
    answer = label(bench(), [concept("tea")], source=str(tmp_path / "x.json"), match="words")[0]
    assert isinstance(answer, Abstention)
    assert answer.reason == "no feature that may be chosen is explained"


# ------------------------------------------------------------------------------------------------------------------- fixed mode


def test_words_find_the_explanation_that_shares_them(bench: Callable[..., Any], export: str) -> None:
    concepts = [
        concept(text) for text in ("Food and meals", "forests with animals", "rain and weather", "tax law", "bread and cheese", "!?")
    ]
    answers = label(bench(), concepts, source=export, match="words", min_similarity=0.3)
    assert [a.features[0].index if isinstance(a, Labeling) else None for a in answers] == [0, 1, 7, None, None, None]
    assert [a.concept for a in answers] == concepts
    assert answers[0].score == pytest.approx(1.0, abs=1e-5)
    assert answers[0].evidence["match"] == "words"
    reasons = [a.reason for a in answers if isinstance(a, Abstention)]
    assert all(reason.startswith("the most similar explanation, '") and reason.endswith("; 0.3 is needed") for reason in reasons)


def test_several_features_and_the_runners_up(bench: Callable[..., Any], export: str) -> None:
    answer = label(bench(), [concept("food, meals and cooking")], source=export, match="words", features_per_label=2, min_similarity=0.2)[0]
    assert [f.index for f in answer.features] == [0, 4]
    first, second = answer.evidence["features"]
    assert answer.score == first["similarity"] > second["similarity"] >= 0.2
    assert first["density"] == pytest.approx(0.1)
    assert {other["feature"] for other in answer.evidence["runners_up"]} == {1, 6, 7}
    only = label(bench(), [concept("food, meals and cooking")], source=export, match="words", features_per_label=2, min_similarity=0.6)[0]
    assert [f.index for f in only.features] == [0]  # the second is not similar enough


def test_a_feature_is_as_similar_as_its_most_similar_explanation(bench: Callable[..., Any], tmp_path: Path) -> None:
    place = {"modelId": "stories260k", "layer": "2-res-tiny", "explanationModelName": "m"}
    said = [(1, "letters and digits"), (1, "sailing boats"), (2, "boats"), (3, "Error: 500")]
    rows = [{**place, "index": i, "description": text} for i, text in said]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    answer = label(bench(), [concept("sailing boats")], source=str(tmp_path / "x.jsonl"), match="words")[0]
    assert answer.features[0].index == 1
    evidence = answer.evidence["features"][0]
    assert (evidence["explanation"], evidence["by"]) == ("sailing boats", "m")
    assert evidence["other_explanations"] == [{"explanation": "letters and digits", "by": "m"}]


class Causal:
    """In place of the filter that runs the model: even features pass. Counts what it is asked."""

    active = True

    def __init__(self, bench: Any, name: str, options: Any, who: str) -> None:
        assert (options.min_output_score, who) == (0.1, "neuronpedia")
        self.asked: list[int] = []

    def passing(self, candidates: Any) -> Iterator[int]:
        yield from (int(feature) for feature in candidates if not int(feature) % 2)

    def first(self, candidates: Any, n: int) -> list[int]:
        return list(self.passing(candidates))[:n]


def test_filters_choose_among_the_explained(bench: Callable[..., Any], export: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.labelling.filters.CausalFilter", Causal)
    options: dict[str, Any] = {"source": export, "min_output_score": 0.1}
    at = bench(concept_mode="chosen")
    assert [a.features[0].index for a in label(at, [], **options, order="index")] == [0, 4, 6]
    assert any("3 are explained and pass the filters; count is 100" in warning for warning in at.warnings)
    concepts = [concept("wild animals in the forest of food"), concept("wild animals in the forest")]
    found = label(bench(), concepts[:1], **options, match="words", min_similarity=0.1)[0]
    assert [f.index for f in found.features] == [0]
    assert found.evidence["runners_up"][0]["feature"] == 1  # more similar, and filtered out
    strict = label(bench(), concepts[1:], **options, match="words", min_similarity=0.5)[0]
    assert strict.reason == "none of the 1 features with a similar explanation passes the filters"


def test_the_cosine_filter_is_each_concepts_own(make_bench: Callable[..., Any], tiny_dictionary: Any, export: str) -> None:
    positive = np.arange(8) % 2
    rows = tiny_dictionary.sae.W_dec.double().numpy()
    means = np.random.default_rng(2).normal(0, 0.01, (8, 64)) + positive[:, None] * rows[4]
    at = make_bench(np.tile(np.arange(1, 9), (8, 1)), np.full(8, 10), [["a"] if p else [] for p in positive], means=means)
    options: dict[str, Any] = {"source": export, "match": "words", "min_similarity": 0.1, "min_cosine": 0.8, "held_out": 0}
    labelled, bare = Concept("a", "food and recipes", "a"), Concept("b", "food and recipes")
    found, none = label(at, [labelled, bare], **options)
    assert [f.index for f in found.features] == [4]
    assert none.reason == "no explanation that is near is of a feature that may be chosen"
    at.concept_mode = "chosen"
    with pytest.raises(OptionError) as error:
        label(at, [], **options)
    assert error.value.given == 0.8
    assert "min_cosine" in error.value.hint


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    try:
        ensure(MODEL)
    except ModelError as error:
        pytest.skip(f"{MODEL} cannot be had here: {error}")
    return SentenceEmbedder()


def test_embeddings_find_what_words_do_not(bench: Callable[..., Any], export: str, embedder: SentenceEmbedder) -> None:
    concepts = [concept(text) for text in ("recipes", "football", "a storm with heavy rainfall", "income tax")]
    answers = label(bench(), concepts, source=export, min_similarity=0.4)
    assert [a.features[0].index if isinstance(a, Labeling) else None for a in answers] == [4, 6, 7, None]
    again = label(bench(), concepts[1:2], source=export, min_similarity=0.4)
    assert again[0].score == answers[1].score  # to the last digit, whatever stands beside it


def test_embeddings_of_many_explanations_are_kept(
    bench: Callable[..., Any], export: str, embedder: SentenceEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []

    def artifact(key: Any, compute: Callable[[Path], None]) -> Path:
        folder = tmp_path / "artifact"
        if not folder.exists():
            compute(folder)
            with pytest.MonkeyPatch.context() as patch:  # a call after one that was interrupted embeds what is missing
                patch.setattr(SentenceEmbedder, "embed", None)
                compute(folder)
        kept.append(key)
        return folder

    plain = label(bench(), [concept("recipes")], source=export)
    monkeypatch.setattr("harness_plugins.labelers.neuronpedia._CACHED_FROM", 2)
    monkeypatch.setattr("harness_plugins.labelers.neuronpedia._EMBEDDED_AT_ONCE", 3)
    at = bench()
    at.artifact = artifact
    assert [label(at, [concept("recipes")], source=export) for _ in range(2)] == [plain, plain]
    assert kept[0] == kept[1]
    assert kept[0]["embedder"] == MODEL


def test_embeddings_do_not_depend_on_their_neighbours(embedder: SentenceEmbedder) -> None:
    texts = ["tea", "a cup of hot tea in the morning", "x", "", "the law of the sea " * 9, "tea " * 400]
    whole = embedder.embed(texts)
    assert whole.shape == (6, 384)
    assert whole.dtype == np.float32
    assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    for place, text in enumerate(texts):
        assert np.array_equal(embedder.embed([text])[0], whole[place])
    assert np.array_equal(embedder.embed(["tea " * LONGEST])[0], whole[-1])  # cut there
    assert embedder.embed([]).shape == (0, 384)
    assert float(whole[0] @ whole[1]) > 0.5 > float(whole[1] @ whole[4])


def test_embeddings_are_the_models_own(embedder: SentenceEmbedder) -> None:
    """Against the model run by hand on one text, without padding."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = ensure(MODEL)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        states = model(**tokenizer("a cup of hot tea", return_tensors="pt")).last_hidden_state[0]
    expected = states.mean(dim=0) / states.mean(dim=0).norm()
    assert np.allclose(embedder.embed(["a cup of hot tea"])[0], expected.numpy(), atol=1e-5)


WORDS = st.lists(st.sampled_from(["red", "green", "blue", "tea", "cups", "cup"]), max_size=5).map(" ".join)


@given(st.lists(WORDS, min_size=1, max_size=6), WORDS)
def test_word_overlap_is_what_its_definition_says(texts: list[str], asked: str) -> None:
    def words(text: str) -> set[str]:
        return {"cup" if word == "cups" else word for word in text.split()}

    def weight(word: str) -> float:
        return float(np.log((len(texts) + 1) / (sum(word in words(text) for text in texts) + 0.5)))

    def square(some: set[str]) -> float:
        return sum(weight(word) ** 2 for word in some)

    (row,) = word_overlap([asked], texts)
    for found, text in zip(row, texts, strict=True):
        bottom = np.sqrt(square(words(text)) * square(words(asked)))
        expected = square(words(text) & words(asked)) / bottom if bottom else 0
        assert found == pytest.approx(expected, abs=1e-6)
        assert 0 <= found <= 1 + 1e-6


# --------------------------------------------------------------------------------------------------------------- other SAEs, options


@pytest.mark.parametrize(
    ("keys", "given", "own"),
    [
        (["stories260k/3-res-tiny/1"], 3, "layer 2"),
        (["stories260k/2-res-16k/1"], "16k", "512 features"),
        (["gemma-2-2b/2-res-tiny/1"], "gemma-2-2b", "stories260K"),
        ([f"{SOURCE}/1", f"{SOURCE}/512"], 512, "0 to 511"),
    ],
)
def test_explanations_of_another_sae_are_refused(
    bench: Callable[..., Any], tmp_path: Path, keys: list[str], given: object, own: str
) -> None:
    (tmp_path / "x.json").write_text(json.dumps(dict.fromkeys(keys, "tea")), encoding="utf-8")
    with pytest.raises(DictionaryError) as error:
        label(bench(concept_mode="chosen"), [], source=str(tmp_path / "x.json"))
    assert error.value.given == given
    assert own in str(error.value)
    assert error.value.hint


def test_options(bench: Callable[..., Any]) -> None:
    with pytest.raises(OptionError) as wrong:
        build(NeuronpediaOptions, {"match": "search"}, "labeler neuronpedia")
    for part in ("search", "bulk", "source=api"):
        assert part in str(wrong.value)
    assert build(NeuronpediaOptions, {"match": "search", "source": "api"}, "x").source == "api"
    assert {*filter_names(FilterOptions), "features_per_label"} == set(filter_names(NeuronpediaOptions))
    with pytest.raises(DataError) as error:
        label(bench(), [concept("tea")])
    assert "model_id and source_id" in error.value.hint
    text = NeuronpediaOptions.model_fields["min_similarity"].description or ""
    assert all(f"{value:g}".lstrip("0") in text for value in LEAST.values())


# ---------------------------------------------------------------------------------------------------------------------- the network


class Handler(BaseHTTPRequestHandler):
    """A small Neuronpedia: explanations of TEXTS, and a search whose similarity falls by .1 a hit."""

    protocol_version = "HTTP/1.1"
    found: tuple[int, ...] = (8, 4, 3, 0, 1)

    def do_GET(self) -> None:
        index = int(self.path.rsplit("/", 1)[1])
        self._answer({**self._place(index), "explanations": [{"description": TEXTS.get(index)}]} if index in TEXTS else None)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        hits = [{**self._place(i), "description": TEXTS[i], "cosine_similarity": 0.9 - place / 10} for place, i in enumerate(self.found)]
        self._answer({"results": hits[asked["offset"] :]})

    def _place(self, index: int) -> dict[str, Any]:
        model, layer = SOURCE.split("/")
        return {"modelId": model, "layer": layer, "index": str(index), "explanationModelName": "m"}

    def _answer(self, content: Any) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        data = json.dumps(content or {"error": "not found"}).encode()
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The options of the small Neuronpedia, and what it was asked."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NEURONPEDIA_API_KEY", raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    options = {"source": "api", "source_id": SOURCE, "base_url": f"http://127.0.0.1:{server.server_address[1]}"}
    yield options, server.asked  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def test_chosen_features_from_the_api(bench: Callable[..., Any], api: Any) -> None:
    options, asked = api
    for _ in range(2):
        at = bench(concept_mode="chosen")
        answers = label(at, [], **options, order="index", count=3)
        assert [a.features[0].index for a in answers] == [0, 1, 4]
        assert len(asked) == 5  # 0 to 4, once
        assert any("3 of 5 features asked for are explained" in warning for warning in at.warnings)


def test_the_servers_own_search(bench: Callable[..., Any], api: Any) -> None:
    options, asked = api
    concepts = [concept("cooking"), concept("AI")]
    for _ in range(2):
        found, short = label(bench(), concepts, **options, match="search", features_per_label=2, min_similarity=0.7)
        assert [f.index for f in found.features] == [4]  # 8 never fires, 3 is an error text, 0 is at .6
        assert found.score == pytest.approx(0.8)
        assert [other["feature"] for other in found.evidence["runners_up"]] == [0, 1]
        assert short.reason == "Neuronpedia's search takes at least 3 characters, and the concept is 'AI'"
    low = label(bench(), concepts[:1], **options, match="search", min_similarity=0.85)[0]
    assert low.reason == "the most similar explanation, 'cooking and recipes' of feature 4, has similarity 0.8; 0.85 is needed"
    assert asked == ["/api/explanation/search"]  # one page goes below what is needed, and is not asked for twice


def test_a_search_that_finds_features_of_another_sae(bench: Callable[..., Any], api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEXTS, 600, "tea")
    monkeypatch.setattr(Handler, "found", (600,))
    with pytest.raises(DictionaryError) as error:
        label(bench(), [concept("cooking")], **api[0], match="search")
    assert (error.value.given, error.value.allowed) == (600, "0 to 511")


def test_matching_by_words_over_the_api_is_limited(bench: Callable[..., Any], api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options, _ = api
    assert label(bench(), [concept("wild animals")], **options, match="words")[0].features[0].index == 1
    monkeypatch.setattr("harness_plugins.labelers.neuronpedia.MOST_REQUESTS", 7)
    with pytest.raises(DataError) as error:
        label(bench(), [concept("wild animals")], **options, match="words")
    assert (error.value.given, error.value.allowed) == (8, "at most 7")
    assert "match=search" in error.value.hint
    assert "source=bulk" in error.value.hint


# ------------------------------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("least", [None, 0.05])
@pytest.mark.parametrize("mode", ["fixed", "chosen"])
def test_it_keeps_the_contract_on_a_whole_task(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, mode: Any, least: float | None
) -> None:
    made: TaskBench = toy_bench(tmp_path_factory.getbasetemp() / "toy", mode)
    topics = ("music and songs", "water", "bread and dough", "Error: 404")
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({f"model/1-res/{index}": topics[index % 4] for index in range(48)}), encoding="utf-8")
    options = NeuronpediaOptions(source=str(path), match="words", count=12, min_output_score=least)
    answers = check_labeler(lambda: NeuronpediaLabeler(options), made)
    labelled = [a for a in answers if isinstance(a, Labeling)]
    if mode == "chosen":
        assert len(answers) == 12
    else:
        said = {a.concept.id: a.evidence["features"][0]["explanation"] for a in labelled}
        assert said == {"music": topics[0], "water": topics[1], "bread": topics[2]}
    if least is not None:
        features = [feature.index for a in labelled for feature in a.features]
        scores = output_scores(made.model, made.dictionaries["sae"], features, prompt=options.filter_prompt).score
        assert (scores >= least).all()
        every = output_scores(made.model, made.dictionaries["sae"], list(range(48)), prompt=options.filter_prompt).score
        assert (every < least).any()  # the filter had something to do
