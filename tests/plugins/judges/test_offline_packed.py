"""Rows without padding, whose common beginnings are read once: the log-probabilities of each row read alone, for every kind of model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from harness_plugins.judges.offline import OfflineJudge
from harness_plugins.judges.offline.batches import padded_width
from harness_plugins.judges.offline.packed import TOLERANCE, Packed, Padded, Row, can_pack, pack, scorer
from helpers.families import FAMILIES, family
from helpers.models import ARCHITECTURES, byte_tokenizer, random_hf
from helpers.offline_judge import CITY, OFF_TOPIC, ON_TOPIC
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.loading import SubjectModel

ROWS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=30), max_size=30)


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(8, 64))
def test_each_row_stands_in_one_pass_with_its_own_tokens(rows: Sequence[list[int]], budget: int) -> None:
    seen: list[int] = []
    for indices, parts in pack(rows, budget):
        held: dict[int, tuple[int, list[int], int]] = {}  # of each place: how many tokens stand before it, which, and in what width
        for index, part in zip(indices, parts, strict=True):
            assert list(part.ids) == rows[index][: max(1, len(rows[index]) - 1)]
            assert part.width == padded_width(len(rows[index]))
            for place, token in enumerate(part.places.tolist()):
                expected = (place, list(part.ids[: place + 1]), part.width)
                assert held.setdefault(token, expected) == expected
        assert sorted(held) == list(range(len(held)))
        assert len(held) <= budget or len(parts) == 1
        seen += indices
    assert sorted(seen) == list(range(len(rows)))


def test_what_rows_begin_with_is_read_once() -> None:
    common = list(range(20))
    rows = [[*common, 90 + i, 95] for i in range(8)]
    ((indices, parts),) = pack(rows, 64)
    assert sorted(indices) == list(range(8))
    assert sum(len(part.ids) - part.shared for part in parts) == 20 + 8


def rows_of(model: SubjectModel) -> list[Row]:
    ids = [[int(token) for token in np.random.Generator(np.random.PCG64(i)).integers(5, model.vocab_size, 24)] for i in range(4)]
    rows = [ids[0] + ids[1], ids[0] + ids[2], ids[0][:9] + ids[3], ids[2], ids[0]]
    return [Row(row, ((1, 4), (len(row) - 5, len(row)))) for row in rows]


def alone(model: SubjectModel, row: Row) -> list[np.ndarray]:
    with torch.no_grad():
        logits = model.hf(torch.tensor([row.ids])).logits[0].float().log_softmax(-1)
    return [logits[range(a - 1, b - 1), row.ids[a:b]].numpy() for a, b in row.spans]


PACKED = ("llama", "mixtral", "qwen2", "qwen3", "gpt2", "gpt_neox", "gptj", "phi", "olmo2")
MANY = ("lfm2", "falcon_h1", "zamba2", "mamba", "phi3", "gpt_neo", "llama4", "alibi", *ARCHITECTURES)


@pytest.mark.parametrize("name", MANY)
def test_rows_get_the_log_probabilities_that_each_has_alone(name: str) -> None:
    model = family(name) if name in FAMILIES else SubjectModel(random_hf(name), byte_tokenizer(), name=name)
    rows = rows_of(model)
    way = scorer(model, 64, rows)
    assert isinstance(way, Packed) or name not in PACKED
    for row, found in zip(rows, way.score(rows), strict=True):
        for span, expected in zip(found, alone(model, row), strict=True):
            np.testing.assert_allclose(span, expected, atol=2e-4)


def test_a_llama_is_packed_and_its_attention_is_put_back(tiny: SubjectModel) -> None:
    rows = rows_of(tiny)
    way = scorer(tiny, 64, rows)
    assert isinstance(way, Packed)
    assert tiny.hf.config._attn_implementation == "sdpa"
    for found, expected in zip(way.score(rows), Padded(tiny, 64).score(rows), strict=True):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    tiny.hf.set_attn_implementation("eager")
    assert not can_pack(tiny)
    assert isinstance(scorer(tiny, 64, rows), Padded)


def test_a_model_that_is_not_read_rightly_so_is_padded(tiny: SubjectModel) -> None:
    # looks at the token before, whoever's it is
    tiny.layers[0].register_forward_pre_hook(lambda module, args: (args[0] + args[0].roll(1, dims=1), *args[1:]))
    assert isinstance(scorer(tiny, 64, rows_of(tiny)), Padded)


def test_packed_is_padded_to_the_last_bit(judge: OfflineJudge) -> None:
    model = judge.instruments().meter._model
    texts = [model.encode(text) for text in (ON_TOPIC, ON_TOPIC[:60] + OFF_TOPIC, OFF_TOPIC, CITY)]
    rows = [Row(ids, ((1, len(ids)),)) for ids in texts]
    found = scorer(model, 64, rows).score(rows)  # where bfloat16 does not round alike, padded itself
    for (one,), (other,) in zip(found, Padded(model, 64).score(rows), strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE)
