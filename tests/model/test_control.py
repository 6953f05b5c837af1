"""What a user writes is text, whatever it looks like; and texts that hold no name of a control token are tokenised as ever."""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from helpers.models import byte_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.prompts import PromptFormat

SPECIAL = ("<unk>", "<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<end_of_turn>", "[INST]")
ADDED = ("<tool>",)
"""Not marked special."""
CHARACTERS = [c for c in string.printable if not c.isspace()] + ["▁", "\n", "é"]

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>a\n{% endif %}"
)
TRIMS = "<s>{% for m in messages %}[INST] {{ m.content | trim }} <tool>{% endfor %}"
UPPER = "{% for m in messages %}<|im_start|>{{ m.content | upper }}<end_of_turn>{% if m.content.strip() == 'x' %}!{% endif %}{% endfor %}"
LOWER = "{% for m in messages %}<s>{{ m.content | lower }}</s>{% endfor %}"
QUOTES = "{% for m in messages %}<|im_start|>{{ {'said': m.content} | tojson }}<|im_end|>{% endfor %}"
TEMPLATES = {"turns": TURNS, "trims": TRIMS, "upper": UPPER, "lower": LOWER, "quotes": QUOTES}


def wrapped(core: Any, template: str | None) -> Any:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    core.add_tokens([AddedToken(name, special=False, normalized=False, rstrip=True) for name in ADDED])
    made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    made.chat_template = template
    return made


def byte_level(template: str | None) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = [*SPECIAL[:4], *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the", "Ġthe"]  # the other special ones stand beside it
    core = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(alphabet)}, merges=[("t", "h"), ("th", "e"), ("Ġ", "the")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return wrapped(core, template)


def sentencepiece_bpe(template: str | None, scheme: str = "first") -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = [*SPECIAL, *CHARACTERS, "▁t", "▁th", "▁the"]
    core = Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate(pieces)},
            merges=[("▁", "t"), ("▁t", "h"), ("▁th", "e")],
            unk_token="<unk>",
            fuse_unk=True,
        )
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    return wrapped(core, template)


def unigram(template: str | None) -> Any:
    """The names of the special tokens are ordinary pieces to it, and the best that it knows."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    pieces = [*((name, 0.0) for name in SPECIAL), *((c, -5.0) for c in CHARACTERS), ("▁the", -3.0), ("end", -3.0)]
    core = Tokenizer(models.Unigram(pieces, unk_id=0))
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    return wrapped(core, template)


def word_piece(template: str | None) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    letters = string.ascii_lowercase + string.digits
    pieces = dict.fromkeys([*SPECIAL, *string.punctuation, *letters, *(f"##{c}" for c in letters), "the", "##end"])
    core = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return wrapped(core, template)


KINDS: dict[str, Callable[[str | None], Any]] = {
    "byte-level": byte_level,
    "sentencepiece": sentencepiece_bpe,
    "sentencepiece-always": lambda template: sentencepiece_bpe(template, "always"),
    "unigram": unigram,
    "wordpiece": word_piece,
}


@cache
def form_of(kind: str, template: str | None = None) -> PromptFormat:
    return PromptFormat(KINDS[kind](None if template is None else TEMPLATES[template]))


def control_ids(form: PromptFormat, ids: list[int]) -> list[int]:
    """Those of control tokens, in their order; the unknown token is none, since it stands for any text."""
    names = (*SPECIAL, *(name for name in ADDED if name in (form.tokenizer.chat_template or "")))
    control = {form.tokenizer.convert_tokens_to_ids(name) for name in names} - {form.tokenizer.unk_token_id}
    return [number for number in ids if number in control]


plain_texts = st.text(alphabet=st.sampled_from("the end<|s>/[]_ \n▁éx!ﷰ１"), max_size=30).filter(
    lambda text: not any(name in text.lower() for name in ("<s>", "</s>"))
)
hostile_texts = st.lists(
    st.sampled_from((*SPECIAL, *ADDED, "</S>", "[inst]", "<|IM_end|>", "<</s>s>", "<s", " ", "the ", "\n", "x", "é")),
    min_size=1,
    max_size=8,
).map("".join)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(list(KINDS)), template=st.sampled_from(list(TEMPLATES)), text=plain_texts)
def test_texts_without_control_tokens_are_tokenised_as_ever(kind: str, template: str, text: str) -> None:
    """As transformers renders and tokenises the template in one step; the way for other texts gives the same."""
    form = form_of(kind, template)
    turns = [{"role": "user", "content": text}]
    plainly = form.tokenizer.apply_chat_template(turns, tokenize=True, add_generation_prompt=True, return_dict=False)
    assert form._render(turns, reply=True) == plainly
    assert form._control.rendered([text], lambda marked: form._written([{"role": "user", "content": marked[0]}], reply=True)) == plainly
    assert form.plain(text) == form.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert form._control._joined([text]) == form.plain(text)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(list(KINDS)), template=st.sampled_from(list(TEMPLATES)), text=hostile_texts)
def test_a_prompts_control_tokens_are_those_of_its_template(kind: str, template: str, text: str) -> None:
    form = form_of(kind, template)
    assert control_ids(form, form.user(text)) == control_ids(form, form.user("some text"))
    assert not control_ids(form, form.plain(text))
    assert form.bodies([text, "the end"]) == [form.plain(text), form.plain("the end")]


@pytest.mark.parametrize("text", ["a</s>b", " <|im_end|>\n", "<tool>x", "<unk>"])
def test_what_was_written_is_what_is_read(text: str) -> None:
    """Of bytes the text can be had back whole."""
    form = form_of("byte-level", "turns")
    shown = form.tokenizer.decode(form.user(text), clean_up_tokenization_spaces=False)
    assert shown == f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>a\n"
    assert form.tokenizer.decode(form.plain(text), clean_up_tokenization_spaces=False) == text


def test_the_template_sees_what_it_would_have_seen() -> None:
    """Trimmed at its ends, and in capitals; the text around a name is tokenised as it is without it."""
    form = form_of("byte-level", "trims")
    assert form.tokenizer.decode(form.user("  x </s> "), clean_up_tokenization_spaces=False) == "<s>[INST] x </s> <tool>"
    form = form_of("byte-level", "upper")
    assert form.tokenizer.decode(form.user("a</s>"), clean_up_tokenization_spaces=False) == "<|im_start|>A</S><end_of_turn>"
    form = form_of("sentencepiece", "turns")
    names = form.tokenizer.convert_ids_to_tokens
    without, within = ("".join(names(form.user(text))) for text in ("the the", "the </s>the"))
    assert within == without.replace("the▁the", "the▁</s>the")  # no further ▁, which stands at the beginning of a text alone


def test_all_turns_and_the_prefix_are_text() -> None:
    form = form_of("byte-level", "turns")
    turns = [{"role": role, "content": f"{role}<|im_end|>"} for role in ("system", "user", "assistant", "user")]
    shown = form.tokenizer.decode(form.chat(turns), clean_up_tokenization_spaces=False)
    assert shown.count("<|im_end|>") == 8
    assert len([i for i in form.chat(turns) if i == form.tokenizer.convert_tokens_to_ids("<|im_end|>")]) == 4


def test_signs_of_our_own_in_a_text_are_text() -> None:
    form = form_of("byte-level", "turns")
    end = form.tokenizer.convert_tokens_to_ids("<|im_end|>")
    for text in ("\ufdd0<|im_end|>", f"\ufdd0{end}\ufdd0<|im_end|>", f"\ufdd1{end}\ufdd1\ufdd0</s>"):
        ids = form.user(text)
        assert ids.count(end) == 1
        assert text in form.tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def test_added_words_are_words() -> None:
    """A token that was added as a word, or as white space, is no control token, although the template writes it."""
    tokenizer = byte_tokenizer(template="<turn>user\n\n{{ messages[0].content }}<end>")
    tokenizer.add_tokens(["user", "\n\n"])
    form = PromptFormat(tokenizer)
    for text in ("user", "a\n\nb"):
        assert form.bodies([text])[0] == tokenizer(text, add_special_tokens=False)["input_ids"]
        assert max(form.plain(text)) >= len(tokenizer) - 2
        assert max(form.user(text + "</s>")) >= len(tokenizer) - 2


def test_a_tokenizer_written_in_python_has_no_control_tokens_in_texts_either() -> None:
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    form = PromptFormat(tokenizer)
    assert not tokenizer.is_fast
    assert form.user("a</s>b").count(tokenizer.eos_token_id) == 1
    assert form.plain("a</s>b").count(tokenizer.eos_token_id) == 0
    assert form.user("ab") == tokenizer("ab</s>", add_special_tokens=False)["input_ids"]


def test_names_of_the_tests_kinds_are_matched_by_the_tokenizers_themselves() -> None:
    """Else the tests above would test nothing."""
    for kind in KINDS:
        tokenizer = form_of(kind).tokenizer
        ids = tokenizer("x</s>y<tool>", add_special_tokens=False)["input_ids"]
        assert {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<tool>")} <= set(ids)
    assert unigram(None).eos_token_id in unigram(None)("x</s>y", add_special_tokens=False, split_special_tokens=True)["input_ids"]
