"""Checks whether a dictionary can be used here: its architecture, its site, its numbers, and the model that it belongs to."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from harness.errors import DictionaryError
from harness.sae.dictionary import ARCHITECTURES, NORMALIZATIONS, Dictionary
from harness.types import Json

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

_ANOTHER = "give a dictionary of a residual site"
NOT_A_DICTIONARY = {
    "transcoder": "a transcoder reads one site and writes another, so it reconstructs no residual stream whose error could be kept",
    "crosscoder": "a crosscoder reads several layers at once",
    "temporal": "a temporal SAE's activations depend on the tokens before, so no feature can be set at one token alone",
    "batchtopk": "it is a training checkpoint without its threshold: export it with SAELens' save_inference_model, as jumprelu",
}
"""Why an architecture cannot be used, by a part of its name."""

_POINTS = {
    "hook_resid_mid": "it lies between attention and MLP, inside a layer",
    "hook_mlp_out": "it reads an MLP's output",
    "hook_mlp_in": "it reads an MLP's input",
    "hook_attn_out": "it reads an attention block's output",
    "hook_z": "it reads attention heads",
    "hook_embed": "it reads the embeddings, before the first layer",
}
_HOOKS = ("blocks.N.hook_resid_post", "blocks.N.hook_resid_pre", "model.layers.N")
_OTHER_TOWERS = ("vision", "visual", "audio", "encoder")
_CHECKED_ELEMENTS = 1 << 22
_LARGEST_WEIGHT = 1e10
"""No trained weight comes near it, and with larger ones activations and reconstructions overflow float32."""
_LARGEST_EXPONENT = 30.0
"""Of a gated SAE's ``r_mag``, whose exponential multiplies, in trained ones by up to some ten."""


@dataclass(frozen=True)
class Stated:
    """What the caller states about a dictionary: it fills in what the files lack, and may not contradict them.

    Attributes:
        layer: zero-based layer whose output it reads.
        hook_name: the site, as :func:`residual_layer` understands it.
        model_name: the model that it was made for.
    """

    layer: int | None = None
    hook_name: str | None = None
    model_name: str | None = None


def residual_layer(hook_name: str) -> int:
    """Return the zero-based layer whose output a hook name means.

    ``model.layers.15`` (any module path that ends in a numbered layer) and ``blocks.15.hook_resid_post`` are the output of layer 15,
    ``blocks.15.hook_resid_pre`` that of layer 14.

    Raises:
        DictionaryError: the hook is not a layer's output, with the reason.
    """
    match = re.fullmatch(r"blocks\.([0-9]{1,6})\.hook_resid_(pre|post)", hook_name)
    if match:
        layer = int(match[1]) - (match[2] == "pre")
        if layer < 0:
            message = f"hook {hook_name!r} is the input of the first layer, and only outputs of layers can be edited"
            raise DictionaryError(message, given=hook_name, allowed=_HOOKS)
        return layer
    match = re.fullmatch(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*\.([0-9]{1,6})", hook_name)
    tower = next((part for part in hook_name.lower().split(".") if any(word in part for word in _OTHER_TOWERS)), "")
    if match and not tower:
        return int(match[1])
    points = (why for point, why in _POINTS.items() if point in hook_name)
    reason = f"{tower} is not the language model" if match else next(points, "it names no layer's output")
    raise DictionaryError(f"hook {hook_name!r} is not a residual site ({reason})", given=hook_name, allowed=_HOOKS)


def refuse_architecture(architecture: str, where: str) -> None:
    """Raise for an architecture whose single features cannot be set, with the reason."""
    if architecture in ARCHITECTURES:
        return
    why = next((reason for part, reason in NOT_A_DICTIONARY.items() if part in architecture), "")
    message = f"{where} is of architecture {architecture!r}, which cannot be used{why and ': '}{why}"
    raise DictionaryError(message, given=architecture, allowed=tuple(sorted(ARCHITECTURES)))


def check_input(cfg: Mapping[str, Json], name: str) -> None:
    """Check that a SAELens configuration asks for nothing but a residual vector as it is, or normalised by itself.

    Raises:
        DictionaryError: a normalisation whose statistics are not in the file, attention heads, or another site as output.
    """
    normalize, reshape = cfg.get("normalize_activations") or "none", cfg.get("reshape_activations") or "none"
    metadata = cfg.get("metadata") or {}
    if normalize not in NORMALIZATIONS:
        raise DictionaryError(
            f"{name} expects its input normalised by {normalize!r}, with statistics that are not in the file",
            given=normalize,
            allowed=tuple(sorted(NORMALIZATIONS)),
            hint="fold the statistics into the weights first",
        )
    if normalize == "layer_norm" and cfg.get("d_in") == 1:
        raise DictionaryError(f"{name} normalises tokens of one number by their deviation", given=1, allowed="d_in of 2 and more", hint=_ANOTHER)
    if reshape != "none":
        message = f"{name} reshapes its input ({reshape}): it reads attention heads, not the residual stream"
        raise DictionaryError(message, given=reshape, allowed="none", hint=_ANOTHER)
    site, out = metadata.get("hook_name"), metadata.get("hook_name_out")
    if out and out != site:
        raise DictionaryError(f"{name} reads {site} and writes {out}: {NOT_A_DICTIONARY['transcoder']}", given=out, allowed=site, hint=_ANOTHER)


def settle(metadata: Any, name: str, given: Stated) -> int:
    """Return the layer that a dictionary reads; what its metadata lack is filled in.

    Args:
        metadata: SAELens' metadata, or a dict; changed in place.
        name: the dictionary, for messages.
        given: what the caller says.

    Raises:
        DictionaryError: neither the files nor the caller name the site, they contradict each other, or it is not a layer's output.
    """
    own, own_model = str(metadata.get("hook_name") or ""), str(metadata.get("model_name") or "")
    if given.layer is not None and given.layer < 0:
        raise DictionaryError(f"layer {given.layer} was given for {name}", given=given.layer, allowed="at least 0, as layers are counted from 0")
    wanted = given.layer if given.hook_name is None else _layer(given.hook_name, name)
    if wanted is not None and given.layer not in (None, wanted):
        message = f"layer {given.layer} and hook {given.hook_name!r} (layer {wanted}) were given for {name}"
        raise DictionaryError(message, given=given.layer, allowed=wanted, hint="give one of them")
    if own:
        layer = _layer(own, name)
        if wanted not in (None, layer):
            raise DictionaryError(
                f"layer {wanted} was given for {name}, which reads another layer's output ({own})",
                given=wanted,
                allowed=layer,
                hint="give its own layer (a task's `layer`), or another dictionary; if its files name the wrong one, correct them",
            )
    elif wanted is None:
        number = metadata.get("hook_layer")
        raise DictionaryError(
            f"{name} does not say which site it reads" + ("" if number is None else f": it gives hook_layer {number}, and no hook_name"),
            given=name,
            hint="give its layer (layer=15; a task's `layer`), keep the folder name under which it was published (layer_15, layers.15), or set "
            "metadata.hook_name in a SAELens folder's cfg.json, e.g. model.layers.15",
        )
    else:
        layer, number = wanted, metadata.get("hook_layer")
        if number is not None and layer not in (number, number - 1):  # the input of a block is the output of the one before
            message = f"layer {layer} was given for {name}, whose configuration gives hook_layer {number}"
            raise DictionaryError(message, given=layer, allowed=number, hint="give its own layer (a task's `layer`), or correct its configuration")
        metadata["hook_name"] = given.hook_name or f"blocks.{layer}.hook_resid_post"
    if given.model_name and not own_model:
        metadata["model_name"] = given.model_name
    elif given.model_name and not same_model(given.model_name, own_model):
        message = f"{name} was not made for the model {given.model_name}, but for {own_model}"
        hint = "correct the model's name (a task's `trained_on`), or leave it out; if its files name the wrong one, correct them"
        raise DictionaryError(message, given=given.model_name, allowed=own_model, hint=hint)
    return layer


def check_numbers(sae: Any, name: str) -> None:
    """Check a loaded SAE's weights, a slice at a time, so that nothing of their size is allocated.

    Raises:
        DictionaryError: NaN or infinity, numbers so large that activations overflow, decoder rows with which this architecture gives none, or an
            encoder, a decoder or thresholds of which no feature can do anything.
    """
    hint = "the file is damaged or the training diverged: fetch it again, or use another dictionary"
    for key, tensor in sae.state_dict().items():
        largest = max((float(part.abs().amax()) for part in _slices(tensor)), default=0.0, key=lambda value: (value != value, value))
        if not math.isfinite(largest):
            raise DictionaryError(f"{name}: weights {key} hold NaN or infinity", given=key, hint=hint)
        bound = _LARGEST_EXPONENT if key == "r_mag" else _LARGEST_WEIGHT
        if largest > bound:
            message = f"{name}: weights {key} reach {largest:.3g}, with which activations overflow"
            raise DictionaryError(message, given=key, allowed=f"up to {bound:g}", hint=hint)
    _refuse_nothing(sae, name, hint)
    if str(sae.cfg.architecture()) == "matching_pursuit" and bool((sae.W_dec.norm(dim=-1) > math.sqrt(2)).any()):
        message = f"{name} has decoder rows longer than √2, with which matching pursuit does not end but diverges"
        raise DictionaryError(message, given="W_dec", allowed="rows of length 1", hint=hint)
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False) and bool((sae.W_dec.norm(dim=-1) == 0).any()):
        message = f"{name} divides activations by its decoder's norms, and some are 0"
        raise DictionaryError(message, given=name, hint="the file is damaged: fetch it again")


def _refuse_nothing(sae: Any, name: str, hint: str) -> None:
    for key, what in (("W_dec", "decoder"), ("W_enc", "encoder")):
        weights = getattr(sae, key, None)
        if isinstance(weights, Tensor) and not any(bool(part.any()) for part in _slices(weights)):
            message = f"{name}: all weights of its {what} ({key}) are 0, so no feature can do anything"
            raise DictionaryError(message, given=key, hint=hint)
    threshold = getattr(sae, "threshold", None)
    if isinstance(threshold, Tensor) and threshold.numel() and bool((threshold < 0).all()):
        message = f"{name}: all its thresholds are negative, and an activation of JumpReLU must be above its threshold and above 0"
        raise DictionaryError(message, given=float(threshold.detach().max()), allowed="at least 0", hint=hint)
    k = getattr(sae.cfg, "k", None)
    if isinstance(k, int | float) and not 1 <= k <= sae.cfg.d_sae:
        message = f"{name} keeps the {k:g} largest of {sae.cfg.d_sae} activations"
        raise DictionaryError(message, given=k, allowed=f"1 to {sae.cfg.d_sae}", hint="correct k in its configuration")


def weight_notes(sae: Any) -> tuple[str, ...]:
    """Return a line for each thing in an SAE's weights that a reader of its results should know: features that can do nothing, odd thresholds."""
    notes, d_sae = [], int(sae.cfg.d_sae)
    idle = sum(int((part.abs().amax(dim=-1) == 0).sum()) for part in _slices(sae.W_dec))
    if idle:
        notes.append(f"{idle} of {d_sae} decoder rows (W_dec) are all 0: steering with these features changes nothing")
    threshold = getattr(sae, "threshold", None)
    if isinstance(threshold, Tensor) and (below := int((threshold < 0).sum())):
        notes.append(f"{below} of {d_sae} thresholds are negative: these features are active wherever they are above 0, as without one")
    return tuple(notes)


def check_width(dictionary: Dictionary, model: SubjectModel) -> None:
    """Raise DictionaryError for a dictionary that reads vectors of another width than the model's."""
    if dictionary.d_in != model.d_model:
        raise DictionaryError(
            f"{dictionary.source} reads a residual stream of width {dictionary.d_in}",
            given=dictionary.d_in,
            allowed=f"{model.d_model}, the width of {model.name}",
            hint="use a dictionary of this model",
        )


def check_fits(dictionary: Dictionary, model: SubjectModel, *, allow_other_model: bool = False) -> str:
    """Checks that a dictionary belongs to a model and returns a note for the run's entry.

    Model names are compared by their last part, without regard to case, and through TransformerLens' aliases (``gpt2-small`` is
    ``openai-community/gpt2``); ``-it`` and ``-instruct`` count.

    Raises:
        DictionaryError: another width, a layer that the model lacks, or another model's dictionary without ``allow_other_model``.
    """
    check_width(dictionary, model)
    n_layers = len(model.layers)
    if dictionary.layer >= n_layers:
        raise DictionaryError(
            f"{dictionary.source} reads the output of layer {dictionary.layer} ({dictionary.hook_name})",
            given=dictionary.layer,
            allowed=f"0 to {n_layers - 1}, the layers of {model.name}",
            hint="use a dictionary of this model",
        )
    kwargs = dictionary.cfg["metadata"].get("model_from_pretrained_kwargs") or {}
    centred = "; it was made from activations with their mean removed (center_writing_weights), which these are not"
    note = centred if kwargs.get("center_writing_weights") else ""
    if not dictionary.model_name:
        return f"the dictionary does not say which model it was made for; used on {model.name}{note}"
    if same_model(dictionary.model_name, model.name):
        return f"made for {dictionary.model_name}{note}"
    if not allow_other_model:
        raise DictionaryError(
            f"{dictionary.source} was made for {dictionary.model_name}",
            given=dictionary.model_name,
            allowed=model.name,
            hint=f"use a dictionary of this model, or, where that is meant, state trained_on = {dictionary.model_name!r} in the task's dictionary",
        )
    return f"made for {dictionary.model_name}, another model of the same width; used on {model.name}, which the task allows{note}"


def same_model(one: str, other: str) -> bool:
    """Returns whether two names mean the same model, compared as in :func:`check_fits`."""
    return _last_part(one) == _last_part(other) or _official(one) == _official(other)


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _layer(hook_name: str, name: str) -> int:
    try:
        return residual_layer(hook_name)
    except DictionaryError as error:
        raise DictionaryError(f"{name}: {error.message}", given=error.given, allowed=error.allowed, hint=error.hint) from error


def _slices(tensor: Tensor) -> Iterator[Tensor]:
    """Yield a tensor's parts along its first axis."""
    if tensor.dim() < 2:
        yield tensor
        return
    step = max(1, _CHECKED_ELEMENTS // max(1, tensor.shape[1]))
    for start in range(0, tensor.shape[0], step):
        yield tensor[start : start + step]


def _last_part(name: str) -> str:
    return name.rstrip("/").split("/")[-1].lower().removeprefix("meta-")


def _official(name: str) -> str:
    """Return a model name for comparison, TransformerLens' aliases resolved."""
    from transformer_lens.loading_from_pretrained import get_official_model_name

    for candidate in (name, _last_part(name)):
        try:
            return _last_part(get_official_model_name(candidate))
        except ValueError:
            continue
    return _last_part(name)
