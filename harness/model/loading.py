"""The subject model: a decoder-only language model of transformers, with its parts, its prompts and its identity."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from harness.errors import ModelError
from harness.files.progress import Progress
from harness.files.timing import CLOCK, TOKENIZER
from harness.interventions import Site
from harness.model.attention import keep_caps
from harness.model.devices import choose_devices, choose_dtype
from harness.model.embedded import ASSETS, embedded_names, ensure, identity
from harness.model.gguf import quiet_transformers
from harness.model.hub_model import fetch_model, model_source
from harness.model.identity import folder_digest
from harness.model.locating import check_local_model
from harness.model.longest import longest_text
from harness.model.prompts import Message, PromptFormat
from harness.model.refused import check_kind, explained
from harness.model.streams import Parts, find_parts
from harness.model.structure import find_anatomy, hidden_of, text_config, with_hidden

Ids = TypeVar("Ids", bound=Sequence[int])

__all__ = ["SubjectModel", "hidden_of", "load_model", "with_hidden"]


class SubjectModel:
    """A language model under study. Made by :func:`load_model`, or from a model and a tokenizer that are loaded already.

    Attributes:
        name: short name for people: the embedded name, the hub name, or the folder's name.
        source: where it came from: a folder, or ``hub name@commit``.
        digest: identity of its content (see :func:`harness.model.identity.folder_digest`); empty for a model that was not loaded from files.
        hf: the transformers model, in eval mode, its parameters frozen.
        tokenizer: its transformers tokenizer.
        layers: the decoder layers; ``layers[i]``'s output is the residual stream of ``Site(i)``.
        unembedding: the output projection.
        d_model: width of the residual stream.
        n_layers: number of decoder layers.
        vocab_size: number of logits (tokenizers may know fewer tokens: some models pad their vocabulary).
        max_tokens: the longest text that the model was made for (:func:`harness.model.longest.longest_text`); None where its configuration does
            not say.
        eos_ids: every token that ends a text or the assistant's turn: of the generation configuration, the configuration, the tokenizer,
            and the chat template.
        pad_id: the token to pad with.
        bos_id: the tokenizer's BOS token or None. Whether plain text gets it is the tokenizer's choice (:class:`PromptFormat`).
    """

    def __init__(self, hf: Any, tokenizer: Any, *, name: str, source: str = "", digest: str = "") -> None:
        self.name, self.source, self.digest = name, source, digest
        self.hf = hf.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.format = PromptFormat(tokenizer)
        self._readable = _embedded_tokens(self.hf)
        self.check_tokens(sorted(self.format.own_ids), "every prompt")
        parts = find_anatomy(self.hf)
        self.layers: nn.ModuleList = parts.layers
        self.unembedding: nn.Module = parts.unembedding
        self.d_model: int = parts.d_model
        self._layers_path, self._final_norm = parts.layers_path, parts.final_norm
        self.n_layers = len(self.layers)
        weight: torch.Tensor = self.unembedding.weight  # type: ignore[assignment]
        self.vocab_size = int(weight.shape[0])
        self.max_tokens = longest_text(text_config(self.hf))
        self.bos_id = self.format.bos_id
        self.eos_ids = self._find_eos()
        self.pad_id = self._find_pad()

    def __repr__(self) -> str:
        return f"SubjectModel({self.name!r}, {self.n_layers} layers, d_model {self.d_model}, {self.dtype}, {self.device})"

    @property
    def device(self) -> torch.device:
        """Return where the model is."""
        return self._first_parameter().device

    @cached_property
    def devices(self) -> tuple[torch.device, ...]:
        """Return all devices that hold some of its weights."""
        return tuple(dict.fromkeys(parameter.device for parameter in self.hf.parameters()))

    @property
    def dtype(self) -> torch.dtype:
        """Return the number format of the weights and of the residual stream."""
        return self._first_parameter().dtype

    @property
    def final_norm(self) -> nn.Module:
        """Return what runs between the last layer and the unembedding: ``unembedding(final_norm(x))`` are the logits before capping or scaling.

        Raises:
            ModelError: an architecture that does more there than run modules in turn.
        """
        if self._final_norm is None:
            message = f"the step from the last layer of {self.name} to its logits is more than a module, so it has no logit lens"
            raise ModelError(message, given=self.name, hint="use another model where the logit lens is needed")
        return self._final_norm

    def layer_path(self, layer: int) -> str:
        """Return the dotted module name of a layer, e.g. ``model.layers.15``. Raises ModelError for a layer that the model does not have."""
        self.check_layer(layer)
        return f"{self._layers_path}.{layer}"

    def check_layer(self, layer: int) -> None:
        """Raise ModelError unless the model has the zero-based layer ``layer``."""
        if not 0 <= layer < self.n_layers:
            raise ModelError(f"layer {layer} does not exist in {self.name}", given=layer, allowed=f"0 to {self.n_layers - 1}")

    def stream_module(self, site: Site) -> nn.Module:
        """Return the module whose output is the stream at a site (read it with :func:`harness.model.streams.stream_of`).

        Raises:
            ModelError: the layer or the stream does not exist, or the layer's build does not let its attention and its MLP be told apart.
        """
        self.check_layer(site.layer)
        layer = self.layers[site.layer]
        if site.stream == "residual":
            return layer
        if site.stream not in ("attention", "mlp"):
            raise ModelError(f"stream {site.stream!r} does not exist", given=site.stream, allowed=("residual", "attention", "mlp"))
        parts = self._parts[site.layer]
        if parts is None:
            raise ModelError(
                f"layer {site.layer} of {self.name} ({type(layer).__name__}) is not its input plus what one attention module and one MLP module "
                "return, so these cannot be told apart",
                given=site.stream,
                hint="use the residual stream",
            )
        # by name each time: while an adapter is applied, another module may stand in this place
        return layer.get_submodule(parts.attention if site.stream == "attention" else parts.mlp)

    @cached_property
    def _parts(self) -> list[Parts | None]:
        return find_parts(self.hf, list(self.layers))

    # ------------------------------------------------------------------------------------------------------------------ tokens

    def encode(self, text: str, add_bos: bool | None = None) -> list[int]:
        """Token ids of plain text, with exactly one BOS where the tokenizer puts one (see :meth:`PromptFormat.plain`).

        Raises:
            ModelError: it holds a token that the tokenizer knows and the model does not.
        """
        with CLOCK.part(TOKENIZER):
            return self.check_tokens(self.format.plain(text, add_bos))

    def prompt(self, instruction: str, prefix: str = "") -> list[int]:
        """Return token ids of an instruction in one user turn, up to where the reply begins; ``prefix`` and a blank line stand before it.

        A model without a chat template (a base model) gets the plain text.

        Raises:
            ModelError: as :meth:`encode` does.
        """
        with CLOCK.part(TOKENIZER):
            return self.check_tokens(self.format.user(f"{prefix}\n\n{instruction}" if prefix else instruction))

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation, up to where the assistant's reply begins (see :meth:`PromptFormat.chat`)."""
        with CLOCK.part(TOKENIZER):
            return self.check_tokens(self.format.chat(messages))

    def check_tokens(self, ids: Ids, where: str = "a text") -> Ids:
        """The token ids, all of which the model has an embedding for.

        Args:
            ids: of the model's tokenizer.
            where: what holds them, for the message.

        Raises:
            ModelError: one is outside of the embedding: it was added to the tokenizer, and the model not resized; or it is below 0.
        """
        if len(ids) and min(ids) < 0:
            raise ModelError(f"{where} holds the token {min(ids)}", given=min(ids), allowed=f"tokens 0 to {self._readable - 1}")
        if len(ids) and max(ids) >= self._readable:
            raise self._unknown(next(number for number in ids if number >= self._readable), where)
        return ids

    @property
    def chat_prefix_length(self) -> int:
        """Return the number of leading tokens that are the same in every :meth:`prompt`: to be left out of statistics over prompts."""
        return self.format.prefix_length

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids: special tokens dropped, spaces left as they are."""
        with CLOCK.part(TOKENIZER):
            return self.format.decode(ids)

    # ------------------------------------------------------------------------------------------------------------------ inside

    def _unknown(self, number: int, where: str) -> ModelError:
        name = self.tokenizer.convert_ids_to_tokens(number)
        return ModelError(
            f"the tokenizer of {self.name} knows {len(self.tokenizer)} tokens and the model {self._readable}: it has none for {name!r} "
            f"(token {number}) in {where}",
            given=name,
            allowed=f"tokens 0 to {self._readable - 1}",
            hint="use the tokenizer that the model was trained with, or resize the model's embeddings and train it",
        )

    def _first_parameter(self) -> torch.Tensor:
        parameter: torch.Tensor = next(iter(self.hf.parameters()))
        return parameter

    def _find_eos(self) -> frozenset[int]:
        generation = getattr(self.hf, "generation_config", None)
        configured = [getattr(config, "eos_token_id", None) for config in (generation, self.hf.config, text_config(self.hf))]
        own = self.tokenizer.eos_token_id
        found = frozenset(self._valid([*configured, own, self.format.end_of_turn]))
        if own is not None and own >= self.vocab_size and not found:
            raise self._unknown(own, "the end of every text")
        return found

    def _find_pad(self) -> int:
        generation = getattr(self.hf, "generation_config", None)
        configured = [self.tokenizer.pad_token_id, *(getattr(config, "pad_token_id", None) for config in (generation, self.hf.config))]
        return next(iter([*self._valid(configured), *sorted(self.eos_ids)]), 0)

    def _valid(self, values: Iterable[Any]) -> list[int]:
        """Return the token ids among configured values (None, a number or a list each) that the model can produce."""
        flat = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
        return [item for item in flat if isinstance(item, int) and 0 <= item < self.vocab_size]


def _embedded_tokens(hf: Any) -> int:
    """Number of token ids that a transformers model can read."""
    embedding = hf.get_input_embeddings()
    return int(embedding.num_embeddings if isinstance(embedding, nn.Embedding) else embedding.weight.shape[0])


def load_model(
    spec: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    downloads: Progress | None = None,
) -> SubjectModel:
    """Load a subject model.

    Args:
        spec: an embedded name (:func:`harness.model.embedded.embedded_names`), a local folder in transformers' format, or a hub name. A folder
            that exists comes before a hub name; what the hub's cache holds is taken from there; ``HF_HUB_OFFLINE`` is honoured.
        device: see :func:`harness.model.devices.choose_devices`. Over several devices the layers are spread by transformers (``device_map``).
        dtype: see :func:`choose_dtype`.
        revision: branch, tag or commit of a hub name.
        cache_dir: for an embedded name where converted models are kept, for a hub name the hub's cache; None takes the usual places.
        progress: called with one line about what is being done, now and then.
        downloads: where the progress of downloads from the hub is shown.

    Raises:
        ModelError: not found, cannot be fetched, incomplete, or not a decoder-only language model.
        OptionError: an unknown device or dtype.
    """
    where = choose_devices(device)
    number_format = choose_dtype(dtype, where[0])
    say = progress or _silent
    name = str(spec)
    if name in embedded_names():
        folder = ensure(name, say, cache_dir=None if cache_dir is None else Path(cache_dir))
        say(f"loading {name}")
        hf, tokenizer = _load(str(folder), where, number_format)
        return SubjectModel(hf, tokenizer, name=name, source=f"embedded {name}", digest=ASSETS[name].identity)
    path = Path(spec).expanduser()
    check_local_model(str(path.absolute()) if isinstance(spec, Path) else name)
    if path.is_dir():
        say(f"loading {path}")
        hf, tokenizer = _load(str(path), where, number_format)
        path = path.resolve()
        return SubjectModel(hf, tokenizer, name=path.name, source=str(path), digest=identity(path) or folder_digest(path))
    say(f"loading {name}")
    folder = fetch_model(model_source(name, revision, cache_dir), downloads)
    hf, tokenizer = _load(str(folder), where, number_format)
    return SubjectModel(hf, tokenizer, name=name, source=f"{name}@{folder.name}", digest=folder_digest(folder))


def _silent(line: str) -> None:
    pass


def _placed(devices: Sequence[torch.device]) -> dict[str, Any]:
    """Return what transformers is told of where a model's parts go; nothing where it is loaded on the CPU and then moved as a whole.

    Raises:
        ModelError: several devices, and accelerate is missing, by which transformers spreads a model.
    """
    there = importlib.util.find_spec("accelerate") is not None
    if len(devices) > 1:
        if not there:
            names = ", ".join(map(str, devices))
            raise ModelError(f"a model on {names} needs the library accelerate, which is not installed", given=names, hint="pip install accelerate")
        room = {device.index: torch.cuda.mem_get_info(device)[0] for device in devices}
        return {"device_map": "auto", "max_memory": room}  # no place on the CPU: what does not fit is said, not computed there
    return {"device_map": {"": devices[0]}} if devices[0].type == "cuda" and there else {}  # straight there, without a copy in main memory


def _load(source: str, devices: Sequence[torch.device], dtype: torch.dtype) -> tuple[Any, Any]:
    """Returns a folder's transformers model on its devices, and its tokenizer. Whatever goes wrong becomes a ModelError of one line."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place, device = _placed(devices), devices[0]
    try:
        with quiet_transformers():
            check_kind(source)
            own = {"trust_remote_code": False}  # else transformers asks on the terminal whether to run what the folder brings
            tokenizer = AutoTokenizer.from_pretrained(source, **own)
            hf, report = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, output_loading_info=True, **own, **place)
            if missing := sorted(report["missing_keys"]):  # transformers fills them with random numbers and goes on
                message = f"{source} lacks {len(missing)} weights of a {type(hf).__name__}, e.g. {missing[0]}"
                raise ModelError(message, given=source, hint="fetch it again")
            keep_caps(hf)
            return hf if place else hf.to(device), tokenizer
    except ModelError:
        raise
    except torch.OutOfMemoryError as error:
        message = f"{source} does not fit into the memory of {device} as {dtype}"
        raise ModelError(message, given=source, hint="choose another device or dtype") from error
    except Exception as error:  # transformers, hub, tokenizers and safetensors have no common root; KeyboardInterrupt passes
        raise explained(source, error) from error
