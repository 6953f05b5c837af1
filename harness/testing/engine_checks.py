"""An engine held against the float64 reference, edit by edit, and faults planted in it that must show: ``harness engines verify``."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from harness.engine.verified import Verdict
from harness.errors import EngineError
from harness.model.memory import is_out_of_memory
from harness.testing.edit_kinds import EditKind, edit_kinds, prompt_tokens
from harness.testing.engine_faults import FaultyEngine, faults
from harness.types import Decoding

if TYPE_CHECKING:
    from torch import Tensor

    from harness.engine.base import Engine, Generated, GenerationRequest
    from harness.engine.reference import ReferenceEngine
    from harness.model.loading import SubjectModel

CHECKS = {
    "prompt": "logits at each token of prompts of several lengths",
    "decoded": "logits of new tokens, decoded one by one with a cache, all kinds of edits in one left-padded batch",
    "no cache": "the same, whole texts read anew at each step",
    "alone": "the same, each request by itself",
    "greedy": "tokens of greedy texts: half of how far the reference's logit of each is below the largest",
    "texts": "greedy and sampled texts: tokens, letters, and how they ended",
}
"""What is compared. In formats whose rounding may choose another token ``greedy`` stands in the place of ``texts``: where no logit is off by more
than is allowed, none that is chosen is behind by more than twice that."""
LENGTHS = (5, 2, 9, 1, 7, 3, 12, 4)
"""Tokens of the prompts, in turn; beside the longest, that of one token is padding but for it."""
NEW = (6, 3, 5, 4)
"""New tokens, in turn: rows leave the batch at different steps."""
TOLERANCE = 1e-3
"""Largest difference of any logit that is allowed, as a share of the logits' spread over the vocabulary. Float32 is off by some 1e-5."""
ROUNDING, USUAL = 3.0, 4.0
"""In fewer bits: so many times what rounding alone does to the reference, with the same edit and with the median one, whichever is more.

What rounding does depends on the model more than on the number format, so it is measured: with the same edits, on the same tokens, one text at a time
and without a cache, the model's own dtype against float64. An engine rounds in another order: sound ones were off by 3.5 times the median one at
most (stories260K, bfloat16, a CPU), and mostly by less than once what the same edit's reference was.
"""
TEXTS = (Decoding(max_new_tokens=6, min_new_tokens=6, temperature=0.0), Decoding(6, 0.9, 0.95, 1.2, "all", 6))
SEEN = 4 / 3
"""An edit that moves no logit by so many times what is allowed could not be seen to miss: of what it moves, rounding may take a third of that."""

Differences = dict[str, dict[str, float]]
"""The largest difference by check and kind of edit."""


class Moves(NamedTuple):
    """By how much an edit moves logits at most: those of prompts, those of new tokens, and either as a multiple of what is allowed there."""

    prompt: float
    steps: float
    seen: float


@dataclass(frozen=True)
class Fault:
    """A planted fault: which checks found it, and by what difference."""

    name: str
    found_by: Mapping[str, float]

    @property
    def found(self) -> bool:
        """Return whether any check found it."""
        return bool(self.found_by)


@dataclass(frozen=True)
class Report:
    """What ``harness engines verify`` found.

    Attributes:
        engine: name and version.
        model: the model.
        allowed: how far the engine's logits may be from the reference's, by check and kind of edit (see :data:`ROUNDING`).
        moved: by how much each kind of edit moves the reference's logits, on prompts and on new tokens.
        differences: between engine and reference.
        texts: kinds whose texts are not the reference's; None where rounding may choose another token, so that texts were not compared.
        refused: kinds that the engine refuses, with the reason.
        planted: the planted faults.
        errors: checks that ended in an error, with it.
        left: what the engine has left on the model, a phrase each.
    """

    engine: tuple[str, str]
    model: SubjectModel
    allowed: Differences
    moved: Mapping[str, Moves]
    differences: Differences
    texts: tuple[str, ...] | None
    refused: Mapping[str, str]
    planted: Sequence[Fault]
    errors: Mapping[str, str] = field(default_factory=dict)
    left: Sequence[str] = ()

    def failures(self) -> list[str]:
        """Return what is wrong, a line each; none where all is well."""
        found = [f"{check}: {message}" for check, message in self.errors.items()]
        for check, by_kind in self.differences.items():
            found += [
                f"{check}, {kind}: logits are off by {far:.2g} of their spread, and {self.allowed[check][kind]:.2g} is allowed"
                for kind, far in by_kind.items() if not far <= self.allowed[check][kind]  # a NaN is not
            ]  # fmt: skip
        found += [f"texts, {kind}: the engine writes another text than the reference" for kind in self.texts or ()]
        found += [f"the model is not as it was: {phrase}" for phrase in self.left]
        weak = [kind for kind, moves in self.moved.items() if kind != "nothing" and not moves.seen >= SEEN]
        found += [f"{kind}: the edit moves no logit {SEEN:.3g} times as far as is allowed, so nothing could be seen of it" for kind in weak]
        found += [f"the planted fault was not found: {fault.name}" for fault in self.planted if not fault.found]
        return found

    def verdict(self, harness_version: str) -> Verdict:
        """Return what is kept of it."""
        return Verdict(
            engine=self.engine[0],
            version=self.engine[1],
            model=self.model.name,
            model_digest=self.model.digest,
            dtype=str(self.model.dtype).removeprefix("torch."),
            device=self.model.device.type,
            harness_version=harness_version,
            passed=not self.failures(),
            tolerance=max(far for by_kind in self.allowed.values() for far in by_kind.values()),
            largest={check: max(by_kind.values()) for check, by_kind in self.differences.items() if by_kind},
            faults_found=sum(fault.found for fault in self.planted),
            faults=len(self.planted),
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )


def verify(
    model: SubjectModel, opened: Callable[..., Engine], progress: Callable[[str], None] = lambda _: None, kinds: Sequence[EditKind] | None = None
) -> Report:
    """Hold an engine against the reference on a model.

    Args:
        model: of two layers or more; the reference takes a copy of it in float64.
        opened: returns the engine; ``use_cache=False`` one that reads whole texts at each step.
        progress: is told what comes next.
        kinds: of edits; None stands for all.

    Raises:
        EngineError: the model has one layer, it does not fit into memory together with the reference's copy, or the engine cannot be opened.
    """
    try:
        return _verify(model, opened, progress, kinds)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    message = f"{model.name} and the reference's copy of it in float64 do not fit into the memory of {model.device}"
    raise EngineError(message, given=str(model.device), hint="use --device cpu, or a smaller model of the same architecture")


def _verify(
    model: SubjectModel, opened: Callable[..., Engine], progress: Callable[[str], None], kinds: Sequence[EditKind] | None
) -> Report:
    from harness.engine.reference import ReferenceEngine
    from harness.model.fingerprint import Fingerprint

    if model.n_layers < 2:
        raise EngineError(f"{model.name} has one layer", given=model.n_layers, allowed="two or more: an edit must be seen to be one layer off")
    engine = opened()
    before = Fingerprint(model.hf)
    with tempfile.TemporaryDirectory(prefix="harness-verify-") as folder:
        every = list(edit_kinds(model, Path(folder) / "adapter") if kinds is None else kinds)
        refused = {kind.name: reason for kind in every if (reason := _refusal(engine, kind)) is not None}
        checks = _Checks(model, [kind for kind in every if kind.name not in refused], ReferenceEngine(model), progress)
        if model.dtype.itemsize < 4:
            progress("what rounding alone does to the reference")
            checks.measure_rounding(ReferenceEngine(model, rounded=True))
        differences: Differences = {}
        errors: dict[str, str] = {}
        exact = str(model.dtype) in ("torch.float32", "torch.float64")
        measured: dict[str, Callable[[], dict[str, float]]] = {
            "prompt": lambda: checks.prompt(engine),
            "decoded": lambda: checks.decoded(engine),
            "no cache": lambda: checks.decoded(opened(use_cache=False)),
            "alone": lambda: checks.alone(engine),
        }
        if not exact:
            measured["greedy"] = lambda: checks.greedy(engine)
        for check, run in measured.items():
            progress(f"{check}: {CHECKS[check]}")
            try:
                differences[check] = run()
            except Exception as error:  # whatever an engine raises: the other checks go on
                errors[check] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        texts = None
        if exact:
            progress(f"texts: {CHECKS['texts']}")
            try:
                texts = tuple(checks.other_texts(engine))
            except Exception as error:  # as above
                errors["texts"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        planted = []
        for name, wrong in faults(model.n_layers).items():
            progress(f"planting: {name}")
            planted.append(Fault(name, checks.found(FaultyEngine(engine, wrong))))
        left = [*before.structure(), *before.weights()]
        return Report((engine.name, engine.version), model, checks.allowed, checks.moved(), differences, texts, refused, planted, errors, left)


class _Checks:
    """The checks of one model; what the reference gives is computed once.

    Args:
        model: the subject model.
        kinds: of edits.
        reference: the reference of the model.
        progress: is told what comes next.
    """

    def __init__(self, model: SubjectModel, kinds: Sequence[EditKind], reference: ReferenceEngine, progress: Callable[[str], None]) -> None:
        from harness.engine.base import GenerationRequest

        self._kinds, self._reference = kinds, reference
        most = max(LENGTHS) + max(NEW) + len(kinds)
        ids = prompt_tokens(model, most)
        self._requests: list[GenerationRequest] = []
        self._new: dict[str, list[int]] = {}
        for place, kind in enumerate(kinds):
            n, start = LENGTHS[place % len(LENGTHS)], place % 7
            prompt = [ids[0], *ids[1 + start : start + n]]
            self._requests.append(GenerationRequest(kind.name, prompt, 3, kind.edits, kind.adapter))
            self._new[kind.name] = ids[start + n + 1 : start + n + 1 + NEW[place % len(NEW)]]
        self._texts = [ids[:9], ids[:1], ids[2:7]]
        progress("the reference, in float64")
        self._whole = {kind.name: list(reference.logits(self._texts, kind.edits, kind.adapter)) for kind in kinds}
        self._steps: dict[str, Tensor] = dict(reference.step_logits(self._requests, self._new))
        self.allowed: Differences = {check: {kind.name: TOLERANCE for kind in kinds} for check in CHECKS if check != "texts"}

    def measure_rounding(self, rounded: ReferenceEngine) -> None:
        """Allow for what rounding does to the reference (:data:`ROUNDING`)."""
        for found, checks in ((self.prompt(rounded), ("prompt",)), (self.alone(rounded), ("decoded", "no cache", "alone", "greedy"))):
            finite = {kind: far if math.isfinite(far) else 0.0 for kind, far in found.items()}  # what overflows is allowed nobody
            least = max(TOLERANCE, USUAL * median(finite.values()))
            for check in checks:
                self.allowed[check] = {kind: max(least, ROUNDING * far) for kind, far in finite.items()}

    def moved(self) -> dict[str, Moves]:
        """Return by how much each kind of edit moves the reference's logits."""
        plain = list(self._reference.logits(self._texts))
        found = {}
        for request in self._requests:
            n = len(request.prompt_ids)
            unedited = self._reference.text_logits([*request.prompt_ids, *self._new[request.id]], n)[n - 1 : -1]
            prompt = max(_far(own, without) for own, without in zip(self._whole[request.id], plain, strict=True))
            steps = _far(self._steps[request.id], unedited)
            seen = max(prompt / self.allowed["prompt"][request.id], steps / self.allowed["decoded"][request.id])
            found[request.id] = Moves(prompt, steps, seen)
        return found

    def prompt(self, engine: Engine) -> dict[str, float]:
        """Return the largest difference of logits at the tokens of prompts, by kind."""
        return {
            kind.name: max(_far(*pair) for pair in zip(engine.logits(self._texts, kind.edits, kind.adapter), self._whole[kind.name], strict=True))
            for kind in self._kinds
        }

    def decoded(self, engine: Engine) -> dict[str, float]:
        """Return the largest difference of the logits of new tokens, all requests in one batch."""
        return self._compared(dict(engine.step_logits(self._requests, self._new)))

    def alone(self, engine: Engine) -> dict[str, float]:
        """Return the same, each request by itself."""
        return self._compared(dict(found for request in self._requests for found in engine.step_logits([request], self._new)))

    def greedy(self, engine: Engine) -> dict[str, float]:
        """Return the largest shortfall of a greedy text's tokens by the reference's logits, by kind; infinite where a text is missing."""
        made = _texts(engine, self._requests, TEXTS[0])
        found = {}
        for request in self._requests:
            texts = made.get(request.id, [])
            ids = texts[0].token_ids if len(texts) == 1 else ()
            found[request.id] = self._shortfall(request, ids) if len(ids) == TEXTS[0].max_new_tokens else float("inf")
        return found

    def _shortfall(self, request: GenerationRequest, ids: Sequence[int]) -> float:
        import torch

        ((_, logits),) = self._reference.step_logits([request], {request.id: ids})
        spread = logits.std().clamp(min=1e-12)
        ends = sorted(self._reference.model.eos_ids)  # of which none may be chosen before the last step
        logits = logits.index_fill(1, torch.tensor(ends, dtype=torch.long, device=logits.device), float("-inf")) if ends else logits
        chosen = logits.gather(1, torch.tensor(ids, device=logits.device)[:, None])[:, 0]
        return float((logits.amax(dim=1) - chosen).max() / spread / 2)

    def other_texts(self, engine: Engine) -> list[str]:
        """Return the kinds whose greedy or sampled text is not the reference's, or came more than once."""
        wrong: dict[str, None] = {}
        for decoding in TEXTS:
            expected, made = _texts(self._reference, self._requests, decoding), _texts(engine, self._requests, decoding)
            wrong |= dict.fromkeys(name for name, texts in expected.items() if made.get(name) != texts)
        return list(wrong)

    def found(self, faulty: Engine) -> dict[str, float]:
        """Return the checks that find a fault, each with the largest difference. One that ends in an error finds nothing."""
        found = {}
        for check, run in (("prompt", self.prompt), ("decoded", self.decoded)):
            with suppress(Exception):  # whatever an engine raises
                allowed = self.allowed[check]
                found[check] = max((far for kind, far in run(faulty).items() if not far <= allowed[kind]), default=0.0)
        return {check: far for check, far in found.items() if far != 0}

    def _compared(self, found: Mapping[str, Tensor]) -> dict[str, float]:
        return {request.id: _far(found[request.id], self._steps[request.id]) for request in self._requests}


def _texts(engine: Engine, requests: Sequence[GenerationRequest], decoding: Decoding) -> dict[str, list[Generated]]:
    """Return what an engine makes of requests, by their ids."""
    found: dict[str, list[Generated]] = {}
    for chunk in engine.chunks(requests):
        for text in engine.run(chunk, decoding):
            found.setdefault(text.id, []).append(text)
    return found


def _refusal(engine: Engine, kind: EditKind) -> str | None:
    """Return why an engine does not take a kind of edit; None where it does."""
    from harness.engine.base import GenerationRequest

    for edit in kind.edits:
        if (reason := engine.refuses(edit)) is not None:
            return reason
    if kind.adapter is not None:  # what is refused of an adapter is said when a request asks for it
        try:
            engine.step_logits([GenerationRequest("adapter", [1], 0, (), kind.adapter)], {"adapter": [1]})
        except EngineError as error:
            return str(error)
        except Exception:  # whatever an engine raises: the checks say so
            return None
    return None


def _far(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, as a share of the spread of what is expected; infinite where one is not finite, or the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    difference = (found.double().cpu() - expected.double().cpu()).abs().max() / expected.double().std().cpu().clamp(min=1e-12)
    return float(difference) if bool(difference.isfinite()) else float("inf")
