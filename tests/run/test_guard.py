"""What a plugin leaves changed in memory: put back silently, or one error that names it, with nothing kept and nothing computed with it."""

from __future__ import annotations

import contextlib
import random
import sys
import textwrap
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import Whitespace
from torch.nn.modules.module import register_module_forward_hook

from harness.errors import PluginError
from harness.interventions import Intervention
from harness.plugin.calls import PluginName
from harness.plugin.guarded import guarded
from harness.run.bench import TaskBench
from harness.run.guard import ChangedModelError
from harness.testing import check_steerer, toy_bench


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("toy")
    toy_bench(made).statistics()
    return made


@pytest.fixture
def bench(folder: Path, tmp_path: Path) -> TaskBench:
    """A bench whose model a test may spoil, with a cache of the test's own."""
    from harness.files.artifacts import ArtifactCache

    made = toy_bench(folder)
    made.artifacts = ArtifactCache(tmp_path / "cache")
    return made


def plugin(kind: str, **methods: Callable[..., Any]) -> Any:
    """A plugin with these methods, as the core calls it."""
    return guarded(PluginName(kind, "mine", "their-dist"), types.SimpleNamespace(**methods))


def first(bench: Any) -> torch.nn.Parameter:
    """A weight of the subject model."""
    weight: torch.nn.Parameter = bench.model.hf.model.layers[0].mlp.up_proj.weight
    return weight


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


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tensors were read as a whole, at each comparison."""
    from harness.model import fingerprint

    counts: list[int] = []
    whole = fingerprint._checksums
    monkeypatch.setattr(fingerprint, "_checksums", lambda tensors: counts.append(len(tensors)) or whole(tensors))
    return counts


def test_values_are_compared_where_the_plugin_was_handed_them(bench: TaskBench, compared: list[int]) -> None:
    _ = bench.model, bench.dictionaries
    compared.clear()
    idle = plugin("steerer", prepare=lambda b, labelings: b.rng("x"), intervene=lambda labeling, strength: Intervention())
    idle.prepare(bench, [])
    bench.statistics()
    assert sum(compared) == 0
    of_dictionary = plugin("detector", prepare=lambda b, labelings: b.dictionaries["sae"], scores=lambda labelings, texts: [])
    of_dictionary.prepare(bench, [])
    first_time = sum(compared)
    assert 0 < first_time < 20, "those of the dictionary alone"
    compared.clear()
    of_dictionary.scores([], None)
    assert sum(compared) == first_time, "it may have kept it"


@pytest.mark.parametrize("asked", ["model", "services", "engine"])
def test_a_plugin_that_keeps_the_model_is_found_out_later(bench: TaskBench, asked: str) -> None:
    kept: list[Any] = []

    def score(labelings: Any, texts: Any) -> list[Any]:
        model = kept[0] if asked == "model" else kept[0].model
        model.hf.model.layers[0].mlp.up_proj.weight.data.mul_(0.5)
        return []

    detector = plugin("detector", prepare=lambda b, labelings: kept.append(getattr(b, asked)), scores=score)
    detector.prepare(bench, [])
    with pytest.raises(ChangedModelError) as error:
        detector.scores([], None)
    assert "up_proj.weight have changed" in error.value.message


def test_what_torch_knows_to_be_written_is_compared_in_any_case(bench: TaskBench, compared: list[int]) -> None:
    weight = first(bench)
    compared.clear()

    def write(b: Any, labelings: Any) -> None:
        with torch.no_grad():
            weight.mul_(0.5)

    with pytest.raises(ChangedModelError) as error:
        plugin("steerer", prepare=write).prepare(bench, [])
    assert "up_proj.weight have changed" in error.value.message
    assert sum(compared) == 1, "and nothing else is read"


def test_weights_written_and_put_back_are_read_once(bench: TaskBench, compared: list[int]) -> None:
    weight = first(bench)
    compared.clear()

    def write(b: Any, labelings: Any) -> None:
        before = weight.clone()
        with torch.no_grad():
            weight.mul_(0.5).copy_(before)

    plugin("steerer", prepare=write).prepare(bench, [])
    plugin("steerer", prepare=lambda b, labelings: None).prepare(bench, [])
    assert [count for count in compared if count] == [1]


def test_what_is_measured_is_handed_along(bench: TaskBench) -> None:
    subject = bench.dictionaries["sae"]
    metric = plugin("metric", measure=lambda b, subject, seed: subject.sae.W_dec.data.mul_(2))
    with pytest.raises(ChangedModelError, match="has changed dictionary sae"):
        metric.measure(bench, subject, 0)


def doubled(owner: Any, name: str) -> None:
    before = getattr(owner, name)
    setattr(owner, name, lambda *arguments, **named: before(*arguments, **named) * 2)


SHARED: dict[str, Callable[[Any], tuple[Any, str]]] = {
    "a function of torch": lambda b: (torch.nn.functional, "linear"),
    "a method of tensors": lambda b: (torch.Tensor, "matmul"),
    "a function of numpy": lambda b: (np, "mean"),
    "the call of a layer": lambda b: (torch.nn.Linear, "__call__"),
    "the call of all modules": lambda b: (torch.nn.Module, "_call_impl"),
    "forward of a class": lambda b: (type(b.model.layers[0].mlp), "forward"),
    "a function of the model's own module": lambda b: (sys.modules[type(b.model.hf).__module__], "apply_rotary_pos_emb"),
    "encode of the dictionary's class": lambda b: (type(b.dictionaries["sae"].sae), "encode"),
    "encode of ours": lambda b: (type(b.dictionaries["sae"]), "encode"),
    "encode of our own dictionary": lambda b: (b.dictionaries["sae"], "encode"),
    "call of the tokenizer's class": lambda b: (type(b.model.tokenizer), "__call__"),
}


@pytest.mark.parametrize("name", SHARED)
def test_code_that_is_replaced_is_one_error_and_put_back(name: str, bench: TaskBench) -> None:
    assert bench.dictionaries
    owner, function = SHARED[name](bench)
    had, before = function in vars(owner), getattr(owner, function)
    with pytest.raises(ChangedModelError) as error:
        plugin("labeler", label=lambda b, concepts: (doubled(owner, function), [])[1]).label(bench, [])
    assert getattr(owner, function) == before
    assert (function in vars(owner)) == had
    assert error.value.message.startswith("labeler 'mine' of their-dist has changed code that all share in label: " + function)


def test_a_library_may_replace_its_own_functions(bench: TaskBench) -> None:
    assert bench.model
    code, before = textwrap.dedent('''
        def manual_seed(seed):
            return before(seed)
    '''), torch.manual_seed
    names: dict[str, Any] = {"before": before}
    exec(compile(code, str(Path(torch.__file__).parent / "_dynamo" / "any.py"), "exec"), names)
    try:
        plugin("labeler", label=lambda b, concepts: (setattr(torch, "manual_seed", names["manual_seed"]), [])[1]).label(bench, [])
    finally:
        torch.manual_seed = before  # type: ignore[assignment]


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


def settings(b: Any) -> None:
    """Changes everything that is put back without a word."""
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.manual_seed(123)
    np.random.seed(123)
    np.seterr(all="raise")
    random.seed(123)
    b.model.hf.train()
    b.model.hf.config.use_cache = False
    b.model.layers[0].self_attn.scaling = 0.0
    b.model.tokenizer.padding_side = "nowhere"
    b.model.tokenizer.backend_tokenizer.enable_truncation(4)
    b.model.tokenizer.backend_tokenizer.enable_padding(length=9)
    b.model.tokenizer._special_tokens_map["eos_token"] = "x"
    first(b).requires_grad_(True)
    first(b).grad = torch.ones_like(first(b))


def test_settings_are_put_back_silently(bench: TaskBench) -> None:
    model = bench.model

    def state() -> list[Any]:
        attention = model.layers[0].self_attn
        return [
            torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), torch.get_rng_state().tolist(), random.getstate(),
            np.random.get_state()[1].tolist(), np.geterr(), model.hf.training, model.hf.config.use_cache, attention.scaling,  # type: ignore[index]
            model.tokenizer.padding_side, model.tokenizer.backend_tokenizer.truncation, model.tokenizer.backend_tokenizer.padding,
            str(model.tokenizer.eos_token), first(bench).grad, first(bench).requires_grad,
        ]  # fmt: skip

    before = state()
    plugin("steerer", prepare=lambda b, labelings: settings(b)).prepare(bench, [])
    assert state() == before
    with pytest.raises(PluginError):
        plugin("steerer", prepare=lambda b, labelings: (settings(b), 1 / 0)).prepare(bench, [])
    assert state() == before


@pytest.mark.parametrize("asked", ["statistics", "residual_means", "artifact"])
def test_nothing_is_kept_that_was_measured_of_a_changed_model(asked: str, bench: TaskBench, folder: Path) -> None:
    def label(b: Any, concepts: Any) -> Any:
        handle = b.model.layers[0].register_forward_hook(lambda module, arguments, output: output * 2)
        with contextlib.suppress(Exception):  # a plugin may swallow it, and clean up: the call is refused all the same
            b.artifact({"mine": 1}, lambda place: (place / "file").write_text("x")) if asked == "artifact" else getattr(b, asked)()
        handle.remove()
        return []

    assert len(bench.split.train)  # with it, the corpus' tokens are kept already
    before = {path.name for path in bench.artifacts.root.iterdir()}
    with pytest.raises(ChangedModelError) as error:
        plugin("labeler", label=label).label(bench, [])
    assert "asks for what would be kept" in error.value.message
    made = {path for path in bench.artifacts.root.iterdir() if path.name not in before and path.is_dir()}
    assert not any(path.iterdir() for path in made if any(path.iterdir()))


def test_what_a_compute_leaves_behind_is_removed(bench: TaskBench) -> None:
    def compute(place: Path) -> None:
        (place / "weights").write_text("of a changed model")
        first(bench).data.mul_(2)

    with pytest.raises(ChangedModelError):
        plugin("steerer", prepare=lambda b, labelings: b.artifact({"mine": 2}, compute)).prepare(bench, [])
    assert not list(bench.artifacts.root.rglob("weights"))


def fitted_by(bench: TaskBench, code: str) -> str:
    """What the artifact of one key holds where a plugin of this code asks for it."""
    found: list[Path] = []

    def prepare(b: Any, labelings: Any) -> None:
        found.append(b.artifact({"v": 1}, lambda place: (place / "fit").write_text(code)))

    guarded(PluginName("detector", "mine", "their-dist", code=code), types.SimpleNamespace(prepare=prepare)).prepare(bench, [])
    return (found[0] / "fit").read_text()


def test_an_edited_plugin_makes_its_artifacts_anew(bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [fitted_by(bench, code) for code in ("one", "two", "one")] == ["one", "two", "one"]
    assert len(list(bench.artifacts.root.rglob("fit"))) == 2
    monkeypatch.setattr("harness.run.bench_artifacts.core_digest", lambda: "edited")
    fitted_by(bench, "one")
    assert len(list(bench.artifacts.root.rglob("fit"))) == 3


def test_what_the_core_makes_is_shared_by_all_plugins(bench: TaskBench) -> None:
    from harness.measuring.passes import cross_entropy, reading_pass
    from harness.measuring.texts import sample_texts

    def measure(b: Any, subject: Any, seed: int) -> None:
        texts = sample_texts(b, 50, 0)
        b.statistics()
        reading_pass(b, b.dictionaries["sae"], texts)
        cross_entropy(b, texts, key="plain")
        if subject == "edited":
            cross_entropy(b, texts, Intervention(), key="mine")

    def made(code: str, subject: Any = None) -> int:
        guarded(PluginName("metric", "mine", "their-dist", code=code), types.SimpleNamespace(measure=measure)).measure(bench, subject, 0)
        return len([path for path in bench.artifacts.root.iterdir() if path.is_dir()])

    assert made("one") == made("two") > 0
    assert made("one", "edited") + 1 == made("two", "edited"), "an edit is the plugin's"


def test_a_compute_may_change_the_model_for_itself(bench: TaskBench) -> None:
    def compute(place: Path) -> None:
        old = first(bench).data.clone()
        first(bench).data.mul_(2)
        (place / "own").write_text("fine-tuned")
        first(bench).data.copy_(old)

    plugin("steerer", prepare=lambda b, labelings: b.artifact({"mine": 3}, compute)).prepare(bench, [])
    assert len(list(bench.artifacts.root.rglob("own"))) == 1


def test_own_activations_of_a_changed_model_are_the_plugins_business(bench: TaskBench) -> None:
    seen = []

    def label(b: Any, concepts: Any) -> Any:
        tokens = b.corpus_tokens
        handle = b.model.layers[0].register_forward_hook(lambda module, arguments, output: output * 0)
        seen.append(next(iter(b.logits([tokens[0]]))))
        handle.remove()
        seen.append(next(iter(b.logits([tokens[0]]))))
        return []

    assert plugin("labeler", label=label).label(bench, []) == []
    assert not torch.equal(*seen)


def test_the_core_measures_under_its_own_settings(bench: TaskBench, folder: Path) -> None:
    def label(b: Any, concepts: Any) -> Any:
        torch.set_default_dtype(torch.float64)
        b.model.hf.config.use_cache = False
        b.model.layers[0].self_attn.scaling = 0.0
        found = b.statistics()
        assert torch.get_default_dtype() == torch.float64
        assert b.model.layers[0].self_attn.scaling == 0.0
        return [np.asarray(found.document_means)]

    found = plugin("labeler", label=label).label(bench, [])
    assert np.array_equal(found[0], np.asarray(toy_bench(folder).statistics().document_means))


def test_interventions_are_settled_before_the_next_thing(bench: TaskBench) -> None:
    def intervene(labeling: Any, strength: float) -> Intervention:
        first(bench).data.mul_(2)
        return Intervention()

    mine = plugin("steerer", prepare=lambda b, labelings: None, intervene=intervene)
    mine.prepare(bench, [])
    mine.intervene(None, 1.0)
    with pytest.raises(ChangedModelError) as error:
        bench.generate([])
    assert "steerer 'mine' of their-dist has changed the subject model in intervene" in error.value.message


def test_what_came_before_an_error_is_yielded_and_what_came_of_a_changed_model_is_not(bench: TaskBench) -> None:
    names = [PluginName("steerer", name, "their-dist") for name in ("mine", "other")]
    found: list[int] = []

    def texts(after: Callable[[], Any]) -> Any:
        yield from (1, 2, 3)
        after()
        yield 4

    with pytest.raises(ZeroDivisionError):
        found.extend(bench.guard.compared(names, texts(lambda: 1 / 0)))
    assert found == [1, 2, 3]
    hooked = bench.model
    kept: list[int] = []
    with pytest.raises(ChangedModelError, match="steerer 'mine' of their-dist or steerer 'other' of their-dist has changed the subject model"):
        kept.extend(bench.guard.compared(names, texts(lambda: hooked.layers[0].register_forward_hook(lambda *a: None))))
    assert set(kept) <= {1, 2, 3}
    assert list(bench.guard.compared([], texts(lambda: None))) == [1, 2, 3, 4]


def test_a_hook_of_intervene_is_found_before_another_plugin_is_called(bench: TaskBench) -> None:
    mine = plugin("steerer", prepare=lambda b, labelings: None, intervene=lambda x, s: bench.model.hf.register_forward_hook(lambda *a: None))
    mine.prepare(bench, [])
    mine.intervene(None, 1.0)
    called = []
    with pytest.raises(ChangedModelError, match="steerer 'mine' of their-dist has changed the subject model in intervene: a forward hook"):
        plugin("labeler", label=lambda b, concepts: called.append(1) or []).label(bench, [])
    assert called == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b.split.train.sort(),
        lambda b: b.statistics().fired.fill(0),
        lambda b: b.statistics().document_means.fill(0),
        lambda b: b.labels.support.fill(0),
        lambda b: b.instructions.pop(),
        lambda b: b.concepts.pop(),
    ],
)
def test_what_all_are_handed_cannot_be_written_to(spoil: Callable[[Any], Any], bench: TaskBench) -> None:
    with pytest.raises(PluginError, match="failed in label"):
        plugin("labeler", label=lambda b, concepts: spoil(b)).label(bench, [])


def test_a_plugin_that_raises_is_blamed_for_that_and_its_hooks_are_gone(bench: TaskBench) -> None:
    hooked = bench.model

    def label(b: Any, concepts: Any) -> None:
        b.model.layers[0].register_forward_hook(lambda *a: None)
        raise ValueError("no")

    with pytest.raises(PluginError, match="failed in label: ValueError: no"):
        plugin("labeler", label=label).label(bench, [])
    assert not hooked.layers[0]._forward_hooks
    assert bench.model is not hooked


def test_a_judge_that_rates_one_by_one_keeps_its_own_draws(bench: TaskBench) -> None:
    def submit(items: Any) -> Any:
        random.seed(7)
        for _ in items:
            yield random.random()

    judge = plugin("judge", prepare=lambda b: None, submit=submit)
    judge.prepare(bench)
    found = []
    for number in judge.submit(range(4)):
        found.append(number)
        random.random()
    other = random.Random(7)
    assert found == [other.random() for _ in range(4)]


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


def test_the_texts_of_a_batch_wait_for_nothing(bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are there together, and one comparison holds for all, however slow the machine: whoever is killed in the next batch loses none of them."""
    monkeypatch.setattr("harness.run.guard.STEPS", 1e9)  # one comparison, and the one at the end
    stored: list[int] = []

    def texts() -> Any:
        for number in range(50):
            time.sleep(0.001)
            yield number
        assert stored == list(range(50))
        yield from range(50, 60)
        assert stored == list(range(50))  # what the next batch made is not known to be sound
        yield 60

    names = [PluginName("steerer", "mine", "their-dist")]
    for number in bench.guard.compared(names, texts(), lambda number: number // 50):
        stored.append(number)
    assert stored == list(range(61))


def test_items_of_an_unknown_moment_wait_for_a_comparison(bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.guard.STEPS", 1e9)
    stored: list[int] = []

    def texts() -> Any:
        yield from range(5)
        assert stored == [0]

    for number in bench.guard.compared([PluginName("steerer", "mine", "their-dist")], texts()):
        stored.append(number)
    assert stored == list(range(5))
