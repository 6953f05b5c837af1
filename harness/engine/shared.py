"""What prompts have in common is read once, up to the layer at which edits begin.

A run asks one instruction under many methods, concepts and strengths, and prompts begin alike: with the same system prompt, or with what tells
the model of one concept. Below the first edit, what stands at a token depends on the tokens up to it alone. So the lower layers read a tree of the
prompts: each token once after each beginning, and seeing that beginning alone. Then all rows go through the model with these layers skipped, each
given its own path through the tree. Whether a model can be read so is tried on short texts, as all of decoding is (:mod:`harness.engine.plan`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.engine.base import GenerationRequest
from harness.engine.rows import Rows
from harness.engine.timing import CLOCK, PROMPTS
from harness.interventions import Site
from harness.model.adapters import Adapter
from harness.model.cache import cache_argument
from harness.model.loading import SubjectModel, hidden_of, with_hidden
from harness.model.structure import text_config

_MOST = 0.75
"""Share of the tokens that may be left to read; above it there is little to save, and every token of the tree is compared with all others."""
_REACHES = ("sliding_window", "attention_chunk_size")
"""How a configuration says that attention reaches so many tokens back. In a tree these are not the tokens before."""


class Tree:
    """The beginnings of some prompts, each once, from their first tokens on.

    Attributes:
        tokens: of the nodes; a node comes after that of the token before it.
        depths: how many tokens stand before each.

    Args:
        prompts: token ids.
    """

    def __init__(self, prompts: Sequence[Sequence[int]]) -> None:
        self.tokens: list[int] = []
        self.depths: list[int] = []
        self._before: list[int] = []
        self._after: dict[tuple[int, int], int] = {}
        for prompt in {tuple(prompt): None for prompt in prompts}:
            self.add(prompt)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, prompt: Sequence[int]) -> list[int]:
        """Return the node of each token of a prompt; those that are new are added."""
        node, path = -1, []
        for depth, token in enumerate(prompt):
            place = (node, token)
            if place not in self._after:
                self._after[place] = len(self.tokens)
                self.tokens.append(token)
                self.depths.append(depth)
                self._before.append(node)
            node = self._after[place]
            path.append(node)
        return path

    def seen(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which nodes each node sees, ``[nodes, nodes]``: those on its path, itself included."""
        seen = np.eye(len(self), dtype=bool)
        for node, before in enumerate(self._before):
            if before >= 0:
                seen[node] |= seen[before]
        return seen


@dataclass(frozen=True, eq=False)
class Common:
    """What the lower layers have read of a tree.

    Attributes:
        tree: of the prompts.
        hidden: the stream after the last of these layers, ``[1, nodes, d_model]``.
        form: what that layer returned, with an empty stream.
        kept: keys and values of each of these layers, ``[1, heads, nodes, width]``.
    """

    tree: Tree
    hidden: Tensor
    form: Any
    kept: Sequence[tuple[Tensor, Tensor]]

    @contextmanager
    def given(self, rows: Rows) -> Iterator[None]:
        """Within the context rows read their prompts, which are in the tree, without the layers that have read it; then their cache is whole."""
        layers, paths = list(rows.model.layers)[: len(self.kept)], self._paths(rows)
        stream = self.hidden[0][paths.to(self.hidden.device)]

        # Called by the model in place of a layer's forward, with whatever its architecture hands to its layers.
        def passed(*arguments: Any, **named: Any) -> Any:
            return with_hidden(self.form, arguments[0] if arguments else named["hidden_states"])

        def given(*arguments: Any, **named: Any) -> Any:
            return with_hidden(self.form, stream)

        with _replaced(layers, [*[passed] * (len(layers) - 1), given]):
            yield
        rows.fill((keys[0][:, paths.to(keys.device)], values[0][:, paths.to(values.device)]) for keys, values in self.kept)

    def _paths(self, rows: Rows) -> Tensor:
        """Return the node of each token of the rows, ``[rows, columns]``; at padding some node: its numbers matter to nobody, but must be finite."""
        paths = torch.zeros(rows.tokens.shape, dtype=torch.long)
        known: dict[tuple[int, ...], list[int]] = {}
        for row, (ids, start) in enumerate(zip(rows.tokens.tolist(), rows.real.int().argmax(dim=1).tolist(), strict=True)):
            prompt = tuple(ids[start:])
            if prompt not in known:
                known[prompt] = self.tree.add(prompt)
            paths[row, start:] = torch.tensor(known[prompt])
        return paths


class Sharing:
    """How the prompts of some requests are read.

    Args:
        model: the subject model.
        after: the last layer in which what begins alike is the same, see :func:`last_common_layer`; -1 where there is no such layer.
        able: whether the model can be read so; asked only where it is of use, since to find it takes some passes.
        adapter: that all requests wear, or None.
        tokens: nodes of a tree at most.
    """

    def __init__(self, model: SubjectModel, after: int, able: Callable[[], bool], adapter: Adapter | None, tokens: int) -> None:
        self._model, self._after, self._able, self._adapter, self._tokens = model, after, able, adapter, tokens

    def parts(self, requests: Sequence[GenerationRequest]) -> list[list[GenerationRequest]]:
        """Return the requests in parts, each of which shares a tree where one is of use."""
        whole = list(requests)
        tree = Tree([request.prompt_ids for request in requests]) if self._after >= 0 else None
        if tree is None or len(tree) <= self._tokens or not _worth(tree, requests) or not self._able():
            return [whole]
        parts: list[list[GenerationRequest]] = []
        for request in sorted(requests, key=lambda request: tuple(request.prompt_ids)):
            tree.add(request.prompt_ids)
            if not parts or len(tree) > self._tokens:
                tree = Tree([request.prompt_ids])
                parts.append([])
            parts[-1].append(request)
        return parts

    def read(self, requests: Sequence[GenerationRequest]) -> Common | None:
        """Have the lower layers read what the prompts have in common; None where that is of no use, or the model cannot."""
        if self._after < 0:
            return None
        tree = Tree([request.prompt_ids for request in requests])
        if not _worth(tree, requests) or len(tree) > self._tokens or max(tree.depths) >= _reach(self._model) or not self._able():
            return None
        with CLOCK.part(PROMPTS, self._model.device), torch.no_grad(), nullcontext() if self._adapter is None else self._adapter.worn():
            return read_tree(self._model, tree, self._after)


def last_common_layer(model: SubjectModel, sites: Sequence[Site]) -> int:
    """Return the last layer whose output, before any edit, is the same in all rows of one prompt; -1 where there is no such layer."""
    ends = (site.layer if site.stream == "residual" else site.layer - 1 for site in sites)
    return min(ends, default=model.n_layers - 1)


def reads_trees(model: SubjectModel) -> bool:
    """Return whether a model's attention sees what a mask shows it, and nothing of its own: then a mask of tokens by tokens may be that of a tree."""
    return bool(getattr(type(model.hf), "_supports_attention_backend", False))


def read_tree(model: SubjectModel, tree: Tree, after: int) -> Common:
    """Have the layers up to ``after`` read a tree in one pass.

    Raises:
        ValueError: a layer returns, or keeps, what is not of tokens: it cannot be given to other rows.
    """
    from transformers import DynamicCache

    layer, cache = model.layers[after], DynamicCache()
    original = layer.forward

    def ended(*arguments: Any, **named: Any) -> Any:  # in place of the layer's forward, with whatever the architecture hands to it
        raise _Read(original(*arguments, **named))

    seen = torch.from_numpy(tree.seen()).to(model.device)
    mask = torch.zeros(seen.shape, dtype=model.dtype, device=model.device).masked_fill(~seen, torch.finfo(model.dtype).min)
    ids, positions = (torch.tensor([values], device=model.device) for values in (tree.tokens, tree.depths))
    with _replaced([layer], [ended]):
        try:
            model.hf(input_ids=ids, attention_mask=mask[None, None], position_ids=positions, use_cache=True, **{cache_argument(model.hf): cache})
        except _Read as read:
            found = read.found
    hidden = hidden_of(found)
    form = with_hidden(found, hidden[:, :0])
    if hidden.shape[:2] != ids.shape or any(isinstance(other, Tensor) for other in (form[1:] if isinstance(form, tuple | list) else ())):
        raise ValueError(f"layer {after} returned more than a stream {tuple(ids.shape)}")
    kept = [(own.keys, own.values) for own in cache.layers[: after + 1]]
    if len(kept) <= after or not all(isinstance(x, Tensor) and x.dim() == 4 and (len(x), x.shape[2]) == ids.shape for pair in kept for x in pair):
        raise ValueError(f"a layer up to {after} keeps something other than keys and values")
    return Common(tree, hidden, form, kept)


class _Read(Exception):
    """Ends a forward pass at a layer, and carries out what that returned."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found


@contextmanager
def _replaced(layers: Sequence[nn.Module], forwards: Sequence[Callable[..., Any]]) -> Iterator[None]:
    """Within the context the layers do something else; their hooks stay."""
    own = [vars(layer).get("forward") for layer in layers]  # where parts of a model are moved between devices, a layer has one of its own
    try:
        for layer, forward in zip(layers, forwards, strict=True):
            layer.forward = forward
        yield
    finally:
        for layer, had in zip(layers, own, strict=True):
            if had is not None:
                layer.forward = had
            elif "forward" in vars(layer):
                del layer.forward


def _worth(tree: Tree, requests: Sequence[GenerationRequest]) -> bool:
    return len(tree) <= _MOST * sum(len(request.prompt_ids) for request in requests)


def _reach(model: SubjectModel) -> float:
    """Return how many tokens back attention reaches, as far as the configuration says so."""
    given = (getattr(text_config(model.hf), name, None) for name in _REACHES)
    return min((reach for reach in given if isinstance(reach, int)), default=float("inf"))
