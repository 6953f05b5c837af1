"""The engine ``nnsight`` on a model that is loaded here: the torch engine's loop, in which every forward pass is a trace of nnsight.

The edits are interventions of the trace: the value of a module is read, edited and written back, as a user of nnsight would write it. The loop
around the traces is ours, since transformers' ``generate`` draws all rows from one generator: here a request's draws are its own, rows that have
ended leave the batch, and a text does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.engine.base import engine_version
from harness.engine.nnsight_package import Wrapped, load_nnsight
from harness.engine.placing import Placed, Reading
from harness.engine.torch_loop import TorchEngine
from harness.interventions import EditContext, Site
from harness.model.loading import SubjectModel
from harness.model.streams import stream_of, with_stream

Change = Callable[[Any], Any]
"""What a module returns ↦ what it is to return."""


class NNsightEngine(TorchEngine):
    """Generates in this process with nnsight's traces. Implements :class:`harness.engine.base.Engine`.

    Args:
        model: the subject model; between two texts it is as it was found.
        batch_size: as of the torch engine.
        use_cache: as of the torch engine.

    Raises:
        EngineError: nnsight is missing, or a batch size below 1.
    """

    name = "nnsight"
    version = engine_version("nnsight")

    def __init__(self, model: SubjectModel, *, batch_size: int | None = None, use_cache: bool = True) -> None:
        super().__init__(model, batch_size=batch_size, use_cache=use_cache)
        load_nnsight()
        self._reading: Reading = Traced(model)


class Traced:
    """Forward passes as traces of nnsight. Implements :class:`harness.engine.placing.Reading`.

    ``shares`` is False: every layer is in every trace, also those whose prompts the torch engine has read beforehand.
    """

    shares = False

    def __init__(self, model: SubjectModel) -> None:
        self._model = model
        self._wrapped: Wrapped | None = None
        self._ranks: dict[Site, int] = {}

    def read(
        self, forward: Callable[[], Tensor], placed: Mapping[Site, Sequence[Placed]], context: EditContext, *, prompt: bool, generated: bool
    ) -> Tensor:
        """See :meth:`harness.engine.placing.Reading.read`."""
        acting = {site: [edit for edit in edits if edit.acts_on(prompt, generated)] for site, edits in placed.items()}
        if self._wrapped is None or not self._wrapped.fits(self._model.hf):
            self._wrapped = Wrapped(self._model.hf)
        wrapped = self._wrapped
        with wrapped.at_work():
            if not placed.keys() <= self._ranks.keys():  # of all that are edited in this batch, before its first pass: some models keep their state
                self._ranks = ranks(self._model, [*self._ranks, *placed])
            sites = sorted((site for site, edits in acting.items() if edits), key=self._ranks.__getitem__)
            changes = [(wrapped.envoy(self._model.stream_module(site)), _change(acting[site], context)) for site in sites]
            return _trace(wrapped.root, forward, changes)


def _trace(root: Any, forward: Callable[[], Tensor], changes: Sequence[tuple[Any, Change]]) -> Tensor:
    """Run one forward pass as a trace. nnsight reads the block's source and runs it while the model runs, module by module in their order."""
    save = load_nnsight().save

    def read(_: object) -> Tensor:
        return forward()

    with root.trace(None, fn=read) as tracer:
        for envoy, change in changes:
            envoy.output = change(envoy.output)
        found = save(tracer.result)
    return found  # type: ignore[no-any-return]


def _change(edits: Sequence[Placed], context: EditContext) -> Change:
    def change(output: Any) -> Any:
        x = stream_of(output, len(context.real))
        for edit in edits:
            x = edit.apply(x, context)
        return with_stream(output, x)

    return change


def ranks(model: SubjectModel, sites: Sequence[Site]) -> dict[Site, int]:
    """Return when a forward pass comes by each site: a trace asks for values in that order.

    Where several sites lie in one layer, a pass over one token tells.
    """
    found = list(dict.fromkeys(sites))
    if len({site.layer for site in found}) == len(found):
        return {site: place for place, site in enumerate(sorted(found, key=lambda site: site.layer))}
    met: list[Site] = []

    def note(site: Site) -> Callable[..., None]:
        return lambda *_: met.append(site)

    handles = [model.stream_module(site).register_forward_hook(note(site)) for site in found]
    try:
        with torch.no_grad():
            model.hf(input_ids=torch.tensor([[model.pad_id]], device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return {site: place for place, site in enumerate(dict.fromkeys(met))}
