"""Sites, positions and the context of edits: which tokens are touched, against a definition that looks at one token at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.reference import touches
from harness.interventions import EditContext, ExactEdit, Positions, Site
from harness.steering.add_vector import AddVector

positions = st.builds(
    Positions,
    prompt=st.booleans(),
    generated=st.booleans(),
    first_token=st.booleans(),
    first=st.integers(0, 6),
    last=st.integers(0, 6),
)
rows = st.lists(st.tuples(st.integers(1, 7), st.integers(0, 5)), min_size=1, max_size=4)
"""Tokens of the prompt and of the text of each row."""


def batch(lengths: list[tuple[int, int]], left: bool) -> tuple[EditContext, list[list[int | None]]]:
    """The context of rows, and of each cell the token's place in its row, None for padding.

    Padded on the left, prompts end at one column and all rows have as many generated tokens as the shortest; on the right, rows are what they are.
    """
    if left:
        new = min(generated for _, generated in lengths)
        lengths = [(prompt, new) for prompt, _ in lengths]
    width = max(prompt + generated for prompt, generated in lengths)
    places: list[list[int | None]] = []
    for prompt, generated in lengths:
        padding: list[int | None] = [None] * (width - prompt - generated)
        own = list(range(prompt + generated))
        places.append([*padding, *own] if left else [*own, *padding])
    real = torch.tensor([[place is not None for place in row] for row in places])
    made = torch.tensor([[place is not None and place >= prompt for place in row] for row, (prompt, _) in zip(places, lengths, strict=True)])
    return EditContext.of(real, made), places


@given(lengths=rows, where=positions, left=st.booleans())
def test_what_is_touched_is_what_the_fields_say(lengths: list[tuple[int, int]], where: Positions, left: bool) -> None:
    context, places = batch(lengths, left)
    touched = context.touched(where)
    for row, ((n_prompt, _), cells) in enumerate(zip(lengths, places, strict=True)):
        expected = [place is not None and touches(where, place, n_prompt) for place in cells]
        assert touched[row].tolist() == expected


@given(lengths=rows, where=positions, width=st.integers(1, 12))
def test_a_step_sees_what_the_whole_sees(lengths: list[tuple[int, int]], where: Positions, width: int) -> None:
    """The context of the last columns is that of the whole, cut: a cached step touches what a whole pass would."""
    context, places = batch(lengths, left=True)
    width = min(width, len(places[0]))
    assert torch.equal(context.last(width).touched(where), context.touched(where)[:, -width:])
    index = torch.tensor([len(lengths) - 1, 0])
    assert torch.equal(context.rows(index).touched(where), context.touched(where)[index])


@given(where=positions, n_prompt=st.integers(1, 9))
def test_positions_in_the_prompt_are_known_without_looking(where: Positions, n_prompt: int) -> None:
    """``in_prompt`` lets an engine leave a hook out, so it must be true wherever a token of a prompt is touched."""
    assert where.in_prompt or not any(touches(where, place, n_prompt) for place in range(n_prompt))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Positions(), "PPPPGG"),
        (Positions(prompt=False), "....GG"),
        (Positions(generated=False), "PPPP.."),
        (Positions(first_token=False), ".PPPGG"),
        (Positions(prompt=False, generated=False, first=2), "PP...."),
        (Positions(prompt=False, generated=False, last=1), "...P.."),
        (Positions(prompt=False, first=1, last=2), "P.PPGG"),
        (Positions(prompt=False, generated=False, first=2, first_token=False), ".P...."),
        (Positions(prompt=False, generated=False, first=9), "PPPP.."),
        (Positions(prompt=False, generated=False, last=9, first_token=False), ".PPP.."),
        (Positions(prompt=False, generated=False), "......"),
    ],
)
def test_positions_by_hand(where: Positions, expected: str) -> None:
    """Four tokens of a prompt, two generated; the same behind padding."""
    real = torch.tensor([[False, False, *[True] * 6]])
    generated = torch.tensor([[False] * 6 + [True] * 2])
    touched = EditContext.of(real, generated).touched(where)[0].tolist()
    assert touched == [False, False, *(letter != "." for letter in expected)]
    assert [touches(where, place, 4) for place in range(6)] == touched[2:]


def test_positions_count_from_0_up() -> None:
    for wrong in ({"first": -1}, {"last": -2}):
        with pytest.raises(ValueError, match="count tokens from 0 up"):
            Positions(**wrong)


def test_sites_say_what_they_are() -> None:
    assert [str(Site(3)), str(Site(3, "attention")), str(Site(0, "mlp"))] == ["layer 3", "layer 3 attention", "layer 0 mlp"]
    assert Site(3) != Site(3, "mlp")


def test_an_edit_with_a_definition_is_known_by_it() -> None:
    edit = AddVector(Site(1), torch.ones(2))
    assert isinstance(edit, ExactEdit)
    assert edit.exact(torch.zeros(3, 2)).dtype == torch.float64
    assert not isinstance(object(), ExactEdit)
