"""The engine ``ndif``: nnsight with ``remote=True``. A chunk is one job: transformers' ``generate`` on a model that NDIF serves.

Sampling must be ours (a request's draws are its own), so ``generate`` is greedy over logits of which a processor leaves one token in each row: the
one that the request's draws choose. With a job for each token there would be a journey for each; so the whole decoding is one. Edits travel as
graphs of torch operations (:mod:`harness.engine.graphs`), since the server has none of this program.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.engine.base import Chunk, Generated, GenerationRequest, check_edit, check_requests, engine_version
from harness.engine.graphs import context_tensors, graph_of, why_no_graph
from harness.engine.ndif_job import HOST, Job
from harness.engine.nnsight_package import load_nnsight
from harness.engine.placing import Placed, place, why_not
from harness.engine.remote_code import Chooser, RemoteEdit
from harness.engine.sampling import check_decoding
from harness.engine.torch_loop import check_prompts
from harness.engine.traced import ranks
from harness.errors import EngineError
from harness.interventions import Edit, EditContext
from harness.model.activations import Row, check_lengths, row_lengths
from harness.model.loading import SubjectModel
from harness.types import Decoding, FinishReason, rng

KEY = "NDIF_API_KEY"
ROWS = 32
"""Requests of one job."""
_DECODING = ("temperature", "top_p", "repetition_penalty", "penalty_scope", "min_new_tokens")


class NdifEngine:
    """Generates on NDIF. Implements :class:`harness.engine.base.Engine`.

    The model that is loaded here gives prompts, shapes and the order of its modules; texts and logits come from the one that the server has under
    the same name. Whether the two are the same, ``harness engines verify ndif --model NAME`` tells.

    Args:
        model: the subject model, on the CPU, loaded from the hub.
        use_cache: False has the server read whole texts at every step.
        served_as: the model's name on the hub, where it was loaded from elsewhere.
        rows: requests of one job.

    Raises:
        EngineError: nnsight is missing, no key is in the environment, or the model is not one of the hub's.
    """

    name = "ndif"
    version = engine_version("ndif")

    def __init__(self, model: SubjectModel, *, use_cache: bool = True, served_as: str = "", rows: int = ROWS) -> None:
        load_nnsight()
        from nnsight.schema.config import CONFIG

        self.model, self._use_cache, self._rows = model, use_cache, rows
        self._key = os.environ.get(KEY) or CONFIG.API.APIKEY or ""
        self._host = (os.environ.get(HOST) or CONFIG.API.HOST).rstrip("/")
        if not self._key:
            raise EngineError("the engine ndif needs a key of NDIF, and none is set", given=None, hint=f"set {KEY}; login.ndif.us hands keys out")
        if not self._host.startswith(("http://", "https://")):
            raise EngineError(f"{HOST} is {self._host!r}", given=self._host, allowed="an address that begins with http:// or https://")
        self._repository = served_as or model.source.partition("@")[0]
        if not self._repository or os.path.exists(self._repository):
            message = f"{model.name} was not loaded from the hub, and NDIF serves models of the hub by their names"
            raise EngineError(message, given=model.source, hint="name the model as the hub does, or use --engine nnsight")
        if model.device.type != "cpu":
            hint = "use --device cpu"
            raise EngineError(f"the model is on {model.device}", given=str(model.device), allowed="cpu: edits are recorded there", hint=hint)
        self._made: Any = None
        self._reasons: dict[str, str | None] = {}

    def refuses(self, edit: Edit) -> str | None:
        """Return why the edit cannot be placed, or cannot be written as a graph of torch operations; None where it can."""
        reason = why_not(self.model, edit)
        if reason is None:
            if edit.batch_key not in self._reasons:
                self._reasons[edit.batch_key] = why_no_graph(edit, self.model.d_model)
            reason = self._reasons[edit.batch_key]
        return reason

    def chunks(self, requests: Chunk) -> list[list[GenerationRequest]]:
        """Return the jobs: requests of similar prompt length, the shortest first."""
        ordered = sorted(requests, key=lambda request: len(request.prompt_ids))
        return [ordered[start : start + self._rows] for start in range(0, len(ordered), self._rows)]

    def run(self, requests: Chunk, decoding: Decoding) -> Iterator[Generated]:
        """Return a text for each request, all when the job is done. A row that has ended is read on until the longest has, and cut.

        Raises:
            EngineError: at once, for what cannot be run, an adapter among it; while iterating, where NDIF cannot be reached or the job fails.
        """
        check_decoding(decoding)
        self._check(requests, decoding)
        return self._run(requests, decoding)

    def step_logits(self, requests: Chunk, new: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Tensor]]:
        """See :meth:`harness.engine.base.Engine.step_logits`; one job."""
        decoding = Decoding(max_new_tokens=max((len(new[request.id]) for request in requests), default=1))
        self._check(requests, decoding)
        return self._step_logits(requests, decoding, new)

    def logits(self, texts: Sequence[Row], edits: Sequence[Edit] = (), adapter: str | None = None) -> Iterator[Tensor]:
        """See :meth:`harness.engine.base.Engine.logits`; one job."""
        for edit in edits:
            check_edit(self, edit)
        _check_adapter(adapter)
        check_lengths(self.model, row_lengths(texts))
        return self._logits(texts, tuple(edits))

    # ------------------------------------------------------------------------------------------------------------------- jobs

    def _check(self, requests: Chunk, decoding: Decoding) -> None:
        check_requests(self, requests)
        check_prompts(self.model, requests, decoding)
        for request in requests:
            _check_adapter(request.adapter)

    def _run(self, requests: Chunk, decoding: Decoding) -> Iterator[Generated]:
        if not requests:
            return
        found, _ = self._generate(requests, decoding, None)
        for request, ids in zip(requests, found.tolist(), strict=True):
            end = next((place for place, token in enumerate(ids) if token in self.model.eos_ids), None)
            finish: FinishReason = "length" if end is None else "eos"
            ids = ids[:end]
            yield Generated(request.id, tuple(ids), self.model.decode(ids), finish)

    def _step_logits(self, requests: Chunk, decoding: Decoding, new: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Tensor]]:
        if not requests:
            return
        most = decoding.max_new_tokens  # rows with fewer are told their last token again, and what comes of it is left out
        told = torch.tensor([[*new[request.id], *[new[request.id][-1]] * (most - len(new[request.id]))] for request in requests])
        _, kept = self._generate(requests, decoding, told)
        for row, request in enumerate(requests):
            yield request.id, torch.stack([step[row] for step in kept[: len(new[request.id])]])

    def _generate(self, requests: Chunk, decoding: Decoding, told: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Return the new tokens ``[rows, max_new_tokens]``, and of rows that were told theirs the logits ``[rows, vocabulary]`` before each."""
        from transformers import GenerationConfig

        tokens, real = _left([request.prompt_ids for request in requests], self.model.pad_id)
        steps = decoding.max_new_tokens
        uniforms = torch.from_numpy(np.stack([rng(request.seed, "sampling", request.id).random(steps) for request in requests]))
        chooser = Chooser(uniforms, real, sorted(self.model.eos_ids), {name: getattr(decoding, name) for name in _DECODING}, told)
        # what is left out would be taken from the server's checkpoint; no token is -1, so no row ends before the others
        settings = GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=steps, eos_token_id=[-1], pad_token_id=self.model.pad_id, use_cache=self._use_cache,
            repetition_penalty=1.0, no_repeat_ngram_size=0, return_dict_in_generate=False,
        )  # fmt: skip
        remote, places = self._remote(), self._places([request.edits for request in requests], real, steps)
        backend, mask, save = self._backend(remote), real.long(), load_nnsight().save
        with remote.generate(
            tokens, attention_mask=mask, generation_config=settings, logits_processor=[chooser], backend=backend
        ) as tracer:
            for step in tracer.iter[:steps]:
                for envoy, edit in places:
                    if edit.acts(step):
                        envoy.output = edit(envoy.output, step)
            made = save(tracer.result)  # noqa: F841 (the answer names them)
            kept = save(chooser.kept)  # noqa: F841
        found = backend.answer()
        return found["made"][:, tokens.shape[1] :], found["kept"]

    def _logits(self, texts: Sequence[Row], edits: tuple[Edit, ...]) -> Iterator[Tensor]:
        for start in range(0, len(texts), self._rows):
            part = texts[start : start + self._rows]
            tokens, real = _left([[int(token) for token in text] for text in part], self.model.pad_id)
            remote, places = self._remote(), self._places([edits] * len(part), real, 1)
            backend, mask, save = self._backend(remote), real.long(), load_nnsight().save
            with remote.trace(tokens, attention_mask=mask, backend=backend) as tracer:
                for envoy, edit in places:
                    if edit.acts(0):
                        envoy.output = edit(envoy.output, 0)
                found = save(tracer.result.logits)  # noqa: F841
            logits = backend.answer()["found"]
            for row, text in enumerate(part):
                yield logits[row, tokens.shape[1] - len(text) :].float()

    def _places(self, rows: Sequence[Sequence[Edit]], real: Tensor, steps: int) -> list[tuple[Any, RemoteEdit]]:
        """Return each site's envoy and its edits, in the order in which a forward pass comes by them."""
        placed, contexts = place(rows, torch.device("cpu")), _contexts(real, steps, self._use_cache)
        order, envoys = ranks(self.model, list(placed)), {envoy.path: envoy for envoy in self._remote().modules()}
        names = {id(module): name for name, module in self.model.hf.named_modules()}
        root = self._remote().path
        return [
            (envoys[f"{root}.{names[id(self.model.stream_module(site))]}"], RemoteEdit(_steps(placed[site], contexts, self.model.d_model)))
            for site in sorted(placed, key=order.__getitem__)
        ]

    def _remote(self) -> Any:
        """Return nnsight's wrapper of the model without its weights, made once."""
        if self._made is None:
            from nnsight import TransformersModel
            from nnsight.modeling import huggingface

            config = copy.deepcopy(self.model.hf.config)
            with torch.device("meta"):
                empty = type(self.model.hf)(config)
            made: Any = TransformersModel(empty.eval(), task="text-generation", tokenizer=copy.deepcopy(self.model.tokenizer), device="meta")
            made.repo_id, made.revision = self._repository, None
            huggingface._ID_CACHE.setdefault(self._repository, self._repository)  # it is the name that the hub gave us the model by
            self._made = made
        return self._made

    def _backend(self, remote: Any) -> Job:
        import cloudpickle
        from nnsight.intervention.backends.remote import RemoteBackend

        from harness.engine import remote_code, sampling

        for module in (remote_code, sampling):
            cloudpickle.register_pickle_by_value(module)
        environment = remote._remoteable_get_env()
        backend = RemoteBackend(remote.to_model_key(), host=self._host, api_key=self._key, env=environment, blocking=False)
        backend.display.enabled = False
        return Job(backend, self._host)


def _left(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Return tokens ``[rows, columns]``, padded on the left, and which of them are real."""
    width = max(map(len, prompts))
    tokens = torch.tensor([[*[pad] * (width - len(prompt)), *prompt] for prompt in prompts])
    real = torch.tensor([[place >= width - len(prompt) for place in range(width)] for prompt in prompts])
    return tokens, real


def _contexts(real: Tensor, steps: int, use_cache: bool) -> list[EditContext]:
    """Return what is read at each step: the prompts, and then the new tokens, one by one or with all that came before."""
    found, (rows, width) = [], real.shape
    for step in range(steps):
        whole = torch.cat([real, real.new_ones(rows, step)], dim=1)
        generated = (torch.arange(width + step) >= width).expand_as(whole)
        context = EditContext.of(whole, generated)
        found.append(context.last(1) if step and use_cache else context)
    return found


def _steps(edits: Sequence[Placed], contexts: Sequence[EditContext], d_model: int) -> list[Any]:
    """Return what :class:`~harness.engine.remote_code.RemoteEdit` takes; of one width the graph is recorded once."""
    graphs: dict[tuple[int, tuple[int, ...]], Any] = {}
    found: list[Any] = []
    for context in contexts:
        prompt, generated = bool((context.real & ~context.generated).any()), bool(context.generated.any())
        acting = [place for place, edit in enumerate(edits) if edit.acts_on(prompt, generated)]
        if not acting:
            found.append(None)
            continue
        chosen, key = [edits[place] for place in acting], (context.real.shape[1], tuple(acting))
        if key not in graphs:
            graphs[key] = graph_of(chosen, context, d_model)
        touched = torch.zeros_like(context.real)
        for edit in chosen:
            own = context if edit.rows is None else context.rows(edit.rows)
            part = own.touched(edit.positions)
            touched = touched | part if edit.rows is None else touched.index_copy(0, edit.rows, touched[edit.rows] | part)
        found.append((graphs[key], context_tensors(context), touched))
    return found


def _check_adapter(folder: str | None) -> None:
    if folder is not None:
        message = f"the engine ndif cannot have a model wear the adapter {folder}, which lies on this machine"
        raise EngineError(message, given=folder, hint="use --engine torch or nnsight")
