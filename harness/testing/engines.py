"""Does an engine keep its contract?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from harness.interventions import Edit, Positions, Site
from harness.run.bench import TaskBench
from harness.testing.at_work import Interruption, settled, watched
from harness.testing.require import ContractError, require
from harness.types import Decoding, rng

if TYPE_CHECKING:
    from torch import Tensor

    from harness.engine.base import Engine, Generated, GenerationRequest
    from harness.model.loading import SubjectModel

_NEW, _TOLERANCE = 5, 1e-3
_GREEDY = Decoding(max_new_tokens=_NEW, min_new_tokens=_NEW, temperature=0.0)
_SAMPLED = Decoding(max_new_tokens=_NEW, min_new_tokens=_NEW, temperature=0.8, top_p=0.9, repetition_penalty=1.2)


def check_engine(factory: Callable[[SubjectModel], Engine], bench: TaskBench) -> dict[str, tuple[int, ...]]:
    """Compare an engine with the float64 reference (:mod:`harness.engine.reference`), and look at what it leaves of the model.

    * ``chunks`` holds each request once, in parts that depend on the requests alone.
    * Logits of texts and of new tokens, greedy texts and sampled texts are those of the reference: without edits, with edits of each stream, at
      other tokens, of several at one site, of features of the bench's dictionary, and with an adapter. Logits are the same where they differ by
      no more than a thousandth of their spread.
    * A request's text is the same alone and among others.
    * An edit that it cannot place is refused with a reason. Adapters may be refused, all of them.
    * Process and model are as before, the model also where the iteration is given up, or an edit raises.

    Args:
        factory: makes the engine for a loaded model, e.g. ``TorchEngine``.
        bench: e.g. :func:`harness.testing.toy_bench`; a model in float32, of three layers or more.

    Returns:
        The greedy texts by request, as token ids.

    Raises:
        ContractError: the contract is broken; the message says where.
    """
    from harness.engine.base import Engine
    from harness.engine.reference import ReferenceEngine

    model = settled(bench).model
    engine, reference = factory(model), ReferenceEngine(model)
    require("members", isinstance(engine, Engine), f"{type(engine).__name__} lacks members of harness.engine.base.Engine")
    programs = _programs(bench)
    requests = _requests(bench, programs)
    _check_refusals(engine, model, programs)
    _check_chunks(engine, requests)
    with watched(bench, "engine", engine, "logits", first=True):
        _check_logits(engine, reference, requests)
    with watched(bench, "engine", engine, "step_logits"):
        _check_steps(engine, reference, requests)
    for decoding in (_GREEDY, _SAMPLED):
        with watched(bench, "engine", engine, "run"):
            found = _texts(engine, requests, decoding)
        _check_texts(found, _texts(reference, requests, decoding))
        alone = _texts(engine, requests[:1], decoding)
        require("batch-invariance", alone[requests[0].id] == found[requests[0].id], "a request has another text alone than among others")
    with TemporaryDirectory(prefix="harness-adapter-") as folder:
        _check_adapter(engine, reference, bench, requests[0], Path(folder) / "adapter")
    _check_given_up(engine, bench, requests)
    return {name: tuple(text.token_ids) for name, text in _texts(engine, requests, _GREEDY).items()}


def _programs(bench: TaskBench) -> dict[str, tuple[Edit, ...]]:
    """Return edits by name."""
    import torch

    from harness.steering.add_vector import AddVector
    from harness.steering.clamp import ClampFeature
    from harness.steering.subspace import ReplaceAlong

    width = bench.model.d_model
    v, w = (torch.from_numpy(rng(0, "contract-kit", name).standard_normal(width)).float().to(bench.model.device) for name in "vw")
    found: dict[str, tuple[Edit, ...]] = {
        "nothing": (),
        "residual": (AddVector(Site(1), v),),
        "attention": (AddVector(Site(0, "attention"), v),),
        "mlp": (AddVector(Site(2, "mlp"), v),),
        "generated tokens": (AddVector(Site(1), v, Positions(prompt=False)),),
        "prompt without its first token": (AddVector(Site(1), v, Positions(generated=False, first_token=False)),),
        "first two and last": (AddVector(Site(1, "mlp"), v, Positions(prompt=False, generated=False, first=2, last=1)),),
        "several": (AddVector(Site(1), v), AddVector(Site(1), w, Positions(prompt=False)), AddVector(Site(2), w)),
        "in their order": (AddVector(Site(1), v), ReplaceAlong(Site(1), v / v.norm(), w)),
    }
    for dictionary in bench.dictionaries.values():
        found["clamp"] = (ClampFeature(Site(dictionary.layer), dictionary, (0, 1), (4.0, 0.0)),)
    return found


def _requests(bench: TaskBench, programs: dict[str, tuple[Edit, ...]]) -> list[GenerationRequest]:
    """Return a request for each program, with prompts of several lengths."""
    from harness.engine.base import GenerationRequest

    prompt = bench.model.prompt(bench.instructions[0].text)
    lengths = [max(2, len(prompt) - 3 * place) for place in range(len(programs))]
    return [GenerationRequest(name, prompt[:n], 3, edits) for (name, edits), n in zip(programs.items(), lengths, strict=True)]


def _texts(engine: Engine, requests: Sequence[GenerationRequest], decoding: Decoding) -> dict[str, Generated]:
    found: dict[str, Generated] = {}
    for chunk in engine.chunks(requests):
        for generated in engine.run(chunk, decoding):
            require("values", generated.id not in found, f"request {generated.id!r} was answered twice")
            found[generated.id] = generated
    require("values", set(found) == {request.id for request in requests}, "run left requests without a text, or made one that was not asked for")
    return found


def _check_texts(found: dict[str, Generated], expected: dict[str, Generated]) -> None:
    for name, own in expected.items():
        for what, ours, theirs in (
            ("text", tuple(found[name].token_ids), own.token_ids), ("letters", found[name].text, own.text), ("finish", found[name].finish, own.finish)
        ):  # fmt: skip
            require("reference", ours == theirs, f"the {what} of {name!r} is {ours!r}, and by the reference {theirs!r}")


def _check_steps(engine: Engine, reference: Engine, requests: Sequence[GenerationRequest]) -> None:
    new = {request.id: tuple(request.prompt_ids[:_NEW]) for request in requests}
    found, expected = dict(engine.step_logits(requests, new)), dict(reference.step_logits(requests, new))
    require("values", found.keys() == expected.keys(), "step_logits left requests out, or answered some that it was not asked for")
    for name, own in expected.items():
        require("values", found[name].shape == own.shape, f"logits of new tokens have shape {list(found[name].shape)} for {list(own.shape)}")
        far = _distance(found[name], own)
        require("reference", far <= _TOLERANCE, f"logits of new tokens with {name!r} differ from the reference's by {far:.2g} of their spread")


def _check_adapter(engine: Engine, reference: Engine, bench: TaskBench, plain: GenerationRequest, folder: Path) -> None:
    """Look whether an adapter is worn, or refused."""
    from harness.errors import EngineError
    from harness.testing.edit_kinds import random_adapter

    made = random_adapter(bench.model, folder)
    if made is None:
        return
    worn = replace(plain, id="an adapter", adapter=made)
    try:
        texts = engine.run([plain, worn], _GREEDY)
    except EngineError:
        return
    with watched(bench, "engine", engine, "run", first=True):  # libraries of adapters draw the weights that they then load
        found = {text.id: text for text in texts}
    _check_texts(found, {text.id: text for text in reference.run([plain, worn], _GREEDY)})


def _check_refusals(engine: Engine, model: SubjectModel, programs: dict[str, tuple[Edit, ...]]) -> None:
    import torch

    from harness.errors import EngineError
    from harness.steering.add_vector import AddVector

    beyond = AddVector(Site(10_000), torch.zeros(model.d_model))
    require("placing", engine.refuses(beyond), "an edit of a layer that does not exist is not refused")
    try:
        list(engine.logits([[1, 2]], [beyond]))
    except EngineError:
        pass
    else:
        raise ContractError("placing", "logits takes an edit of a layer that does not exist; raise EngineError")
    for name, edits in programs.items():
        for edit in edits:
            require("placing", engine.refuses(edit) is None, f"the edit of {name!r} is refused: {engine.refuses(edit)}")


def _check_chunks(engine: Engine, requests: list[GenerationRequest]) -> None:
    def parts(given: list[GenerationRequest]) -> list[list[str]]:
        return [[request.id for request in chunk] for chunk in engine.chunks(given)]

    found = parts(requests)
    once = sorted(name for chunk in found for name in chunk) == sorted(request.id for request in requests)
    require("values", once, "chunks does not hold each request once")
    require("determinism", parts(requests) == found, "chunks are others when they are asked for again")


def _check_logits(engine: Engine, reference: Engine, requests: Sequence[GenerationRequest]) -> None:
    for request in requests:
        rows = [request.prompt_ids, request.prompt_ids[:2]]
        for found, expected in zip(engine.logits(rows, request.edits), reference.logits(rows, request.edits), strict=True):
            require("values", found.shape == expected.shape, f"logits have shape {list(found.shape)} for {list(expected.shape)}")
            far = _distance(found, expected)
            require("reference", far <= _TOLERANCE, f"logits with {request.id!r} differ from the reference's by {far:.2g} of their spread")


def _distance(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, as a share of the spread of what is expected; infinite where one is not finite."""
    difference = (found.double().cpu() - expected.cpu()).abs().max() / expected.std().cpu().clamp(min=1e-12)
    return float(difference) if bool(difference.isfinite()) else float("inf")


class _Raises:
    """An edit that raises when it is applied."""

    sites, positions, batch_key = (Site(1),), Positions(), "raises"

    def stack(self, rows: object, device: object) -> _Raises:
        return self

    def apply(self, x: object, ctx: object) -> Tensor:
        raise Interruption("an edit raises")


def _check_given_up(engine: Engine, bench: TaskBench, requests: list[GenerationRequest]) -> None:
    """Give an iteration up after its first text, and have an edit raise; nothing may stay on the model."""
    def first(given: list[GenerationRequest]) -> None:
        texts = iter(engine.run(given, _GREEDY))
        next(texts)
        close = getattr(texts, "close", None)
        if close is not None:
            close()

    raising: Edit = _Raises()
    for given in (requests, [replace(request, edits=(raising,)) for request in requests]):
        try:
            with watched(bench, "engine", engine, "run"), suppress(Interruption):
                first(given)
        except ContractError as error:
            raise ContractError("hooks-removed", f"where an iteration is given up or an edit raises: {error.message}") from error
