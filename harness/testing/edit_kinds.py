"""One edit of every kind that the core has, for a model: what engines are checked with, by ``harness engines verify`` and by the tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.interventions import Edit, Positions, Site, Stream
from harness.types import rng

if TYPE_CHECKING:
    from torch import Tensor

    from harness.model.loading import SubjectModel
    from harness.sae.dictionary import Dictionary

FEATURES = 40
_TEXT = "When the rain stopped, we went down to the river: three boats lay there, and nobody knew whose they were."


@dataclass(frozen=True)
class EditKind:
    """Some edits that a request may have.

    Attributes:
        name: for people.
        edits: in their order.
        adapter: the folder of an adapter, or None.
    """

    name: str
    edits: tuple[Edit, ...] = ()
    adapter: str | None = None


def edit_kinds(model: SubjectModel, folder: Path | None = None) -> list[EditKind]:
    """Return one of every kind for a model, each about as strong as the stream that it changes; the first changes nothing.

    Args:
        model: of two layers or more.
        folder: an empty one, for an adapter; None leaves adapters out.
    """
    import torch

    from harness.fitting.rotating import rotation
    from harness.sae.splicing import Ablate, Splice
    from harness.steering.add_vector import AddVector
    from harness.steering.clamp import ClampFeature
    from harness.steering.low_rank import LowRank
    from harness.steering.subspace import ReplaceAlong

    low, middle, high = 0, model.n_layers // 2, model.n_layers - 1
    size = _size(model, middle)

    def vector(item: str, scale: float = size) -> Tensor:
        return torch.from_numpy(rng(0, "edit kinds", item).standard_normal(model.d_model)).float() * scale

    def low_rank(site: Site, item: str, positions: Positions | None = None) -> LowRank:
        rank, draw = 2, rng(0, "edit kinds", item)
        r = rotation(torch.from_numpy(draw.standard_normal((rank, model.d_model)))).float()
        w = torch.from_numpy(draw.standard_normal((rank, model.d_model))).float() / model.d_model**0.5
        b = torch.from_numpy(draw.standard_normal(rank)).float() * size * model.d_model**0.5
        return LowRank(site, r, w, b, positions or Positions())

    v, w = vector("v"), vector("w", size / 2)
    along = vector("along", 1.0)
    along = along / along.norm()
    plain = random_dictionary(model.d_model, middle, size)
    normed = random_dictionary(model.d_model, middle, 1.0, "jumprelu", normalize_activations="layer_norm")
    gated = random_dictionary(model.d_model, middle, size, "gated")
    top = random_dictionary(model.d_model, middle, size, "topk", k=5, rescale_acts_by_decoder_norm=True)
    at, rest = Site(middle), Positions(first_token=False)
    ends = Positions(prompt=False, generated=False, first=2, last=1)
    found: dict[str, tuple[Edit, ...]] = {
        "nothing": (),
        "add a vector": (AddVector(at, v),),
        "add to generated tokens": (AddVector(at, v, Positions(prompt=False)),),
        "add to the prompt but its first token": (AddVector(at, v, Positions(generated=False, first_token=False)),),
        "clamp a feature": (ClampFeature(at, plain, 3, 2 * size),),
        "clamp several features": (ClampFeature(at, normed, (1, 7, 30), (2.0, 0.0, -1.0), rest),),
        "clamp a gated feature": (ClampFeature(at, gated, (2, 9), (2 * size, size)),),
        "clamp where one feature needs all": (ClampFeature(at, top, (2, 5), (2 * size, 0.0)),),
        "replace along a direction": (ReplaceAlong(at, along, v, Positions(), size),),
        "low rank": (low_rank(at, "low rank"),),
        "low rank at the prompt's ends": (low_rank(Site(low), "first ends", ends), low_rank(Site(high), "last ends")),
        "splice a reconstruction": (Splice(plain, rest, outlier=0.0),),
        "ablate to a vector": (Ablate(at, v, rest, outlier=0.0),),
        "several at one site": (AddVector(at, v), AddVector(at, w, Positions(prompt=False)), ClampFeature(at, plain, 9, size)),
    }  # fmt: skip
    kinds = [EditKind(name, edits) for name, edits in found.items()]
    streams: tuple[Stream, ...] = ("attention", "mlp")
    if all(_has(model, Site(middle, stream)) for stream in streams):
        kinds += [EditKind(f"add to {stream}", (AddVector(Site(middle, stream), v),)) for stream in streams]
        clamp = ClampFeature(Site(high, "attention"), plain, 3, 2 * size, Positions(prompt=False, last=2))
        kinds += [EditKind("clamp at attention", (clamp,)), EditKind("first two and last at mlp", (AddVector(Site(middle, "mlp"), v, ends),))]
    if folder is not None:
        kinds += _with_adapter(model, folder, AddVector(at, v))
    return kinds


def random_dictionary(width: int, layer: int, size: float = 1.0, architecture: str = "standard", **options: Any) -> Dictionary:
    """Return a dictionary of :data:`FEATURES` features with random weights and uneven decoder rows.

    Args:
        width: of the stream.
        layer: that it reads.
        size: root mean square of the stream.
        architecture: of SAELens' inference architectures.
        options: further ones of its configuration.
    """
    import torch
    from sae_lens.registry import get_sae_class

    from harness.sae.dictionary import Dictionary

    sae_class, config_class = get_sae_class(architecture)
    sae: Any = sae_class(config_class(d_in=width, d_sae=FEATURES, dtype="float32", **options))
    sae.cfg.metadata.hook_name = f"model.layers.{layer}"
    scales = {"W_enc": width**-0.5, "W_dec": 0.7, "r_mag": 0.3}
    for name, parameter in sae.named_parameters():
        draw = torch.from_numpy(rng(0, "random dictionary", name).standard_normal(tuple(parameter.shape))).float()
        parameter.data = draw * scales.get(name, 0.5 * size)
        if name == "threshold":
            parameter.data = parameter.data.abs()
    return Dictionary(sae, layer, "random")


def random_adapter(model: SubjectModel, folder: Path, size: float = 0.2) -> str | None:
    """Write a LoRA of a model's linear modules with random weights; returns its folder, or None for a model that peft cannot adapt so.

    Args:
        model: is copied, and left as it is.
        folder: where.
        size: of the weights, in those of the modules' own.
    """
    import copy
    import warnings

    import torch
    from peft import LoraConfig, get_peft_model

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore")
            wrapped: Any = get_peft_model(copy.deepcopy(model.hf), LoraConfig(r=2, target_modules="all-linear"))
    except ValueError:
        return None
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            draw = torch.from_numpy(rng(0, "random adapter", name).standard_normal(tuple(parameter.shape)))
            parameter.data = (draw * (size / parameter.shape[-1] ** 0.5)).to(parameter)
    wrapped.save_pretrained(folder)
    return str(folder)


def prompt_tokens(model: SubjectModel, n: int) -> list[int]:
    """Return ``n`` tokens of a plain text, repeated where it is too short."""
    ids = model.encode(_TEXT)
    return (ids * -(-n // len(ids)))[:n]


def _with_adapter(model: SubjectModel, folder: Path, edit: Edit) -> list[EditKind]:
    made = random_adapter(model, folder, 0.4)
    return [] if made is None else [EditKind("an adapter", (), made), EditKind("an adapter and a vector", (edit,), made)]


def _has(model: SubjectModel, site: Site) -> bool:
    from harness.errors import ModelError

    try:
        model.stream_module(site)
    except ModelError:
        return False
    return True


def _size(model: SubjectModel, layer: int) -> float:
    """Return the median root mean square of the residual stream of a layer, over the tokens of a text."""
    import torch

    from harness.model.streams import stream_of

    found: list[float] = []

    def note(module: object, arguments: object, output: Any) -> None:
        found.append(float(stream_of(output, 1)[0].float().pow(2).mean(dim=-1).sqrt().median()))

    handle = model.layers[layer].register_forward_hook(note)
    try:
        with torch.no_grad():
            model.hf(input_ids=torch.tensor([prompt_tokens(model, 12)], device=model.device), use_cache=False)
    finally:
        handle.remove()
    return found[0]
