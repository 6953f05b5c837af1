"""What a plugin leaves changed on model or dictionary: one error that names it, and whoever asks next gets an untouched one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.guarded import first, plugin
from tokenizers.pre_tokenizers import Whitespace
from torch.nn.modules.module import register_module_forward_hook

from harness.errors import PluginError
from harness.interventions import Intervention
from harness.run.bench import TaskBench
from harness.run.guard import ChangedModelError
from harness.testing import check_steerer

CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a forward hook": (lambda b: b.model.layers[1].register_forward_hook(lambda *a: None), "a forward hook is left on model.layers.1"),
    "a pre hook": (lambda b: b.model.layers[0].mlp.register_forward_pre_hook(lambda *a: None), "a forward pre hook is left on model.layers.0.mlp"),
    "a backward hook": (lambda b: b.model.hf.register_full_backward_hook(lambda *a: None), "a backward hook is left on the whole model"),
    "a state-dict hook": (lambda b: b.model.hf.register_state_dict_pre_hook(lambda *a: None), "a state dict pre hook is left on"),
    "a hook on all modules": (lambda b: register_module_forward_hook(lambda *a: None), "a hook is left on all modules of torch"),
    "a weight in place": (lambda b: first(b).mul_(0.5), "values of model.layers.0.mlp.up_proj.weight have changed"),
    "a weight by data": (lambda b: first(b).data.mul_(0.5), "values of model.layers.0.mlp.up_proj.weight have changed"),
    "one value by data": (lambda b: first(b).data[3].__setitem__(5, 9.0), "values of model.layers.0.mlp.up_proj.weight have changed"),
    "two rows exchanged": (lambda b: first(b).data.copy_(first(b).data.roll(1, 0)), "values of model.layers.0.mlp.up_proj.weight have changed"),
    "other data": (lambda b: setattr(first(b), "data", torch.zeros(3, 3)), "up_proj.weight has shape (3, 3) in place of"),
    "another type": (lambda b: b.model.hf.half(), "has type torch.float16 in place of torch.float32"),
    "a buffer": (lambda b: b.model.hf.model.rotary_emb.inv_freq.mul_(2), "values of model.rotary_emb.inv_freq have changed"),
    "a new parameter": (
        lambda b: b.model.layers[0].register_parameter("extra", torch.nn.Parameter(torch.zeros(1))), "model.layers.0.extra is new",
    ),
    "a parameter gone": (lambda b: b.model.layers[0].mlp.up_proj.register_parameter("weight", None), "up_proj.weight is gone"),
    "a module replaced": (lambda b: setattr(b.model.layers[1], "mlp", torch.nn.Identity()), "module model.layers.1.mlp is replaced"),
    "a layer gone": (lambda b: b.model.layers.__delitem__(2), "module model.layers.2 is gone"),
    "forward replaced": (lambda b: setattr(b.model.layers[1], "forward", lambda x, **k: x), "forward of model.layers.1 is replaced"),
    "encode of a dictionary": (lambda b: setattr(b.dictionaries["sae"].sae, "encode", lambda x: x), "encode of the whole model is replaced"),
    "tokens that are new": (lambda b: b.model.tokenizer.add_tokens(["a new one"]), "tokens were added to its tokenizer"),
    "tokens of the vocabulary": (lambda b: b.model.tokenizer.add_tokens([b.model.tokenizer.convert_ids_to_tokens(9)]), "tokens were added to its"),
    "how texts are cut up": (lambda b: setattr(b.model.tokenizer.backend_tokenizer, "pre_tokenizer", Whitespace()), "pre_tokenizer of its tokenizer"),
    "a dictionary": (lambda b: b.dictionaries["sae"].sae.W_dec.data.mul_(2), "has changed dictionary sae in"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_left_changed_is_one_error(name: str, bench: TaskBench) -> None:
    change, expected = CHANGES[name]
    before, dictionary = bench.model, bench.dictionaries["sae"]
    reference = next(iter(bench.logits([[1, 5, 9]]))).clone()
    with pytest.raises(ChangedModelError) as error:
        plugin("labeler", label=lambda b, concepts: (change(b), [])[1]).label(bench, [])
    assert error.value.message.startswith("labeler 'mine' of their-dist has changed ")
    assert " in label: " in error.value.message
    assert expected in error.value.message
    assert error.value.hint
    assert (bench.model is not before) or (bench.dictionaries["sae"] is not dictionary)  # whoever asks next gets an untouched one
    assert torch.equal(next(iter(bench.logits([[1, 5, 9]]))), reference)


PREPARES: dict[str, Callable[[Any], Any]] = {
    "removed": lambda b: b.model.layers[1].register_forward_hook(lambda *a: None).remove(),
    "put back": lambda b: (old := first(b).data.clone(), first(b).data.mul_(0), first(b).data.copy_(old)),
    "put back as another tensor": lambda b: setattr(first(b), "data", first(b).data.clone()),
    "loaded again": lambda b: b.model.hf.load_state_dict({k: v.clone() for k, v in b.model.hf.state_dict().items()}),
}


@pytest.mark.parametrize("name", PREPARES)
def test_what_is_put_back_is_fine(name: str, bench: TaskBench) -> None:
    model = bench.model
    plugin("steerer", prepare=lambda b, labelings: PREPARES[name](b)).prepare(bench, [])
    assert bench.model is model


def test_a_plugin_that_raises_is_blamed_for_that_and_its_hooks_are_gone(bench: TaskBench) -> None:
    hooked = bench.model

    def label(b: Any, concepts: Any) -> None:
        b.model.layers[0].register_forward_hook(lambda *a: None)
        raise ValueError("no")

    with pytest.raises(PluginError, match="failed in label: ValueError: no"):
        plugin("labeler", label=label).label(bench, [])
    assert not hooked.layers[0]._forward_hooks
    assert bench.model is not hooked


def test_the_contract_kit_says_it_too(bench: TaskBench) -> None:
    from harness.contracts import SteererTraits

    class Leaves:
        traits = SteererTraits(unit="none", grid=(1.0,), neutral=None)

        def prepare(self, b: Any, labelings: Any) -> None:
            b.model.layers[1].register_forward_hook(lambda *a: None)

        def intervene(self, labeling: Any, strength: float) -> Intervention:
            return Intervention()

    with pytest.raises(AssertionError, match=r"steerer 'Leaves' of .* has changed the subject model in prepare: a forward hook is left"):
        check_steerer(Leaves, bench)


def test_tables_that_grow_by_themselves_are_nobodys_change(bench: TaskBench) -> None:
    rotary = bench.model.hf.model.rotary_emb
    rotary.register_buffer("cos", torch.zeros(4), persistent=False)
    bench.guard.accept()
    model = bench.model

    def label(b: Any, concepts: Any) -> Any:
        rotary.register_buffer("cos", torch.zeros(8), persistent=False)
        rotary.register_buffer("sin", torch.zeros(8), persistent=False)
        return []

    for _ in range(2):
        assert plugin("labeler", label=label).label(bench, []) == []
    assert bench.model is model


def test_weights_whose_bytes_cannot_be_read_are_told_by_their_facts() -> None:
    from harness.model.fingerprint import Fingerprint

    class Opaque(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            if function is torch.Tensor.view:
                raise NotImplementedError("no bytes")
            return super().__torch_function__(function, types, arguments, named or {})

    module = torch.nn.Module()
    module.register_buffer("weight", torch.zeros(3).as_subclass(Opaque))
    found = Fingerprint(module)
    assert found.weights() == []
    module.register_buffer("weight", torch.zeros(4).as_subclass(Opaque))
    assert found.weights() == ["weight has shape (4,) in place of (3,)"]
