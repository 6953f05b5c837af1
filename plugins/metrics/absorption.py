"""Feature absorption (Chanin et al. 2024, arXiv 2409.14507): where the latents of a first letter are silent, and another one carries the letter.

Written from the definition, with the thresholds that SAEBench has, for a small model: words that are one token, read at that token behind a short
prompt; a linear probe of the residual stream says which letter a word begins with.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness import hookimpl
from harness.contracts import MetricTraits, NumberTraits
from harness.options import Options
from harness.types import Json, Measurement, rng

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from harness.contracts import Bench
    from harness.measuring.readings import Readings
    from harness.sae.dictionary import Dictionary
    from harness.sae.subject import DictionarySubject

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

WORD_MARKS = ("Ġ", "▁")
"""What stands before a token that begins a word, in the two usual kinds of vocabulary."""
_ITERATIONS = 300


class AbsorptionOptions(Options):
    """Options of ``absorption``."""

    per_letter: int = Field(100, ge=4)
    """So many words at most begin with each letter."""
    min_words: int = Field(20, ge=4)
    """A letter with fewer words is left out."""
    min_characters: int = Field(3, ge=1)
    """Of a word."""
    prompt: str = "Spell the word:"
    """Stands before each word."""
    train: float = Field(0.6, gt=0, lt=1)
    """Share of the words that fit probes and find a letter's latents; absorption is looked for in the others."""
    shrinkage: float = Field(0.01, gt=0)
    """Weight of ½‖w‖² in the probe's loss per word, with the vectors scaled to a variance of one a channel."""
    probe_f1: float = Field(0.6, gt=0, lt=1)
    """A letter counts where the probe's F1 on the words that did not fit it is at least this."""
    min_letters: int = Field(5, ge=1)
    """With fewer letters that count, absorption is not measurable in this model and layer."""
    most_latents: int = Field(10, ge=1)
    """A letter has at most so many latents."""
    split_gain: float = Field(0.03, gt=0, lt=1)
    """The next latent is a letter's as well where it raises the F1 of a probe on its latents by more than this."""
    cosine: float = Field(0.1, ge=0, lt=1)
    """A latent may absorb where the cosine of its decoder row and the probe is at least this."""
    full_cosine: float = Field(0.025, ge=0, lt=1)
    """The same for full absorption, by one latent."""
    share: float = Field(0.4, gt=0, le=1)
    """What absorbs makes up at least this share of the word's projection on the probe."""
    absorbing: int = Field(3, ge=1)
    """So many latents at most absorb together."""


@dataclass(frozen=True, eq=False)
class Words:
    """Words and what the residual stream says of their first letter: the same for every dictionary of a layer.

    Attributes:
        readings: of each word's token.
        vectors: ``[words, width]`` float64, the same in the order of words.
        letters: ``[words]``, place of the first letter in the alphabet.
        train: ``[words]`` bool.
        probes: ``[letters, width]`` unit directions of the letters that count, by letter; zeros for others.
        right: ``[words]`` bool, the probe of the word's letter says so.
        f1: F1 of each letter's probe on the words that did not fit it.
    """

    readings: Readings
    vectors: Floats
    letters: NDArray[np.int64]
    train: Bools
    probes: Floats
    right: Bools
    f1: Mapping[int, float]


class Absorption:
    """See the module. Implements :class:`harness.contracts.Metric`."""

    def __init__(self, options: AbsorptionOptions) -> None:
        self.options = options
        self.traits = MetricTraits(
            title="absorption",
            unit="share of a word's letter",
            bounds=(0.0, 1.0),
            higher_is_better=False,
            needs=("model",),
            parts={
                "full": NumberTraits("fully absorbed", "share of words", (0.0, 1.0), False),
                "latents": NumberTraits("latents a letter", "latents", (1.0, None), None),
                "latents_f1": NumberTraits("F1 of a letter's latents", "", (0.0, 1.0), True, 0.0),
                "probe_f1": NumberTraits("F1 of the residual probe", "", (0.0, 1.0), None),
            },
            item="letter",
            items_shared=True,
        )
        self._kept: tuple[Bench, int, int, Words | str] | None = None

    def measure(self, bench: Bench, subject: DictionarySubject, seed: int) -> Measurement:
        from harness.measuring.probes import encode_rows

        dictionary = subject.dictionary
        if self._kept is None or self._kept[0] is not bench or self._kept[1:3] != (dictionary.layer, seed):
            self._kept = bench, dictionary.layer, seed, self._words(bench, dictionary.layer, seed)
        words = self._kept[3]
        if isinstance(words, str):
            return Measurement(None, reason=words, parts=dict.fromkeys(self.traits.parts), part_reasons=dict.fromkeys(self.traits.parts, words))
        codes = encode_rows(dictionary, words.readings, len(words.letters)).tocsr()
        along = _along(dictionary, words.probes)
        found = {letter: self._letter(dictionary, words, codes, along[:, letter], letter) for letter in words.f1}
        details: dict[str, Json] = {string.ascii_lowercase[letter]: one for letter, one in found.items()}
        per_item: dict[str, float | None] = {string.ascii_lowercase[letter]: float(one["fraction"]) for letter, one in found.items()}
        parts = {
            "full": fmean(one["full"] for one in found.values()),
            "latents": fmean(len(one["latents"]) for one in found.values()),
            "latents_f1": fmean(one["f1"] for one in found.values()),
            "probe_f1": fmean(words.f1.values()),
        }
        n = {"words": len(words.letters), "letters": details}
        return Measurement(fmean(one["fraction"] for one in found.values()), per_item, n, parts=parts)

    # -- the words, and what the residual stream knows

    def _words(self, bench: Bench, layer: int, seed: int) -> Words | str:
        """Return the words and their probes, or why absorption is not measurable."""
        from harness.measuring.readings import last_tokens

        ids, letters = self._choose(bench, seed)
        n_letters = len(set(letters.tolist()))
        if n_letters < self.options.min_letters:
            return (
                f"not measurable: the vocabulary has {self.options.min_words} words of one token for {n_letters} letters, and it takes "
                f"{self.options.min_letters}"
            )
        prompt = bench.model.encode(self.options.prompt)
        rows = [np.asarray([*prompt, token], dtype=np.int64) for token in ids.tolist()]
        readings = last_tokens(bench, layer, rows, "words")
        vectors = np.concatenate([x.cpu().numpy() for x, _ in readings.parts()]).astype(np.float64)[np.argsort(readings.owners)]
        train = _train_words(letters, self.options.train, seed)
        weights, bias, scale, mean = _fit_probes(vectors[train], letters[train], self.options.shrinkage)
        positive = ((vectors - mean) / scale) @ weights.T + bias > 0
        f1 = {}
        for letter in sorted(set(letters.tolist())):
            own = letters[~train] == letter
            if (value := _f1(positive[~train, letter], own)) >= self.options.probe_f1:
                f1[letter] = value
        if len(f1) < self.options.min_letters:
            return (
                f"not measurable: the probe of the residual stream reaches an F1 of {self.options.probe_f1:g} for {len(f1)} of {n_letters} letters, "
                f"and it takes {self.options.min_letters}"
            )
        directions = weights / scale
        directions /= np.linalg.norm(directions, axis=1, keepdims=True).clip(min=1e-30)
        return Words(readings, vectors, letters, train, directions, positive[np.arange(len(letters)), letters], f1)

    def _choose(self, bench: Bench, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return token ids of words, drawn by the seed, and their letters."""
        tokenizer = bench.model.tokenizer
        by_letter: dict[int, list[int]] = {}
        for token, number in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
            word = token[1:]
            if token.startswith(WORD_MARKS) and len(word) >= self.options.min_characters and word.isascii() and word.isalpha():
                by_letter.setdefault(string.ascii_lowercase.index(word[0].lower()), []).append(number)
        ids: list[int] = []
        letters: list[int] = []
        for letter in sorted(by_letter):
            found = by_letter[letter]
            if len(found) < self.options.min_words:
                continue
            order = rng(seed, "absorption-words", string.ascii_lowercase[letter]).permutation(len(found))[: self.options.per_letter]
            ids += [found[int(place)] for place in np.sort(order)]
            letters += [letter] * len(order)
        return np.asarray(ids, dtype=np.int64), np.asarray(letters, dtype=np.int64)

    # -- one letter in one dictionary

    def _letter(self, dictionary: Dictionary, words: Words, codes: csr_matrix, along: Floats, letter: int) -> dict[str, Any]:
        """Return what a dictionary does with one letter: its latents, their F1, and how much of it is absorbed."""
        own = words.letters == letter
        latents, f1 = self._latents(codes[words.train], own[words.train])
        looked_at = np.flatnonzero(own & ~words.train & words.right)
        cosines = along / dictionary.decoder_norms().double().cpu().numpy().clip(min=1e-30)
        scale = _scales(dictionary, words.vectors[looked_at])
        projections = words.vectors[looked_at] @ words.probes[letter]
        rows = [codes[int(word)] for word in looked_at]  # some: a probe without a right word has an F1 of 0
        found = [
            _absorbed(row.indices, row.data * s * along[row.indices], row.data, cosines[row.indices], float(total), latents, self.options)
            for row, s, total in zip(rows, scale, projections, strict=True)
        ]
        return {
            "fraction": fmean(one for one, _ in found), "full": fmean(float(one) for _, one in found), "latents": latents, "f1": f1,
            "words": len(looked_at), "probe_f1": words.f1[letter],
        }  # fmt: skip

    def _latents(self, codes: csr_matrix, own: Bools) -> tuple[list[int], float]:
        """Return a letter's latents and the F1 of a probe on them, by words that fit probes."""
        from harness.measuring.probes import largest_differences
        from harness.scoring.logistic import fit_logistic

        ranked = largest_differences(codes, own, min(self.options.most_latents, codes.shape[1]), "mean-difference")
        x = np.asarray(codes[:, ranked].todense(), dtype=np.float64)
        weights = np.where(own, 1 / own.sum(), 1 / (~own).sum())[None] * len(own) / 2
        best, n = 0.0, 1
        for k in range(1, len(ranked) + 1):
            f1 = _f1(fit_logistic(x[:, :k], own, 1.0, weights).margins(x[:, :k])[0] > 0, own)
            if k > 1 and f1 - best <= self.options.split_gain:
                break
            best, n = f1, k
        return ranked[:n].tolist(), best


# ------------------------------------------------------------------------------------------------------------------------- inside


def _absorbed(
    latents: NDArray[Any], projections: Floats, activations: Floats, cosines: Floats, total: float, own: Sequence[int], options: AbsorptionOptions
) -> tuple[float, bool]:
    """Return how much of a word's letter is absorbed, and whether one latent carries it while the letter's own are silent.

    Args:
        latents: those that are active at the word, ``[active]``; the next three go with them.
        projections: what each adds to the projection on the probe.
        activations: of each.
        cosines: of its decoder row and the probe.
        total: the projection of the residual vector itself.
        own: the letter's latents.
        options: thresholds.
    """
    mine = np.isin(latents, own)
    main = float(projections[mine].sum())
    may = ~mine & (cosines >= options.cosine) & (projections > 0)
    absorbing = float(np.sort(projections[may])[::-1][: options.absorbing].sum())
    fraction = 0.0
    if total > 0 and main < total and absorbing / total >= options.share:
        part = min(absorbing, total - main)
        fraction = 1.0 if main <= 0 else part / (part + main)
    full = False
    if total > 0 and len(latents) and not np.any(activations[mine] != 0):
        top = int(projections.argmax())
        full = bool(cosines[top] >= options.full_cosine and projections[top] / total >= options.share)
    return fraction, full


def _fit_probes(x: Floats, letters: NDArray[np.int64], shrinkage: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Return weights ``[26, width]`` and biases ``[26]`` of one logistic probe for each letter, on vectors that are centred and scaled, and both.

    Positive and negative words weigh the same in each; all are fitted together. A letter without words gets zeros.
    """
    import torch

    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1.0
    table = torch.from_numpy((x - mean) / scale)
    y = torch.from_numpy((letters[:, None] == np.arange(26)).astype(np.float64))
    n = y.sum(dim=0)
    there = n > 0
    balance = torch.where(y > 0, 0.5 / n.clamp(min=1), 0.5 / (len(y) - n).clamp(min=1)) * there
    weights = torch.zeros(26, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(26, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe", tolerance_grad=1e-6)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        margins = table @ weights.T + bias
        total = (balance * torch.nn.functional.binary_cross_entropy_with_logits(margins, y, reduction="none")).sum()
        total = total + 0.5 * shrinkage * weights.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach().numpy(), bias.detach().numpy(), scale, mean


def _train_words(letters: NDArray[np.int64], share: float, seed: int) -> Bools:
    """Return which words fit probes: the same share of each letter's."""
    train = np.zeros(len(letters), dtype=bool)
    for letter in np.unique(letters):
        own = rng(seed, "absorption-split", string.ascii_lowercase[letter]).permutation(np.flatnonzero(letters == letter))
        train[own[: max(1, round(share * len(own)))]] = True
    return train


def _along(dictionary: Dictionary, probes: Floats) -> Floats:
    """Return d̃_j · p of all latents and probes, ``[d_sae, letters]``, some thousand latents at a time."""
    import torch

    directions = torch.from_numpy(probes.T).to(dictionary.device, dictionary.dtype)
    parts = [
        (dictionary.columns(range(start, min(start + 8192, dictionary.d_sae))).rows @ directions).double().cpu().numpy()
        for start in range(0, dictionary.d_sae, 8192)
    ]
    return np.asarray(np.nan_to_num(np.concatenate(parts)))  # a zero row of a dictionary that divides by its norm points nowhere


def _scales(dictionary: Dictionary, vectors: Floats) -> Floats:
    import torch

    return np.asarray(dictionary.scale(torch.from_numpy(vectors).float())[:, 0].double().cpu().numpy())


def _f1(predicted: Bools, truth: Bools) -> float:
    hit, both = int((predicted & truth).sum()), int(predicted.sum()) + int(truth.sum())
    return 2 * hit / both if both else 0.0


@hookimpl
def harness_register_metrics(registry: Any) -> None:
    registry.add("absorption", Absorption, options=AbsorptionOptions, summary="first letters that another latent carries while their own are silent")
