"""Why a folder's model is not loaded, in one line: it is of another kind, of an architecture that transformers does not know, or incomplete."""

from __future__ import annotations

import re

from harness.errors import ModelError
from harness.model.structure import SUPPORTED

_NO_CAUSAL = re.compile(r"Unrecognized configuration class .*?(\w+?)(?:Config)?'> for this kind of AutoModel")
_UNKNOWN = re.compile(r"model type `([^`]*)` but Transformers does not recognize this architecture")


def check_kind(source: str) -> None:
    """Raise ModelError for an encoder-decoder, before its weights are read: of some transformers would make a decoder alone, which was never trained.

    Whatever else is wrong with a folder's configuration is raised as transformers raises it.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if getattr(config, "is_encoder_decoder", False):
        kind = str(config.model_type)
        raise ModelError(f"{source} is an encoder-decoder model ({kind})", given=source, allowed=SUPPORTED, hint="use another model")


def explained(source: str, error: Exception) -> ModelError:
    """Return what was raised while a folder was loaded as an error of one line that says what to do.

    Args:
        source: the folder.
        error: of transformers, tokenizers or safetensors, which have no common root.
    """
    import transformers

    detail = " ".join(str(error).split())
    if "trust_remote_code" in detail:
        message = f"the model in {source} needs code of its own, which is not run"
        hint = "use a model whose architecture transformers has, or in Python make a harness.model.SubjectModel of the loaded one"
        return ModelError(message, given=source, hint=hint)
    if found := _NO_CAUSAL.search(detail):
        message = f"{source} is a {found[1]} model, of which transformers has no causal language model"
        return ModelError(message, given=source, allowed=SUPPORTED, hint="use another model")
    if found := _UNKNOWN.search(detail):
        message = f"{source} is of the architecture {found[1]!r}, which transformers {transformers.__version__} does not know"
        return ModelError(message, given=source, hint="install a newer transformers, or use another model")
    message = f"model folder {source} cannot be loaded ({type(error).__name__}: {detail[:300]})"
    hint = "install the library that is missing, or use another model" if isinstance(error, ImportError) else "check that its files are complete"
    return ModelError(message, given=source, hint=hint)
