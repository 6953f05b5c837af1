"""What travels with a job to NDIF, source and all: it may use torch, what it is given, and :mod:`harness.engine.sampling`, which travels along."""

from __future__ import annotations

from typing import Any

import torch

from harness.engine.sampling import choose, penalise


class RemoteEdit:
    """The edits at one site, step by step.

    Args:
        steps: of each forward pass, from the prompt's on, None where nothing is edited there, or (graph, the tensors that it takes beside the
            stream, ``[rows, tokens]`` bool: the tokens that are touched).
    """

    def __init__(self, steps: list[Any]) -> None:
        self.steps = steps

    def acts(self, step: int) -> bool:
        """Return whether anything is edited in this forward pass."""
        return step < len(self.steps) and self.steps[step] is not None

    def __call__(self, output: Any, step: int) -> Any:
        """Return what a module returned, with the stream in it edited. The graph runs on the CPU, where it was recorded."""
        graph, context, touched = self.steps[step]
        stream = output[0] if isinstance(output, tuple) else output
        x = stream.reshape(touched.shape[0], touched.shape[1], -1)
        edited = graph(x.float().cpu(), *context).to(x.device, x.dtype)
        x = torch.where(touched.to(x.device)[..., None], edited, x).reshape(stream.shape)
        return (x, *output[1:]) if isinstance(output, tuple) else x


class Chooser:
    """A logits processor of transformers' ``generate`` that leaves one token of each row: the one that its own draws choose, or that it is told.

    Args:
        uniforms: ``[rows, new tokens]`` float64.
        real: ``[rows, columns]`` bool, which columns of the prompts are no padding.
        eos: tokens that end a text.
        decoding: temperature, top_p, repetition_penalty, penalty_scope, min_new_tokens.
        told: ``[rows, new tokens]`` int64, in place of draws; the logits before each token are then kept in ``kept``.
    """

    def __init__(self, uniforms: Any, real: Any, eos: list[int], decoding: dict[str, Any], told: Any = None) -> None:
        self.uniforms, self.real, self.eos, self.decoding, self.told = uniforms, real, eos, decoding, told
        self.step = 0
        self.kept: list[Any] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return logits ``[rows, vocabulary]`` that leave the chosen tokens alone."""
        step, settings = self.step, self.decoding
        self.step += 1
        logits = scores.float().clone()
        if self.told is not None:
            self.kept.append(logits.cpu())
            chosen = self.told[:, step].to(scores.device)
        else:
            n_prompt = self.real.shape[1]
            real = torch.nn.functional.pad(self.real.to(scores.device), (0, input_ids.shape[1] - n_prompt), value=True)
            seen = torch.where(real, input_ids, -1)
            if settings["penalty_scope"] != "all":
                seen = seen[:, n_prompt:]
            logits = penalise(logits, seen, settings["repetition_penalty"])
            if step < settings["min_new_tokens"] and self.eos:
                logits[:, self.eos] = float("-inf")
            chosen = choose(logits, self.uniforms[:, step].to(scores.device), settings["temperature"], settings["top_p"])
        left = torch.full_like(scores, float("-inf"))
        return left.scatter_(1, chosen[:, None], 0.0)
