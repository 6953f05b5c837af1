"""The sampler: exact probabilities by chi-square, the nucleus by brute force, the repetition penalty against transformers' own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from helpers.generation import generate
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from torch import Tensor

from harness.engine.base import GenerationRequest
from harness.engine.sampling import choose, penalise
from harness.model.loading import SubjectModel
from harness.types import Decoding, rng

# tenths: two logits are equal, or their probabilities tell them apart
logits_rows = st.lists(st.integers(-120, 120).map(lambda tenths: tenths / 10), min_size=1, max_size=40)


def chi_square_p(counts: Sequence[int], probabilities: Sequence[float]) -> float:
    """The p-value of counts under the probabilities; neighbours are put together until a cell expects 10."""
    observed, expected, n = [0.0], [0.0], sum(counts)
    for count, p in zip(counts, probabilities, strict=True):
        if expected[-1] >= 10:
            observed.append(0.0)
            expected.append(0.0)
        observed[-1] += count
        expected[-1] += n * p
    assert len(expected) >= 2, "too few cells to say anything"
    return float(chisquare(observed, expected).pvalue)


def brute_force(logits: Sequence[float], temperature: float, top_p: float) -> tuple[list[int], np.ndarray]:
    """The nucleus, most probable token first, and each one's probability in it; float64, straight from the definition."""
    scaled = np.array(logits, dtype=np.float64) / temperature
    p = np.exp(scaled - scaled.max())
    p /= p.sum()
    order = sorted(range(len(p)), key=lambda i: -p[i])
    kept, mass = [], 0.0
    for i in order:
        kept.append(i)
        mass += p[i]
        if mass >= top_p:
            break
    return kept, p[kept] / p[kept].sum()


# ---------------------------------------------------------------------------------------------------------------------- choosing


@pytest.mark.parametrize(("vocabulary", "spread"), [(7, 1.0), (300, 1.0), (300, 4.0), (5000, 0.1)])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.7), (1.4, 0.95)])
def test_draws_have_the_exact_distribution(vocabulary: int, spread: float, temperature: float, top_p: float) -> None:
    """Flat and peaked distributions; nuclei within the first candidates and far beyond them."""
    logits = torch.from_numpy(rng(0, "logits", f"{vocabulary}").standard_normal(vocabulary) * spread).float()
    n = 20_000 if vocabulary < 1000 else 2_000
    uniforms = torch.from_numpy(rng(0, "uniforms", f"{spread}{temperature}{top_p}").random(n))
    counts: Counter[int] = Counter()
    for part in torch.split(uniforms, 1000):
        counts.update(choose(logits.expand(len(part), -1), part, temperature, top_p).tolist())
    kept, probabilities = brute_force(logits.tolist(), temperature, top_p)
    assert set(counts) <= set(kept)
    assert chi_square_p([counts[i] for i in kept], list(probabilities)) > 1e-3


@given(logits_rows, st.floats(0.05, 3.0), st.floats(0.01, 1.0), st.floats(0, 1, exclude_max=True))
@settings(max_examples=200, deadline=None)
def test_a_draw_inverts_the_nucleus(logits: list[float], temperature: float, top_p: float, uniform: float) -> None:
    """Tokens in descending order of probability up to the nucleus' end; at the borders rounding (float32) may decide, ties may be swapped."""
    right = set()
    for border in (top_p - 1e-5, top_p, top_p + 1e-5):
        kept, probabilities = brute_force(logits, temperature, border)
        upper = np.cumsum(probabilities)
        inside = (upper - probabilities - 1e-4 <= uniform) & (uniform <= upper + 1e-4)
        right |= {logits[kept[i]] for i in np.flatnonzero(inside)}
    drawn = choose(torch.tensor([logits]), torch.tensor([uniform], dtype=torch.float64), temperature, top_p)
    assert logits[int(drawn)] in right


@given(logits_rows, st.floats(0.05, 0.99))
@settings(max_examples=100, deadline=None)
def test_top_p_keeps_exactly_the_nucleus(row: list[float], top_p: float) -> None:
    """A draw in the middle of each token's share gives that token, and the largest draw the last of the nucleus (no ties here)."""
    logits = sorted(set(row))
    everything = np.cumsum(brute_force(logits, 1.0, 1.0)[1])
    if np.abs(everything - top_p).min() < 1e-5:  # on the border rounding decides
        return
    kept, probabilities = brute_force(logits, 1.0, top_p)
    middles = np.clip(np.cumsum(probabilities) - probabilities / 2, 0, 1 - 2**-53)
    wide = probabilities > 1e-4  # a narrower share may be lost to rounding
    draws = torch.from_numpy(np.concatenate([middles[wide], [0.0, 1 - 2**-53]]))
    drawn = choose(torch.tensor([logits]).expand(len(draws), -1), draws, 1.0, top_p)
    assert drawn.tolist() == [*np.array(kept)[wide].tolist(), kept[0], kept[-1]]


@given(st.lists(logits_rows, min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_temperature_zero_is_argmax_and_a_tiny_one_nearly_so(rows: list[list[float]]) -> None:
    width = max(map(len, rows))
    logits = torch.tensor([row + [-40.0] * (width - len(row)) for row in rows])
    uniforms = torch.from_numpy(rng(0, "uniforms").random(len(rows)))
    assert torch.equal(choose(logits, uniforms, 0.0, 1.0), logits.argmax(dim=-1))
    cold = choose(logits, uniforms, 1e-6, 1.0)
    gaps = logits.amax(dim=-1) - logits.gather(1, cold[:, None]).squeeze(1)
    assert float(gaps.max()) < 1e-4


def test_what_is_ruled_out_is_never_drawn() -> None:
    logits = torch.full((1000, 200), float("-inf"))
    logits[:, 70:73] = torch.tensor([0.0, 1.0, 2.0])
    uniforms = torch.from_numpy(rng(0, "uniforms").random(1000))
    for top_p in (1.0, 0.9):
        assert set(choose(logits, uniforms, 1.0, top_p).tolist()) <= {70, 71, 72}


def test_a_rows_draw_does_not_depend_on_its_neighbours() -> None:
    random = rng(0, "rows")
    logits = torch.from_numpy(random.standard_normal((40, 2000)) * random.uniform(0.1, 5, (40, 1))).float()
    uniforms = torch.from_numpy(random.random(40))
    for top_p in (1.0, 0.8):
        together = choose(logits, uniforms, 0.9, top_p)
        alone = [int(choose(logits[i : i + 1], uniforms[i : i + 1], 0.9, top_p)) for i in range(40)]
        assert together.tolist() == alone


# ------------------------------------------------------------------------------------------------------------- repetition penalty


@given(
    st.lists(st.lists(st.floats(-9, 9, width=32), min_size=12, max_size=12), min_size=2, max_size=2),
    st.lists(st.lists(st.integers(-1, 11), min_size=5, max_size=5), min_size=2, max_size=2),
    st.floats(0.5, 3.0),
)
@settings(max_examples=50, deadline=None)
def test_the_penalty_is_transformers_own_and_spares_padding(rows: list[list[float]], seen: list[list[int]], penalty: float) -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits, tokens = torch.tensor(rows), torch.tensor(seen)
    found = penalise(logits.clone(), tokens, penalty)
    processor = RepetitionPenaltyLogitsProcessor(penalty)
    for row in range(2):
        real = tokens[row][tokens[row] >= 0]
        expected = processor(real[None], logits[row : row + 1].clone())[0] if len(real) else logits[row]
        torch.testing.assert_close(found[row], expected, rtol=1e-6, atol=0)


def test_padding_is_no_token_of_the_prompt(tiny_model: SubjectModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever token pads, a padded row has the text that it has alone: the token it would choose first is the padding here."""
    decoding = Decoding(max_new_tokens=12, temperature=0.0, repetition_penalty=5.0)
    short, long = GenerationRequest("short", tiny_model.encode("One day"), 0), GenerationRequest("long", [1] * 20, 0)
    alone = {text.id: text.token_ids for r in (short, long) for text in generate(tiny_model, [r], decoding)}
    monkeypatch.setattr(tiny_model, "pad_id", alone["short"][0])
    assert {text.id: text.token_ids for text in generate(tiny_model, [short, long], decoding)} == alone


# ------------------------------------------------------------------------------------------------------------------ through the engine


def exact(model: SubjectModel, prompt: Sequence[int], decoding: Decoding) -> tuple[list[int], np.ndarray]:
    """The nucleus after a prompt and its probabilities, from transformers' logits."""
    with torch.no_grad():
        logits: Tensor = model.hf(torch.tensor([list(prompt)])).logits[0, -1]
    logits[sorted(model.eos_ids)] = float("-inf")  # as min_new_tokens has it
    penalised = penalise(logits[None], torch.tensor([list(prompt)]), decoding.repetition_penalty)[0]
    return brute_force(penalised.tolist(), decoding.temperature, decoding.top_p)


def test_generated_tokens_have_the_models_distribution(tiny_model: SubjectModel) -> None:
    """Two tokens of 3,000 requests: the first against its exact probabilities, the second against those given the first."""
    prompt = tiny_model.encode("Once upon a time, there was a")
    decoding = Decoding(max_new_tokens=2, min_new_tokens=2, temperature=1.3, top_p=0.9, repetition_penalty=1.2)
    requests = [GenerationRequest(f"trial {i}", prompt, seed=11) for i in range(3000)]
    pairs = Counter(text.token_ids for text in generate(tiny_model, requests, decoding, batch_size=500))
    first: Counter[int] = Counter()
    for (token, _), count in pairs.items():
        first[token] += count
    kept, probabilities = exact(tiny_model, prompt, decoding)
    assert set(first) <= set(kept)
    assert len(kept) > 20
    assert chi_square_p([first[i] for i in kept], list(probabilities)) > 1e-3
    for token, count in first.most_common(3):
        kept, probabilities = exact(tiny_model, [*prompt, token], decoding)
        assert chi_square_p([pairs[token, i] for i in kept], list(probabilities)) > 1e-3, (token, count)


def test_uniform_numbers_of_ids_and_steps_are_unrelated() -> None:
    """What the engine draws from: uniform over ids at one step, over steps of one id, and uncorrelated between neighbouring ids."""
    draws = np.stack([rng(0, "sampling", f"trial {i}").random(64) for i in range(1000)])
    assert kstest(draws[:, 0], "uniform").pvalue > 1e-3
    assert kstest(draws[0], "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 0.02
