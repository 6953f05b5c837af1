"""What a step of decoding reads of a model, and computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel


def footprint(model: SubjectModel) -> dict[str, Any]:
    """Return for a step of decoding, with ``dtype`` and ``parameters`` (those that each token passes through).

    - ``weights``: bytes of weights that are read, once for all rows. A table of input embeddings of its own is looked up, not read; of a mixture of
      experts all experts count, which is what a large batch reads.
    - ``cache``: bytes of keys and values that are read for each token of a row's context; None where the configuration does not tell.
    """
    hf: Any = model.hf
    known = {id(parameter): parameter for parameter in hf.parameters()}
    given, made = hf.get_input_embeddings(), hf.get_output_embeddings()
    if given is not None and made is not None and given.weight is not made.weight:
        known.pop(id(given.weight), None)
    numbers = sum(parameter.numel() for parameter in known.values())
    weights = sum(parameter.numel() * parameter.element_size() for parameter in known.values())
    cache = _cache(hf.config, model.dtype.itemsize)
    return {"dtype": str(model.dtype).removeprefix("torch."), "parameters": numbers, "weights": weights, "cache": cache}


def _cache(config: Any, size: int) -> int | None:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    layers, heads = getattr(text, "num_hidden_layers", None), getattr(text, "num_attention_heads", None)
    groups = getattr(text, "num_key_value_heads", None) or heads
    width = getattr(text, "head_dim", None) or (getattr(text, "hidden_size", 0) // heads if heads else 0)
    return 2 * layers * groups * width * size if layers and groups and width else None
