"""``NAME[:option=value,…]``: what is written is what is read, and what does not follow the grammar is refused with the way on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import OptionError
from harness.plugin.grammar import PluginRequest, format_request, parse_request, parse_steerer


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("caa", "caa", {}),
        (" caa : unit_norm = false ", "caa", {"unit_norm": "false"}),
        ("words:terms=[\"a, b\",\"c\"],pi0=0.5", "words", {"terms": ["a, b", "c"], "pi0": "0.5"}),
        ("words:terms=[[1,2],[3]] ,x=", "words", {"terms": [[1, 2], [3]], "x": ""}),
        ('file:path="a,b+c.csv"', "file", {"path": "a,b+c.csv"}),
        ("openai:base_url=http://localhost:80/v1?a=b,model=m", "openai", {"base_url": "http://localhost:80/v1?a=b", "model": "m"}),
        ('x:o={"a": [1, null], "b": "}"},y=1', "x", {"o": {"a": [1, None], "b": "}"}, "y": "1"}),
    ],
)
def test_what_is_asked_for_is_read(text: str, name: str, options: dict[str, Any]) -> None:
    assert parse_request(text) == PluginRequest(name, options)


@pytest.mark.parametrize(
    ("text", "why", "way_on"),
    [
        ("", "not a plugin's name", "harness plugins"),
        (":a=1", "not a plugin's name", "harness plugins"),
        ("caa,sae-add", "not a plugin's name", "repeat the option"),
        ("unit_norm=false", "not a plugin's name", "harness plugins"),
        ("a/b", "not a plugin's name", "harness plugins"),
        ("a b", "not a plugin's name", "harness plugins"),
        ("caa+sae-add:x=1", "only steerers are joined by +", "by itself"),
        ("caa:x=1+sae-add", "has a +, which joins", "as JSON"),
        ("caa:", "no option stands behind the colon", "caa:option=value"),
        ("caa:unit_norm", "'unit_norm' is not option=value", "as JSON"),
        ("caa:terms=a,b", "'b' is not option=value", "as JSON"),
        ("caa:a=1,", "an option is missing", "as JSON"),
        ("caa:a=1,,b=2", "an option is missing", "as JSON"),
        ("caa:=1", "'' is not an option's name", "as JSON"),
        ("caa:a=1,a=2", "a is given twice", "one of the two"),
        ('caa:a=["b"', "is not JSON", '["a","b"]'),
        ("caa:a=[NaN]", "is not JSON", '["a","b"]'),
        ("caa:a=" + "[" * 50_000, "is not JSON", '["a","b"]'),
        ('caa:a=["b"]c,d=1', "'c,d=1' stands behind", "comma"),
    ],
)
def test_what_does_not_follow_the_grammar_is_refused(text: str, why: str, way_on: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_request(text, "--steerer")
    assert error.value.given == text
    assert error.value.message.startswith("--steerer was given")
    assert why in error.value.message
    assert way_on in error.value.hint
    assert error.value.allowed == "NAME or NAME:option=value,…"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("caa", [("caa", {})]),
        ("prompt+sae-clamp", [("prompt", {}), ("sae-clamp", {})]),
        (" prompt : x = 1 , y=2 + caa+prompt ", [("prompt", {"x": "1", "y": "2"}), ("caa", {}), ("prompt", {})]),
        ('prompt:x="a + {c}, b"+caa:x=["+"] + b:y=1', [("prompt", {"x": "a + {c}, b"}), ("caa", {"x": ["+"]}), ("b", {"y": "1"})]),
        ("caa:x=1e5+b", [("caa", {"x": "1e5"}), ("b", {})]),
    ],
)  # fmt: skip
def test_steerers_are_joined_in_order(text: str, parts: list[tuple[str, dict[str, Any]]]) -> None:
    found = parse_steerer(text)
    assert [(part.name, part.options) for part in found.each] == parts
    assert found.name == "+".join(name for name, _ in parts)
    assert found.plain == (not any(options for _, options in parts))


@pytest.mark.parametrize(
    ("text", "why", "way_on"),
    [
        ("+", "missing beside a +", "as JSON"),
        ("prompt+", "missing beside a +", "as JSON"),
        ("+prompt", "missing beside a +", "as JSON"),
        ("prompt++caa", "missing beside a +", "as JSON"),
        ("prompt+:x=1", "missing beside a +", "as JSON"),
        ("prompt+a b", "'a b' is not a plugin's name", "harness plugins"),
        ("prompt:+caa", "no option stands behind the colon", "prompt:option=value"),
        ("caa:x=1,+b", "an option is missing beside a +", "as JSON"),
        ("caa:x+b:y=1", "'x' is not option=value", "as JSON"),
        ("caa:x=+1", "a value is missing before a +", "as JSON"),
        ("caa:scale=1.5e+3", "the number that begins with '1.5e' has a +", "1e5"),
        ('caa:x="a"b+c', "'b+c' stands behind", "comma"),
        ("prompt+caa:a=1,a=2", "a is given twice", "one of the two"),
    ],
)
def test_what_joins_nothing_is_refused(text: str, why: str, way_on: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_steerer(text, "--steerer")
    assert error.value.given == text
    assert why in error.value.message
    assert way_on in error.value.hint
    assert "with + between" in str(error.value.allowed)


names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)
options = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
scalars = st.text(max_size=12) | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False) | st.none()
values = scalars | st.lists(st.text(max_size=6) | st.floats(allow_nan=False, allow_infinity=False), max_size=3)


@settings(deadline=None)
@given(names, st.dictionaries(options, values, max_size=4))
def test_what_is_written_is_what_is_read(name: str, given_options: dict[str, Any]) -> None:
    found = parse_request(format_request(name, given_options))
    assert found.name == name
    assert list(found.options) == list(given_options)
    for option, value in given_options.items():
        read = found.options[option]
        if isinstance(value, str | list):
            assert read == value
        elif value is None:
            assert read == "none"
        else:  # text, which the option's type reads
            assert isinstance(read, str)
            assert type(value)(read == "true" if isinstance(value, bool) else read) == value


@settings(deadline=None)
@given(st.lists(st.tuples(names, st.dictionaries(options, values, max_size=3)), min_size=1, max_size=4))
def test_joined_requests_are_read_part_by_part(parts: list[tuple[str, dict[str, Any]]]) -> None:
    texts = [format_request(name, given_options) for name, given_options in parts]
    assert list(parse_steerer("+".join(texts)).each) == [parse_request(text) for text in texts]
