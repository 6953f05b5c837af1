"""Costs: the price table, the user's over it, upper bounds, and that what is unknown is never 0."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.chat.cost import Estimate, Price, Prices, Tally, input_bound, is_local, load_prices
from harness.chat.values import ChatRequest, Message, Usage
from harness.errors import OptionError

SECTION = ("source", "characters_per_token", "schema_tokens", "models", "shutdown", "reasoning")


@pytest.fixture(autouse=True)
def _no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_PRICES", raising=False)


def request(text: str, model: str = "gpt-4o", max_tokens: int = 100) -> ChatRequest:
    return ChatRequest(model, (Message("user", text),), max_tokens=max_tokens)


def estimate(requests: Iterable[ChatRequest], provider: str, prices: Prices, batch: bool = False) -> Estimate:
    tally = Tally(provider, prices, batch)
    for one in requests:
        tally.add(one)
    return tally.estimate()


def test_the_shipped_table_is_dated_and_plausible() -> None:
    prices = load_prices()
    assert datetime.date.fromisoformat(prices.date) > datetime.date(2026, 1, 1)
    assert prices.price("openai", "gpt-4o") == Price(2.5, 10.0, 1.25)
    assert prices.batch == 0.5
    for price in prices.models.values():
        assert 0 < price.input < price.output
        assert price.cached_input is None or price.cached_input < price.input
    assert {provider for provider, _ in prices.models} == {"openai", "anthropic"}


def test_a_snapshot_costs_what_its_model_costs_unless_it_has_a_row() -> None:
    prices = load_prices()
    assert prices.price("openai", "gpt-4o-2024-08-06") == prices.price("openai", "gpt-4o")
    assert prices.price("openai", "gpt-4o-2024-05-13") == Price(5.0, 15.0)
    assert prices.price("anthropic", "claude-sonnet-4-5-20250929") == prices.price("anthropic", "claude-sonnet-4-5")


def test_another_server_has_no_price() -> None:
    prices = load_prices()
    assert prices.price("openai@openrouter.ai/api", "gpt-4o") is None
    assert prices.cost("openai@openrouter.ai/api", "gpt-4o", Usage(10, 0, 10)) is None


@pytest.mark.parametrize(
    ("server", "local"),
    [
        ("localhost:8000", True),
        ("127.0.0.1:11434", True),
        ("127.8.9.10", True),
        ("[::1]:8000", True),
        ("0.0.0.0:8000/path", True),
        ("10.1.2.3:8000", True),
        ("172.16.0.1", True),
        ("192.168.1.5:8000/some/v2", True),
        ("169.254.1.1", True),
        ("100.64.0.1", True),
        ("[fd00::1]:8000", True),
        ("[fe80::1]", True),
        ("[::ffff:127.0.0.1]", True),
        ("[::ffff:8.8.8.8]", False),
        ("gpu-box:8000", True),
        ("vllm", True),
        ("judge.local:8000", True),
        ("judge.internal", True),
        ("api.openai.com", False),
        ("openrouter.ai/api", False),
        ("172.32.0.1", False),
        ("8.8.8.8:8000", False),
        ("134744072", False),
        ("[2001:4860:4860::8888]", False),
        ("localhost.evil.org", False),
        ("10.0.0.1.evil.org", False),
        ("evil.org/localhost", False),
        ("", False),
        ("[::1", False),
    ],
)
def test_what_is_local_costs_nothing_unless_a_price_is_given(server: str, local: bool) -> None:
    name = f"openai@{server}"
    assert is_local(name) is local
    assert load_prices().price(name, "m") == (Price(0.0, 0.0) if local else None)
    priced = Prices("2026-10-16", {(name, "m"): Price(1.0, 2.0)})
    assert priced.price(name, "m") == Price(1.0, 2.0)
    found = estimate([request("a", "m")], name, load_prices())
    assert found.cost == (0.0 if local else None)
    assert ("at most $0.00 (a local server, free unless the price file says otherwise)" in str(found)) is local
    assert "prices of 2026-10-16" in str(estimate([request("a", "m")], name, priced))
    assert not is_local("openai"), "the API's own"


def test_the_section_that_would_give_a_price_is_toml_that_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, model = 'openai@host.example:8000/a "b"', "org/my-model.v1"
    found = estimate([request("a", model)], name, load_prices(tmp_path)) + estimate([request("b", "other")], name, load_prices(tmp_path))
    assert found.place == str(tmp_path / "prices.toml")
    assert (len(found.sections), (found + found).sections) == (2, found.sections)
    (tmp_path / "prices.toml").write_text(found.sections[0].replace("0.00", "3.50"), encoding="utf-8")
    assert load_prices(tmp_path).price(name, model) == Price(3.5, 3.5)
    monkeypatch.setenv("HARNESS_PRICES", str(tmp_path / "prices.toml"))
    assert estimate([request("a", "new")], name, load_prices()).place == str(tmp_path / "prices.toml")
    assert found.times(3).sections == found.sections


def test_the_cost_of_real_usage() -> None:
    prices = load_prices()
    usage = Usage(input=1_000_000, cached_input=400_000, output=100_000)
    assert prices.cost("openai", "gpt-4o", usage) == pytest.approx(0.6 * 2.5 + 0.4 * 1.25 + 0.1 * 10)
    assert prices.cost("openai", "gpt-4o", usage, batch=True) == pytest.approx((0.6 * 2.5 + 0.4 * 1.25 + 0.1 * 10) / 2)
    assert Price(2.0, 4.0).of(Usage(1_000_000, 500_000, 0)) == pytest.approx(2.0)


def test_the_users_files_go_over_the_shipped_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices.toml").write_text('[openai.models]\n"gpt-4o" = { input = 1.0, output = 2.0 }\n')
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[openai.models]\n"gpt-4o" = { input = 3.0, output = 4 }\n["openai@gpu:8000".models]\nllama = { input = 0, output = 0 }\n'
    )
    assert load_prices(tmp_path / "absent").price("openai", "gpt-4o") == Price(2.5, 10.0, 1.25)
    assert load_prices(tmp_path).price("openai", "gpt-4o") == Price(1.0, 2.0)
    monkeypatch.setenv("HARNESS_PRICES", str(mine))
    prices = load_prices(tmp_path)
    assert prices.price("openai", "gpt-4o") == Price(3.0, 4.0)
    assert prices.price("openai", "gpt-4o-mini") == Price(0.15, 0.6, 0.075)
    assert prices.cost("openai@gpu:8000", "llama", Usage(5, 0, 5)) == 0.0
    assert str(mine) in prices.source
    assert prices.batch == 0.5


ROW = "{ input = …, output = … } and, where there is one, cached_input"


@pytest.mark.parametrize(
    ("text", "given", "allowed", "place"),
    [
        (None, "PATH", None, "there is no price file"),
        ("[openai", "PATH", None, "line 1"),
        ('[openai.models]\n"m" = { input = -1, output = 2 }', -1, "a number of at least 0", "[openai.models] m input"),
        ('[openai.models]\n"m" = { input = "1", output = 2 }', "1", "a number of at least 0", "[openai.models] m input"),
        ('[openai.models]\n"m" = { input = nan, output = 2 }', math.nan, "a number of at least 0", "[openai.models] m input"),
        ('[openai.models]\n"m" = { input = 1 }', {"input": 1}, ROW, "[openai.models] m"),
        ('[openai.models]\n"m" = { input = 1, output = 2, cache = 3 }', {"input": 1, "output": 2, "cache": 3}, ROW, "[openai.models] m"),
        ('[openai]\n"m" = { input = 1, output = 2 }', "m", SECTION, "[openai] m"),
        ("[openai]\ncharacters_per_token = 0", 0, "a number above 0", "[openai] characters_per_token"),
        ("currency = 'EUR'", "currency", ("date", "batch", "one table a provider"), "'currency'"),
    ],
)
def test_a_bad_price_file_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, given: object, allowed: object, place: str
) -> None:
    path = tmp_path / "prices.toml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("HARNESS_PRICES", str(path))
    with pytest.raises(OptionError) as caught:
        load_prices()
    assert repr(caught.value.given) == repr(path if given == "PATH" else given)
    assert caught.value.allowed == allowed
    assert bool(allowed) != bool(caught.value.hint), "either says what to do"
    assert text is not None or "HARNESS_PRICES" in caught.value.hint
    assert place in caught.value.message
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_estimate_counts_what_will_be_sent() -> None:
    prices = load_prices()
    requests = [request("a"), request("c")]
    found = estimate(requests, "openai", prices)
    assert (found.calls, found.output_tokens) == (2, 200)
    assert found.cost == pytest.approx((found.input_tokens * 2.5 + 200 * 10) / 1e6)
    assert estimate(requests, "openai", prices, batch=True).cost == pytest.approx(found.cost / 2)
    tally = Tally("openai", prices)
    tally.add(request("a"), times=3)
    found, one = tally.estimate(cached=5), estimate([request("a")], "openai", prices)
    assert (found.calls, found.input_tokens, found.output_tokens, found.cached) == (3, 3 * one.input_tokens, 300, 5)
    assert found.cost == pytest.approx(3 * one.cost)


def test_what_an_api_adds_to_a_schema_is_in_the_bound() -> None:
    """Anthropic's pricing page states up to 346 tokens for a forced tool call, beside the tool's own schema."""
    prices, asked = load_prices(), replace(request("a", "claude-haiku-4-5"), schema={"type": "object"})
    for provider, extra in (("anthropic", 400), ("anthropic@gateway", 400), ("openai", 0)):
        ratio = prices.characters_per_token.get(provider, 2.5)
        assert estimate([asked], provider, prices).input_tokens == input_bound(asked, ratio) + extra
        assert estimate([replace(asked, schema=None)], provider, prices).input_tokens == input_bound(replace(asked, schema=None), ratio)


def test_repeats_are_shown_beside_what_is_likely() -> None:
    prices = Prices("2026-10-16", {("openai", "gpt-4o"): Price(2.5, 10.0)})
    once, again = estimate([request("a")], "openai", prices), estimate([request("a again"), request("a again")], "openai", prices)
    both = replace(once, repeats=again)
    assert (both.most.calls, both.most.output_tokens, both.most.repeats) == (3, 300, None)
    assert both.most.cost == pytest.approx(once.cost + again.cost)
    assert once.most == once
    many = (both + once + both).times(1000)
    assert (many.calls, many.most.calls) == (3000, 7000)
    assert str(both.times(20_000)).startswith("20,000 calls, at most ")
    assert f"at most ${once.cost * 20_000:,.2f}; with repeats of unreadable replies at most 60,000 calls and $" in str(both.times(20_000))
    unknown = replace(estimate([request("a", "mine")], "openai", prices), repeats=estimate([request("b", "mine")], "openai", prices))
    assert (unknown.most.cost, unknown.most.unpriced) == (None, ("openai/mine",))
    assert "at most 2 calls; cost unknown: no price for openai/mine" in str(unknown)


def test_an_unknown_price_is_said_and_is_no_zero() -> None:
    found = estimate([request("a"), request("a", model="my-model")], "openai", load_prices())
    assert found.cost is None
    assert found.unpriced == ("openai/my-model",)
    assert "cost unknown: no price for openai/my-model" in str(found)
    assert (found + Estimate(cost=1.0)).cost is None
    assert estimate([], "openai", load_prices()).cost == 0


def test_an_estimate_is_shown_in_one_line() -> None:
    one = estimate([request("x" * 300)], "openai", Prices("2026-10-16", {("openai", "gpt-4o"): Price(2.5, 10.0)}))
    many = one.times(15_000)
    assert many.calls == 15_000
    assert many.cost == pytest.approx(one.cost * 15_000)
    assert str(many).startswith("15,000 calls, at most ")
    assert "(prices of 2026-10-16)" in str(many)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5), st.integers(0, 50))
def test_estimates_add_up(sizes: list[int], n: int) -> None:
    prices = load_prices()
    requests = [request("y" * size + str(i)) for i, size in enumerate(sizes)]
    parts = sum((estimate([one], "openai", prices) for one in requests), Estimate())
    together = estimate(requests, "openai", prices)
    assert (parts.calls, parts.input_tokens, parts.output_tokens) == (together.calls, together.input_tokens, together.output_tokens)
    assert parts.cost == pytest.approx(together.cost)
    assert together.times(n).input_tokens == together.input_tokens * n


@given(st.text(max_size=200), st.text(max_size=200))
def test_the_bound_grows_with_the_text_and_holds_for_foreign_scripts(first: str, second: str) -> None:
    assert input_bound(request(first + second)) >= input_bound(request(first))
    assert input_bound(request("漢字" + first)) >= 6 + input_bound(request(first)) - 1


def test_the_bound_leaves_room_on_real_prose(shared_data: Path) -> None:
    """English prose takes about 1.3 tokens a word with the tokenizers of today's APIs, punctuation included."""
    replies = json.loads((shared_data / "judge_completions" / "layer20" / "fluency.json").read_text())
    texts = [text for row in list(replies.values())[:200] for text in row["responses"]]
    words = sum(len(text.split()) for text in texts)
    bound = sum(input_bound(request(text), 3.0) for text in texts)
    assert 1.4 * words < bound < 3 * words
