"""Converts GGUF files into transformers folders."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from harness.errors import ModelError


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Switches transformers' progress bars off within the context: our caller shows its own progress."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _quiet_reader() -> Iterator[None]:
    """Switches the GGUF reader's progress bar off: it is tqdm's own, which transformers' switch does not reach."""
    from transformers import modeling_gguf_pytorch_utils as reader

    bar = getattr(reader, "tqdm", None)
    if bar is None:
        yield
        return
    reader.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        reader.tqdm = bar


@contextmanager
def _read_once() -> Iterator[None]:
    """Have gguf parse a file, and make its map of tensor names, once within the context, not anew for each thing that is asked.

    transformers opens the file for the configuration, the weights and the tokenizer, and makes the map for each module of the model: more
    than half of the time of a conversion.
    """
    import gguf

    names = ("GGUFReader", "get_tensor_name_map")
    own = {name: getattr(gguf, name) for name in names if hasattr(gguf, name)}
    for name, function in own.items():
        setattr(gguf, name, cache(function))
    try:
        yield
    finally:
        for name, function in own.items():
            setattr(gguf, name, function)


def convert_gguf(file: Path, folder: Path) -> None:
    """Dequantise a GGUF file into a transformers folder: bfloat16 safetensors, configuration, tokenizer, chat template.

    Raises:
        ModelError: transformers cannot read it, or the result cannot be written.
        OSError: the disk is full or read-only.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet_transformers(), _quiet_reader(), _read_once():
            # float32 first: the quantised values are scaled in it, and rounded to bfloat16 once.
            read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            _restore_splitting(tokenizer, file)
            # A model read from GGUF carries a quantization_config and refuses to be saved; its weights are ordinary by now.
            config = read.config.to_dict()
            for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
                config.pop(key, None)
            model = AutoModelForCausalLM.from_config(type(read.config).from_dict(config), dtype=torch.bfloat16)
            model.load_state_dict(read.state_dict())
            model.generation_config = read.generation_config
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except Exception as error:  # transformers, gguf and safetensors have no common root
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk; transformers raises OSErrors without a number for what it cannot read
        detail = " ".join(str(error).split())[:300]
        hint = "check that the file is complete, and that the installed transformers reads GGUF files of this architecture"
        raise ModelError(f"{file.name} cannot be converted ({type(error).__name__}: {detail})", given=file, hint=hint) from error


def _restore_splitting(tokenizer: Any, file: Path) -> None:
    """Split text into words as the original tokenizer does.

    GGUF names the way (``tokenizer.ggml.pre``); transformers takes GPT-2's for all. SmolLM's also parts every digit from what is around
    it, which tells in white space before a digit ("\\n\\n1." begins with one token for the blank line, not with two).
    """
    from tokenizers import pre_tokenizers

    if _read_string(file, "tokenizer.ggml.pre") == "smollm":
        digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])


def _read_string(file: Path, key: str) -> str | None:
    """Return a metadata string of a GGUF file. Only this entry is read: gguf's reader takes seconds for a vocabulary."""
    # An entry is: length of the key (uint64), key, type (uint32; 8 is a string), length of the value (uint64), value.
    name = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", 8)
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(name)
        if start < 0:
            return None
        start += len(name)
        (size,) = struct.unpack_from("<Q", content, start)
        return content[start + 8 : start + 8 + size].decode()
