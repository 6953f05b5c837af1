"""Auto-interp: latents that fire on one word are explained and recognised, latents that fire anywhere are not; a loopback server as the model."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_plugins.metrics.autointerp import Autointerp, AutointerpOptions
from harness_plugins.metrics.autointerp import lexical as lexical_module
from harness_plugins.metrics.autointerp.lexical import explain, names
from harness_plugins.metrics.autointerp.prompts import explain_request, longest, read_explanation, read_numbers, score_request
from harness_plugins.metrics.autointerp.reading import Counts, Reading, show
from harness_plugins.metrics.autointerp.scored import Scored
from harness_plugins.metrics.autointerp.snippets import ROOM, Latent, Snippet, cost, fits
from helpers.benches import MetricBench
from helpers.known_facts import ENTITIES, WIDTH, knowing_model
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.chat.cost import input_bound
from harness.chat.values import ChatReply, Usage
from harness.contracts import Priced, Work
from harness.errors import OptionError
from harness.files.artifacts import ArtifactCache
from harness.files.progress import Progress
from harness.run.bench import Choices, TaskBench
from harness.sae.subject import DictionarySubject
from harness.tasks.find import load_task
from harness.types import Measurement, rng

SMALL: dict[str, Any] = {"latents": 12, "max_tokens": 4000, "context": 2, "background": 60}
FILLER = ("the", "a", "city")
_TASK = """schema = 2
name = "words"
version = 1
summary = "random words"

[model]
name = "./knowing"

[[dictionaries]]
source = "./sae"
layer = 0

[[metrics]]
metric = "autointerp"
control_seeds = 1

[corpus]
source = "corpus.jsonl"

[concepts]
mode = "chosen"
min_support = 10

[instructions]
source = "instructions.jsonl"
per_concept = 1
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of random words, a model whose first layer says which word stands there, and a latent for each of twelve words."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("words")
    model = knowing_model()
    model.hf.save_pretrained(folder / "knowing")
    model.tokenizer.save_pretrained(folder / "knowing")
    draw = rng(0, "words")
    words = [*ENTITIES, *(FILLER * 8)]
    texts = [" ".join(words[int(place)] for place in draw.integers(len(words), size=30)) for _ in range(400)]
    rows = "".join(json.dumps({"id": str(place), "text": text, "labels": ["x"]}) + "\n" for place, text in enumerate(texts))
    (folder / "corpus.jsonl").write_text(rows, encoding="utf-8")
    (folder / "instructions.jsonl").write_text('{"id": "0", "text": "Go on."}\n', encoding="utf-8")
    (folder / "task.toml").write_text(_TASK, encoding="utf-8")
    axes = torch.eye(WIDTH)[7:19].contiguous()
    tensors = {"W_enc": axes.T.contiguous(), "W_dec": axes, "b_enc": torch.full((12,), -0.5), "b_dec": torch.zeros(WIDTH)}
    config = {
        "architecture": "standard", "d_in": WIDTH, "d_sae": 12, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
        "normalize_activations": "none", "reshape_activations": "none",
        "metadata": {"model_name": "knowing", "hook_name": "model.layers.0", "sae_lens_version": "6.20.0"},
    }  # fmt: skip
    (folder / "sae").mkdir()
    save_file(tensors, folder / "sae" / "sae_weights.safetensors")
    (folder / "sae" / "cfg.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bench(task: Path, tmp_path_factory: pytest.TempPathFactory) -> MetricBench:
    cache = ArtifactCache(tmp_path_factory.mktemp("artifacts"))
    return MetricBench(TaskBench(load_task(task), Choices(device="cpu", dtype="float32"), cache, Progress(quiet=True)))


def measure(bench: MetricBench, seed: int = 0, **options: Any) -> Measurement:
    metric = Autointerp(AutointerpOptions(**{**SMALL, **options}))
    return metric.measure(bench, DictionarySubject("sae", bench.dictionaries["sae"]), seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("scoring", ["detection", "fuzzing"])
def test_latents_that_fire_on_one_word_are_told_by_it(bench: MetricBench, scoring: str) -> None:
    found = measure(bench, scoring=scoring)
    assert found.value == 1
    assert (found.parts["accuracy"], found.parts["passed"], found.parts["scored"]) == (1, 1, 1)
    assert found.parts["shuffled"] is not None
    assert found.parts["shuffled"] < 0.7  # another word is in some of the snippets
    assert set(found.per_item) == {str(latent) for latent in range(12)}
    for example in found.details["examples"]:
        word = list(ENTITIES)[example["latent"]].lower()
        assert example["explanation"].strip('"') == word
        assert any(f"<<{word.upper()}>>" in snippet.upper() for snippet in example["snippets"])


def test_the_trivial_accuracy_is_that_of_naming_none(bench: MetricBench) -> None:
    found = measure(bench, words=1)
    assert found.trivial["accuracy"] == pytest.approx(1 - found.details["active_snippets"])
    plain = Scored((True, True, False, False, False), (False,) * 5)
    assert (plain.accuracy, plain.balanced) == (pytest.approx(0.6), 0.5)
    assert Scored((True,) * 4 + (False,) * 10, (False,) * 14).accuracy == pytest.approx(0.714, abs=1e-3)  # SAEBench's numbers


def test_the_texts_are_read_once_for_all_dictionaries(bench: MetricBench) -> None:
    measure(bench)
    n = bench.n_read
    measure(bench, scoring="fuzzing")
    assert bench.n_read == n


def test_latents_that_fire_too_seldom_are_left_out(bench: MetricBench) -> None:
    none = measure(bench, min_activations=10_000)
    assert none.value is None
    assert "more than 10000" in none.reason
    assert none.parts["passed"] == 0
    some = measure(bench, latents=5)
    assert len(some.per_item) == some.details["n_drawn"] == 5
    assert some.details["n_passed"] == 12


# ------------------------------------------------------------------------------------------------------------------- snippets


class Texts:
    """A reading of random words, each a token."""

    def __init__(self, n: int = 60, length: int = 40) -> None:
        draw = rng(1, "texts")
        self.tokens = [draw.integers(300, size=length) for _ in range(n)]
        text = np.repeat(np.arange(n), length - 1)
        self.reading = Reading(self.tokens, self.say, 1, text, np.arange(n) * (length - 1))

    @staticmethod
    def say(ids: Any) -> str:
        return " ".join("".join(chr(97 + int(digit)) for digit in f"{token:03d}") for token in ids)


COUNTS = Counts(10, 5, 2, 2, 10, 200, 4)


def test_a_latent_that_fires_anywhere_gets_what_guessing_gets() -> None:
    texts, found = Texts(300), []
    for index in range(30):
        draw = rng(2, "anywhere", str(index))
        vectors = np.sort(draw.permutation(len(texts.reading.text))[:200])
        shown = show(texts.reading, Latent(index, vectors, draw.random(200) + 0.1, 0.01), COUNTS, 0)
        truth = tuple(snippet.active for snippet in shown.score)
        found.append(Scored(truth, tuple(names(explain(shown.explain, shown.background, 5), shown.score, False))).balanced)
    assert abs(np.mean(found) - 0.5) < 0.06


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), n=st.integers(1, 80), fuzzing=st.booleans())
def test_no_snippet_overlaps_with_another(seed: int, n: int, fuzzing: bool) -> None:
    texts, draw = Texts(12, 30), rng(seed, "overlap")
    vectors = np.sort(draw.permutation(len(texts.reading.text))[:n])
    latent = Latent(7, vectors, draw.random(n) + 0.01, 0.01)
    shown = show(texts.reading, latent, COUNTS, seed, fuzzing)
    every = [*shown.explain, *shown.background, *shown.score]
    places = {(snippet.text, place) for snippet in every for place in range(snippet.first, snippet.first + len(snippet.pieces))}
    assert len(places) == sum(len(snippet.pieces) for snippet in every)
    assert all(snippet.active for snippet in shown.explain)
    assert not any(snippet.active for snippet in shown.background)
    for snippet in every:
        vector = snippet.text * 29 + np.arange(snippet.first, snippet.first + len(snippet.pieces)) - 1
        known = dict(zip(latent.vectors.tolist(), latent.values.tolist(), strict=True))
        assert snippet.values == tuple(known.get(int(one), 0.0) if snippet.first + place else 0.0 for place, one in enumerate(vector))
    again = show(texts.reading, latent, COUNTS, seed, fuzzing)
    assert again == shown


def test_texts_without_a_known_place_are_not_shown() -> None:
    texts = Texts(4, 30)
    reading = texts.reading
    hidden = Reading(reading.tokens, reading.decode, 1, np.where(reading.text == 2, -1, reading.text), np.where(np.arange(4) == 2, -1, reading.start))
    shown = show(hidden, Latent(0, np.arange(116), np.linspace(1, 2, 116), 0.0), COUNTS, 0)
    assert {snippet.text for snippet in (*shown.explain, *shown.score)} <= {0, 1, 3}


@pytest.mark.parametrize("text", ["The cat sat.", "naïve 漢字 🌧 rain", "a  b\n\nc"])
def test_pieces_together_are_the_text(make_tokenizer: Callable[..., Any], text: str) -> None:
    tokenizer = make_tokenizer(adds_bos=False)
    ids = tokenizer(text)["input_ids"]  # of bytes: letters of several tokens among them
    reading = Reading([ids], lambda some: tokenizer.decode(list(some)), 1, np.zeros(len(ids) - 1, dtype=np.int64), np.zeros(1, dtype=np.int64))
    snippet = reading.snippet(2, 100, Latent(0, np.array([2]), np.array([1.0]), 0.0))
    assert "".join(snippet.pieces) == text
    assert len(snippet.pieces) == len(ids)
    assert snippet.fires == tuple(place == 3 for place in range(len(ids)))


def test_marks_stand_around_what_fires() -> None:
    snippet = Snippet(0, 2, 0, ("The", " cat", " sat", ","), (0.0, 2.0, 0.0, 1.0), 0.5)
    assert (snippet.plain, snippet.shown, snippet.active) == ("The cat sat,", "The <<cat>> sat<<,>>", True)


@given(st.text(max_size=900), st.lists(st.text(max_size=60), min_size=1, max_size=25), st.data())
def test_no_text_costs_more_than_its_room(text: str, pieces: list[str], data: Any) -> None:
    assert cost(fits(text)) <= ROOM
    assert text.startswith(fits(text))
    at = data.draw(st.integers(0, len(pieces) - 1))
    clipped = Snippet(0, at, 0, tuple(pieces), (1.0,) * len(pieces), 0.0).clipped
    assert cost(clipped.shown) <= ROOM or len(clipped.pieces) == 1
    assert clipped.first <= at < clipped.first + len(clipped.pieces)


def test_a_lexical_explanation_names_what_is_in_one_kind_alone() -> None:
    def said(text: str, on: str = "") -> Snippet:
        pieces = tuple(f" {word}" for word in text.split())
        return Snippet(0, 0, 0, pieces, tuple(float(piece.strip() == on) for piece in pieces), 0.0)

    active = [said("the dogs ran", "dogs"), said("a dog slept", "dog"), said("my cat slept", "cat"), said("the cats ran", "cats")]
    others = [said("the man ran"), said("a boy slept"), said("my aunt ran")]
    found = explain(active, others, 5)
    assert set(found) == {"dog", "cat"}
    assert names(found, [said("one dog"), said("no man")], False) == [True, False]
    assert explain(active, active, 5) == ()
    assert lexical_module.stem("stories") == "stor" == lexical_module.stem("story")


# --------------------------------------------------------------------------------------------------------------------- replies


def reply(text: str, finish: str = "stop") -> ChatReply:
    return ChatReply(text, Usage(), "m", finish)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Active: 1, 3", [1, 3]), ("It fires on two.\n\n**Active:** 2 and 4.", [2, 4]), ("Active: none", []), ("none.", []), ("2, 3", [2, 3]),
        ("Active: [1, 2]", [1, 2]), ("Active: 1\nNo: \nActive: 4", [4]), ("<think>Active: 1</think>\nActive: 2", [2]), ("ACTIVE： 3", [3]),
    ],
)  # fmt: skip
def test_numbers_are_read(text: str, named: list[int]) -> None:
    assert read_numbers(reply(text), 4) == ([number in named for number in range(1, 5)], "")


@pytest.mark.parametrize(
    ("text", "finish"),
    [("", "stop"), ("I cannot say.", "stop"), ("Active: 5", "stop"), ("Active: 0", "stop"), ("Active: all but 2", "stop"), ("Active: 1, 2", "length"),
     ("Active: maybe 1", "stop"), ("1. yes\n2. no", "stop")],
)  # fmt: skip
def test_what_names_nothing_is_no_number(text: str, finish: str) -> None:
    found, reason = read_numbers(reply(text, finish), 4)
    assert found is None
    assert reason


def test_descriptions_are_read() -> None:
    assert read_explanation(reply('Explanation: "words for dogs"')) == ("words for dogs", "")
    assert read_explanation(reply("<think>hm</think>\n\nwords for dogs.")) == ("words for dogs.", "")
    assert read_explanation(reply(" \n"))[0] == read_explanation(reply("words", "length"))[0] == ""
    assert read_explanation(reply("I'm sorry, but I can't help with that."))[0] == ""
    assert read_explanation(reply("I, me and my as a subject"))[0] == "I, me and my as a subject"


# ------------------------------------------------------------------------------------------------------------- a model behind an API


def knows(body: Mapping[str, Any]) -> str:
    """A perfect explainer: says which word is marked, and names the excerpts with that word."""
    asked = body["messages"][-1]["content"]
    if "Reply with the description alone" in asked:
        word = max(set(found := re.findall(r"<<(\w+)>>", asked)), key=lambda word: (found.count(word), word))
        return f"Description: the word {word}"
    (word,) = re.findall(r"described so:\n\nthe word (\w+)", asked)
    listed = re.findall(r"^(\d+)\. (.*)$", asked, re.MULTILINE)
    named = [number for number, text in listed if word in text.split()]
    return f"Some have it.\nActive: {', '.join(named) or 'none'}"


@pytest.fixture
def server(api_servers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with api_servers.ApiServer(knows) as running:
        yield running


def by_api(server: Any, kind: str = "openai") -> dict[str, Any]:
    return {"explainer": kind, "model": "tiny", "base_url": server.url + ("/v1" if kind == "openai" else "")}


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_model_that_knows_scores_1_and_is_paid_once(bench: MetricBench, server: Any, kind: str) -> None:
    metric = Autointerp(AutointerpOptions(**SMALL, **by_api(server, kind)))
    subject = DictionarySubject("sae", bench.dictionaries["sae"])
    assert isinstance(metric, Priced)
    bound = metric.estimate(Work(measurements=1))
    found = metric.measure(bench, subject, 0)  # type: ignore[arg-type]
    assert (found.value, found.parts["accuracy"], found.parts["scored"]) == (1, 1, 1)
    assert found.details["examples"][0]["explanation"].startswith("the word ")
    assert found.details["explainer"] == f"{kind}/tiny"
    assert bound.calls == len(server.seen) == 36  # an explanation, its score, and another's for each of twelve
    sent = [explain_request("tiny", (), 300)]
    assert bound.input_tokens >= 36 * input_bound(sent[0])
    assert metric.usage.output == 36 * 5
    again = Autointerp(AutointerpOptions(**SMALL, **by_api(server, kind)))
    assert again.measure(bench, subject, 0) == found  # type: ignore[arg-type]
    assert (len(server.seen), again.hits, again.usage.input) == (36, 36, 0)


def test_no_request_costs_more_than_the_bound() -> None:
    snippets = longest(15)
    most = input_bound(explain_request("m", snippets, 300))
    wide = [Snippet(0, 10, 0, (" ünïcödé 漢字",) * 21, (1.0,) * 21, 0.0).clipped] * 15
    assert input_bound(explain_request("m", wide, 300), 3.0) <= input_bound(explain_request("m", snippets, 300), 3.0)
    assert input_bound(score_request("m", fits("é" * 400), wide, True, 300), 3.0) <= input_bound(
        score_request("m", "x" * ROOM, longest(15), True, 300), 3.0
    )
    assert most > 15 * ROOM / 3


def test_a_reply_that_says_nothing_leaves_its_latent_without_a_number(bench: MetricBench, server: Any) -> None:
    def answer(body: Mapping[str, Any]) -> str:
        asked = body["messages"][-1]["content"]
        return "I would rather not." if "so:\n\nthe word AN" in asked or "<<AS>>" in asked else knows(body)

    server.answer = answer
    found = measure(bench, **by_api(server), shuffled=False, asks=2)
    silent = {str(list(ENTITIES).index(word)) for word in ("AN", "AS")}
    assert {name for name, value in found.per_item.items() if value is None} == silent
    assert found.value == 1
    assert found.parts["shuffled"] is None
    assert found.details["n_unscored"] == 2
    bounds = found.details["value_if_unscored_are"]
    assert bounds["0"] < 1 == bounds["1"]


def test_a_server_that_refuses_all_ends_it(bench: MetricBench, server: Any, api_servers: Any) -> None:
    server.answer = lambda body: api_servers.Reply({"error": {"message": "no such key"}}, 401)
    with pytest.raises(OptionError) as refused:
        measure(bench, **by_api(server))
    assert "no such key" in str(refused.value)


def test_a_model_on_this_machine_that_says_nothing_gives_no_number(
    bench: MetricBench, tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked and read as any other; the tiny one goes on with a story."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    model = shutil.copytree(tiny_model_path, tmp_path / "model")
    (model / "chat_template.jinja").write_text("{% for message in messages %}{{ message['content'] }}{% endfor %}", encoding="utf-8")
    few = {"latents": 2, "explain_top": 1, "explain_weighted": 1, "score_top": 1, "score_weighted": 1, "score_random": 2, "max_tokens_reply": 16}
    found = measure(bench, **few, explainer="local", model=str(model), asks=1)
    assert found.value is None
    assert "cut off" in found.reason or "do not fit" in found.reason
    assert found.parts["scored"] == 0
    assert found.details["explainer"].startswith("local/")


def test_options_that_ask_nobody_are_refused() -> None:
    for wrong in ({"model": "gpt"}, {"base_url": "http://localhost:1/v1"}, {"explainer": "local", "base_url": "http://localhost:1/v1"}):
        with pytest.raises(OptionError):
            AutointerpOptions(**wrong)


# --------------------------------------------------------------------------------------------------------------- on the command line


@pytest.fixture
def run(harness: Callable[..., Any], server: Any, task: Path, tmp_path: Path) -> Callable[..., Any]:
    prices = tmp_path / "prices.toml"
    prices.write_text(f'["openai@{server.url.removeprefix("http://")}".models]\n"tiny" = {{ input = 100.0, output = 100.0 }}\n', encoding="utf-8")
    options = {**SMALL, **by_api(server)}

    def command(*more: str) -> Any:
        given = [part for name, value in options.items() for part in ("-M", f"{name}={value}")]
        env = {"HARNESS_PRICES": str(prices), "HARNESS_CACHE": str(tmp_path / "cache")}
        return harness("eval", "--task", task, "--metric", "autointerp", *given, "--out", tmp_path / "out", *more, env=env)

    return command


def test_what_it_may_cost_is_approved_before_and_noted_after(run: Callable[..., Any], server: Any) -> None:
    plan = " ".join(run("--dry-run").out.split())
    assert "metric autointerp: " in plan
    refused = run()
    assert "the metric autointerp may cost up to $" in refused.error
    assert not server.seen
    done = run("--yes", "--json")
    assert done.code == 0, done.err
    rows = {row["subject"]["arm"]: row for row in done.json["rows"]}
    assert rows["trained"]["metrics"]["autointerp"]["value"] == 1
    assert "random" in rows
    n = len(server.seen)
    again = run("--json")  # no --yes: nothing is left to be paid for
    assert again.code == 0, again.err
    assert again.json["rows"] == done.json["rows"]
    assert len(server.seen) == n
