"""A SAELens configuration as SAELens 6 would have written it, from any version's, and from hand-made and converted ones.

SAELens tells old forms from new ones by the version that a file states, and drops the metadata of a new form without one. Here the form is told
by what is there: both are read in one way, and nothing that a file says is dropped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from harness.errors import DictionaryError
from harness.sae.checks import refuse_architecture
from harness.sae.formats.published import Name, Positive, Settings, parse_settings
from harness.sae.formats.sites import containers, stated_model, stated_site
from harness.types import Json

_OLD_NAMES = {"activation_fn_str": "activation_fn"}
_METADATA_AT_TOP = (
    "model_class_name",
    "hook_head_index",
    "model_from_pretrained_kwargs",
    "prepend_bos",
    "exclude_special_tokens",
    "neuronpedia_id",
    "context_size",
    "seqpos_slice",
    "dataset_path",
    "sae_lens_version",
    "sae_lens_training_version",
    "hook_name_out",
    "hook_head_index_out",
    "hf_hook_name_out",
)
"""What SAELens kept beside the settings before it had metadata."""


class _Sparsity(Settings):
    k: Positive | None = None


class SaelensSettings(Settings):
    """What a SAELens configuration sets, by the names of SAELens 6 (and `activation_fn`, which is older)."""

    d_in: Positive
    d_sae: Positive
    architecture: Name = "standard"
    apply_b_dec_to_input: bool = True
    normalize_activations: bool | Name = "none"
    reshape_activations: Name = "none"
    rescale_acts_by_decoder_norm: bool = False
    activation_fn: Name = "relu"
    activation_fn_kwargs: dict[str, Any] = Field(default_factory=dict)
    k: Positive | None = None
    residual_threshold: float = Field(0.01, ge=0)
    max_iterations: Positive | None = None
    stop_on_duplicate_support: bool = True
    widths: list[Positive] = Field(default_factory=list)
    ks: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    boosted: bool = False

    @model_validator(mode="after")
    def _k_is_one(self) -> SaelensSettings:
        older = self.activation_fn_kwargs.get("k")
        if older is not None and self.k is not None and older != self.k:
            raise ValueError(f"it gives k = {self.k} and activation_fn_kwargs.k = {older}")
        return self


def read_settings(raw: dict[str, Json], path: Path) -> SaelensSettings:
    """Return a configuration's settings, those of one nested in it included.

    Raises:
        DictionaryError: one is missing, of the wrong type or out of bounds, or two contradict each other.
    """
    return parse_settings(SaelensSettings, _flat(raw, path), path)


def inference_settings(settings: SaelensSettings, raw: dict[str, Json], path: Path, architecture: str) -> dict[str, Any]:
    """Return SAELens' configuration of an inference architecture, its metadata with the site and the model that the file states.

    Args:
        settings: as :func:`read_settings` returned them.
        raw: the file's content.
        path: the file, for messages.
        architecture: the file's own, or what a checkpoint is made into.

    Raises:
        DictionaryError: the architecture cannot be used, a setting of it is missing, or statements of the site or the model contradict each other.
    """
    found = architecture
    if settings.activation_fn == "topk" and found == "standard":
        found = "topk"
    elif settings.activation_fn not in ("relu", found):
        message = f"{path} gives activation_fn = {settings.activation_fn!r} for architecture {found!r}, which cannot be used"
        allowed = "relu, or topk with architecture standard"
        raise DictionaryError(message, given=settings.activation_fn, allowed=allowed, hint="give another dictionary")
    refuse_architecture(found, str(path.parent))
    metadata = _metadata(raw, path)
    normalize, site = settings.normalize_activations, str(metadata.get("hook_name") or "")
    cfg: dict[str, Any] = {
        "architecture": found,
        "d_in": settings.d_in,
        "d_sae": settings.d_sae,
        "apply_b_dec_to_input": settings.apply_b_dec_to_input,
        "normalize_activations": {True: "expected_average_only_in", False: "none"}[normalize] if isinstance(normalize, bool) else normalize,
        "reshape_activations": "hook_z" if "hook_z" in site else settings.reshape_activations,
        "metadata": metadata,
    }
    return cfg | _of_architecture(settings, found, path)


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _of_architecture(settings: SaelensSettings, architecture: str, path: Path) -> dict[str, Any]:
    """Return the settings that one architecture has."""
    if architecture in ("topk", "abstopk"):
        k = settings.k or _checked_k(settings.activation_fn_kwargs.get("k"), path)
        if k > settings.d_sae:
            message, most = f"{path} gives k = {k}", f"at most {settings.d_sae}, the number of its features"
            raise DictionaryError(message, given=k, allowed=most, hint="correct it")
        return {"k": k, "rescale_acts_by_decoder_norm": settings.rescale_acts_by_decoder_norm}
    if architecture == "matching_pursuit":
        steps = settings.max_iterations
        if steps is not None and steps > settings.d_sae:
            message, most = f"{path} gives max_iterations = {steps}", f"at most {settings.d_sae}, the number of its features"
            raise DictionaryError(message, given=steps, allowed=most, hint="correct it")
        names = ("residual_threshold", "max_iterations", "stop_on_duplicate_support")
        return {name: getattr(settings, name) for name in names}
    if architecture == "ensemble":
        if sum(settings.widths) != settings.d_sae or len(settings.ks) != len(settings.widths):
            message = f"{path} gives members of {sum(settings.widths)} features and {len(settings.ks)} values of k"
            allowed = f"{settings.d_sae} features, and one k for each of {len(settings.widths)} members"
            raise DictionaryError(message, given=settings.widths, allowed=allowed, hint="correct it")
        return {"widths": settings.widths, "ks": settings.ks, "boosted": settings.boosted}
    return {}


def _checked_k(k: Json, path: Path) -> int:
    found = parse_settings(_Sparsity, {"k": k}, path).k
    if found is None:
        message = f"{path} does not give k, the number of features that TopK leaves active"
        raise DictionaryError(message, allowed="a positive whole number", hint="add it")
    return found


def _flat(raw: dict[str, Json], path: Path) -> dict[str, Json]:
    """Return the settings of the file and of a configuration nested in it, under one name each.

    Raises:
        DictionaryError: two of them differ.
    """
    found: dict[str, Json] = {}
    places: dict[str, str] = {}
    for prefix, inner in containers(raw, path):
        if prefix.endswith("metadata."):
            continue
        for key, value in inner.items():
            name = _OLD_NAMES.get(key, key)
            if value is None or name not in SaelensSettings.model_fields:
                continue
            if name in found and found[name] != value:
                message = f"{path} contradicts itself: {places[name]} is {found[name]!r:.80}, and {prefix}{key} is {value!r:.80}"
                raise DictionaryError(message, given=value, allowed=f"{found[name]!s:.80}", hint="remove the one that is wrong")
            found.setdefault(name, value)
            places.setdefault(name, prefix + key)
    return found


def _metadata(raw: dict[str, Json], path: Path) -> dict[str, Json]:
    """Return the file's metadata, wherever they stand, with the site and the model that they state."""
    found: dict[str, Json] = {}
    for prefix, inner in containers(raw, path):
        kept = inner if prefix.endswith("metadata.") else {key: inner[key] for key in _METADATA_AT_TOP if inner.get(key) is not None}
        found |= {key: value for key, value in kept.items() if _may_be_set(key) and (value is not None or key not in found)}
    kwargs = found.get("model_from_pretrained_kwargs")
    if kwargs is not None and not isinstance(kwargs, dict):
        message = f"{path} gives model_from_pretrained_kwargs = {kwargs!r:.80}"
        raise DictionaryError(message, given=kwargs, allowed="an object", hint="correct it")
    site, number = stated_site(raw, path)
    for key, value in (("hook_name", site), ("model_name", stated_model(raw, path)), ("hook_layer", number)):
        found.pop(key, None)
        if value not in ("", None):
            found[key] = value
    return found


def _may_be_set(key: str) -> bool:
    """Return whether SAELens' metadata, which make an attribute of every key, keep their own methods."""
    from sae_lens.saes.sae import SAEMetadata

    return not key.startswith("_") and key != "self" and not hasattr(SAEMetadata, key)
