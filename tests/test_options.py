"""Options: one definition, from which command line, task file, help and entries are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, FilePath, field_validator

from harness.errors import OptionError, UnknownNameError
from harness.files.version import DISTRIBUTION
from harness.options import (
    Options,
    as_json,
    build,
    describe,
    filter_field,
    filter_names,
    input_field,
    input_names,
    join_options,
    parse_assignment,
    split_options,
    transport_field,
)
from harness.plugin.host import PluginHost
from harness.plugin.registry import KINDS
from harness.testing import check_options


class Example(Options):
    """Options of an example."""

    share: float = Field(0.5, gt=0, lt=1)
    """A share."""
    count: int = Field(3, ge=1, le=9)
    """A count."""
    grid: tuple[float, ...] = (0.1, 0.2)
    """Numbers."""
    unit: Literal["max-activation", "residual-norm"] = "max-activation"
    """A unit."""
    mode: Literal["1", "2"] | None = None
    """A mode that looks like a number."""
    level: Literal[1, 2] = 1
    """A level that is a number."""
    name: str | None = "x"
    """A name, or none."""
    path: Path = Path("a")
    """A path."""
    table: dict[str, int] = Field(default_factory=dict)
    """Numbers by name."""
    on: bool = False
    """A switch."""
    least: float | None = filter_field(None, ge=-1, le=1)
    """A filter."""

    @field_validator("grid")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(value):
            raise ValueError("the grid must ascend")
        return value


class Needy(Options):
    """Options without a default."""

    model: str
    """A model that must be named."""


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("share", "0.25", 0.25),
        ("share", "1e-3", 1e-3),
        ("count", "7", 7),
        ("grid", "0.1,0.3", (0.1, 0.3)),
        ("grid", "[0.1, 0.3]", (0.1, 0.3)),
        ("grid", "0.4", (0.4,)),
        ("unit", "residual-norm", "residual-norm"),
        ("mode", "2", "2"),
        ("mode", "none", None),
        ("level", "2", 2),
        ("name", "none", None),
        ("name", "5", "5"),
        ("path", "5", Path("5")),
        ("table", '{"a": 1}', {"a": 1}),
        ("on", "true", True),
        ("on", "no", False),
        ("least", "null", None),
        ("least", "-0.5", -0.5),
    ],
)
def test_text_of_the_command_line_becomes_the_fields_type(name: str, text: str, value: Any) -> None:
    assert getattr(build(Example, {name: text}, "test"), name) == value


def test_typed_values_of_a_task_file_are_taken_as_they_are() -> None:
    built = build(Example, {"share": 0.1, "grid": [0.2, 0.4], "name": None}, "test")
    assert (built.share, built.grid, built.name) == (0.1, (0.2, 0.4), None)


def test_an_unknown_option_names_the_nearest_and_all() -> None:
    with pytest.raises(UnknownNameError) as error:
        build(Example, {"shar": "1"}, "labeler x")
    assert (error.value.kind, error.value.given, error.value.near) == ("option of labeler x", "shar", "share")
    assert set(error.value.known) == set(Example.model_fields)


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("share", "1", ["number", "> 0, < 1", "default 0.5"]),
        ("count", "10", ["≥ 1, ≤ 9", "whole number"]),
        ("count", "2.5", ["whole number"]),
        ("unit", "metre", ["max-activation | residual-norm"]),
        ("least", "nan", ["≥ -1, ≤ 1"]),
        ("grid", "0.3,0.1", ["list of number"]),
        ("on", "perhaps", ["true | false"]),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(name: str, text: str, named: list[str]) -> None:
    with pytest.raises(OptionError) as error:
        build(Example, {name: text}, "labeler x")
    assert error.value.given == text
    assert "\n" not in str(error.value)
    assert f"option {name} of labeler x is {text!r}" in error.value.message
    assert [part for part in named if part not in str(error.value.allowed)] == []


def test_what_a_validator_of_the_options_says_is_in_the_line() -> None:
    with pytest.raises(OptionError) as error:
        build(Example, {"grid": "0.3,0.1"}, "labeler x")
    assert "ascend" in error.value.message


def test_a_required_option_says_that_it_is() -> None:
    with pytest.raises(OptionError) as error:
        build(Needy, {}, "judge y")
    assert (error.value.given, error.value.allowed) == (None, "text")
    assert "option model of judge y" in error.value.message
    assert describe(Needy)[0]["required"]
    assert build(Needy, {"model": "m"}, "judge y").model == "m"


def test_describe_gives_what_help_and_docs_show() -> None:
    rows = {row["name"]: row for row in describe(Example)}
    assert list(rows) == list(Example.model_fields)
    assert rows["share"] == {
        "name": "share", "type": "number", "default": 0.5, "required": False, "bounds": "> 0, < 1", "description": "A share."
    }  # fmt: skip
    assert rows["grid"]["type"] == "list of number"
    assert rows["mode"]["type"] == "1 | 2 | none"
    assert rows["least"]["bounds"] == "≥ -1, ≤ 1"


def test_options_are_frozen_and_json() -> None:
    built = build(Example, {}, "test")
    with pytest.raises(ValueError, match="share"):
        built.share = 0.1  # type: ignore[misc]
    assert as_json(built)["grid"] == [0.1, 0.2]


@given(
    share=st.floats(0.001, 0.999),
    count=st.integers(1, 9),
    grid=st.lists(st.floats(0, 1, width=32), max_size=4).map(sorted).map(tuple),
    name=st.none() | st.text("abz09é-", min_size=1),
)
def test_what_the_command_line_says_comes_back_from_json(share: float, count: int, grid: tuple[float, ...], name: str | None) -> None:
    text = {"share": repr(share), "count": str(count), "grid": ",".join(map(repr, grid)), "name": "none" if name is None else name}
    built = build(Example, text, "test")
    assert (built.share, built.count, built.grid, built.name) == (share, count, grid, name)
    assert build(Example, as_json(built), "test") == built


@pytest.mark.parametrize("text", ["pi0", "=1", " = 2"])
def test_an_assignment_needs_a_name_and_an_equals_sign(text: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_assignment(text, "-L")
    assert (error.value.given, error.value.allowed) == (text, "name=value")
    assert "-L " in error.value.hint


def test_an_assignment_keeps_what_follows_the_first_equals_sign() -> None:
    assert parse_assignment("template=a=b", "-S") == ("template", "a=b")


def test_filters_are_marked() -> None:
    assert filter_names(Example) == ("least",)


def test_every_option_of_every_plugin_installed_here_is_documented() -> None:
    host = PluginHost.load()
    found = [plugin for kind in KINDS for plugin in host.all(kind).values() if plugin.distribution == DISTRIBUTION]
    assert {"calibf1", "random", "sae-clamp", "sae-add", "diff-mean", "prompt", "none"} <= {plugin.name for plugin in found}
    for plugin in found:
        check_options(plugin.options)
        for row in describe(plugin.options):
            numeric = row["type"].removesuffix(" | none") in ("number", "whole number")
            assert row["bounds"] or not numeric, f"{plugin.name}: {row['name']} is a number without bounds"


def test_every_option_that_holds_a_path_names_an_input() -> None:
    class Inner(BaseModel):
        at: Path

    class Paths(Options):
        one: Path
        """A path."""
        maybe: Optional[Path] = None  # noqa: UP045 (the older way to write it)
        """A path or none."""
        several: list[Path] = Field(default_factory=list)
        """Paths."""
        fixed: tuple[str, Path] | None = None
        """A text and a path."""
        named: dict[str, FilePath] = Field(default_factory=dict)
        """Paths by name."""
        inside: Inner | None = None
        """A model with a path."""
        text: str = input_field("x")
        """Text that may name a file."""
        cache: Path | None = transport_field(None)
        """A path that changes no result."""
        number: int = 1
        """No path."""

    assert input_names(Paths) == ("one", "maybe", "several", "fixed", "named", "inside", "text")


@pytest.mark.parametrize("value", ["true", "false", True, "01_0", "1_0", "1_0.5"])
@pytest.mark.parametrize("name", ["count", "share"])
def test_what_python_takes_for_a_number_is_none(name: str, value: Any) -> None:
    with pytest.raises(OptionError) as error:
        build(Example, {name: value}, "labeler example")
    assert error.value.given == value


def test_options_of_joined_plugins_are_told_apart_by_their_place() -> None:
    parts: list[tuple[str, dict[str, Any]]] = [("prompt", {"template": "a:b"}), ("caa", {"x": 1, "y": None}), ("caa", {"x": 2}), ("caa", {})]
    joined = join_options(parts)
    assert joined == {"prompt:template": "a:b", "caa:x": 1, "caa:y": None, "caa#2:x": 2}
    assert split_options("prompt+caa+caa+caa", joined) == parts
    assert split_options("caa", {"x": 1}) == [("caa", {"x": 1})]
    assert split_options("caa+prompt", {"other:x": 1, "plain": 2}) == [("caa", {}), ("prompt", {})]  # of an entry that somebody else wrote
