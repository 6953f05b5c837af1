"""How other tools generate steered texts, each as it is used: what ``steering.py`` is held against."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.model import SubjectModel

Run = Callable[[], int]
"""Makes texts once; returns the number of their tokens."""


def padded(model: SubjectModel, prompts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Prompts padded on the left, and their mask: ``[rows, columns]`` each."""
    width = max(map(len, prompts))
    tokens = torch.full((len(prompts), width), model.pad_id)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return {"input_ids": tokens.to(model.device), "attention_mask": mask.to(model.device)}


def settings(model: SubjectModel, least: int, most: int, temperature: float) -> dict[str, Any]:
    """What transformers' ``generate`` is told."""
    sampled = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0} if temperature else {"do_sample": False}
    ends = {"eos_token_id": sorted(model.eos_ids) or None, "pad_token_id": model.pad_id}
    return {"max_new_tokens": most, "min_new_tokens": least, **sampled, **ends}


def counted(model: SubjectModel, new: Tensor) -> int:
    """Tokens of texts ``[rows, columns]`` up to their ends."""
    ends = torch.isin(new, torch.tensor(sorted(model.eos_ids), device=new.device))
    return int((ends.cumsum(dim=1) == 0).sum())


def batches(rows: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def plain_generate(model: SubjectModel, prompts: Sequence[Sequence[int]], size: int, options: dict[str, Any]) -> Run:
    """transformers' own ``generate``, unsteered, in fixed batches in the order of the prompts."""

    def run() -> int:
        n = 0
        for part in batches(prompts, size):
            given = padded(model, part)
            n += counted(model, model.hf.generate(**given, **options)[:, given["input_ids"].shape[1] :])
        return n

    return run


def pyvene_way(model: SubjectModel, prompts: Sequence[Sequence[int]], vectors: Tensor, layer: int, size: int, options: dict[str, Any]) -> Run | None:
    """AxBench's way: pyvene adds each row's vector after a layer, in batches of ``size``. None where pyvene is not installed."""
    try:
        import pyvene
    except ImportError:
        return None

    class Addition(pyvene.SourcelessIntervention, pyvene.TrainableIntervention):  # type: ignore[misc]
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs, keep_last_dim=True)
            self.proj = nn.Linear(model.d_model, len(vectors), bias=False)
            self.proj.weight.data = vectors.clone()

        def forward(self, base: Tensor, source: Any = None, subspaces: Any = None) -> Tensor:
            chosen = self.proj.weight[torch.as_tensor(subspaces["idx"], device=base.device)]
            return base + (torch.as_tensor(subspaces["mag"], device=base.device)[:, None] * chosen).unsqueeze(1).to(base.dtype)

    place = {"layer": layer, "component": f"model.layers[{layer}].output", "low_rank_dimension": 1}
    intervention = Addition(embed_dim=model.d_model, low_rank_dimension=1).to(model.device)
    hf = copy.deepcopy(model.hf)
    steered = pyvene.IntervenableModel(pyvene.IntervenableConfig(representations=[{**place, "intervention": intervention}]), hf)
    steered.set_device(model.device)

    def run() -> int:
        n = 0
        for part in batches(range(len(prompts)), size):
            given = padded(model, [prompts[i] for i in part])
            edits = [{"idx": list(part), "mag": [1.0] * len(part)}]
            _, made = steered.generate(given, unit_locations=None, intervene_on_prompt=True, subspaces=edits, **options)
            n += counted(model, made[:, given["input_ids"].shape[1] :])
        return n

    return run


def nnsight_way(model: SubjectModel, prompts: Sequence[Sequence[int]], vectors: Tensor, layer: int, size: int, options: dict[str, Any]) -> Run:
    """nnsight's own loop: a traced ``generate`` with the edit at each step. The vectors are those of ``prompts``, row by row."""
    from nnsight import TransformersModel  # type: ignore[attr-defined]

    traced: Any = TransformersModel(copy.deepcopy(model.hf), task="text-generation", tokenizer=model.tokenizer)
    vectors = vectors.to(model.device, model.dtype)

    def made(given: dict[str, Tensor], own: Tensor) -> Tensor:
        from nnsight import save

        with traced.generate(**options) as tracer:
            with tracer.invoke(given["input_ids"], attention_mask=given["attention_mask"]):
                for _ in tracer.iter[:]:
                    place = traced.model.layers[layer]
                    place.output = place.output + own[:, None]
            with tracer.invoke():  # the loop ends with the texts, and what follows it in its own block does not run
                found = save(tracer.result)
        return found  # type: ignore[no-any-return]

    def run() -> int:
        n = 0
        for part in batches(range(len(prompts)), size):
            given = padded(model, [prompts[i] for i in part])
            n += counted(model, made(given, vectors[list(part)])[:, given["input_ids"].shape[1] :])
        return n

    return run
