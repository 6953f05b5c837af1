"""From text and messages to token ids: one BOS, nothing tokenised twice, templates with all their habits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ModelError
from harness.model import PromptFormat, SubjectModel
from harness.model.dates import TODAY
from harness.model.prompts import RENDERING, TEMPLATE_OPTIONS

BOS, EOS, TURN, END = 1, 2, 3, 4

PLAIN = (
    "{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)
WITH_BOS = "{{ bos_token }}" + PLAIN
REFUSES_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + WITH_BOS
DROPS_SYSTEM = "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}" + WITH_BOS
SYSTEM_AHEAD = "{% if messages[0]['role'] != 'system' %}<turn>system\nYou are kind.<end>\n{% endif %}" + PLAIN
DATED = "<turn>Today: {{ date_string if date_string is defined else strftime_now('%d %b %Y') }}\n" + PLAIN
THINKING = PLAIN + "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}"


@pytest.fixture(scope="module")
def read(make_tokenizer: Callable[..., Any]) -> Callable[[list[int]], str]:
    """Text of ids, special tokens shown."""
    tokenizer = make_tokenizer()
    return lambda ids: str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def test_plain_text_follows_the_tokenizers_own_bos(make_tokenizer: Callable[..., Any]) -> None:
    adds = PromptFormat(make_tokenizer(adds_bos=True))
    names = PromptFormat(make_tokenizer(adds_bos=False))  # as GPT-2 and Qwen: a BOS token that plain text does not get
    without = PromptFormat(make_tokenizer(bos=None))
    body = names.plain("ab")
    assert adds.plain("ab") == [BOS, *body]
    assert (names.bos_id, without.bos_id) == (BOS, None)
    assert without.plain("ab") == body
    assert adds.plain("ab", add_bos=False) == body
    assert names.plain("ab", add_bos=True) == [BOS, *body]
    assert adds.plain("ab", add_bos=True) == [BOS, *body]
    with pytest.raises(ModelError) as error:
        without.plain("ab", add_bos=True)
    assert error.value.given is True
    assert "add_bos" in error.value.hint
    assert adds.plain("") == [BOS]


def test_names_of_special_tokens_in_plain_text_are_text(make_tokenizer: Callable[..., Any], tiny_model: SubjectModel) -> None:
    text = "<s>struck out</s> <end>"
    form = PromptFormat(make_tokenizer())
    assert form.plain(text).count(BOS) == 1
    assert not {EOS, END} & set(form.plain(text))
    assert form.decode(form.plain(text)) == text
    assert tiny_model.encode("<s>a</s>").count(1) == 1
    assert tiny_model.decode(tiny_model.encode("<s>a</s>")) == "<s>a</s>"


@pytest.mark.parametrize("template", [PLAIN, WITH_BOS, "{{ bos_token }}" + WITH_BOS])
@pytest.mark.parametrize("adds_bos", [True, False])
def test_one_bos_whoever_adds_it(template: str, adds_bos: bool, make_tokenizer: Callable[..., Any], read: Callable[..., str]) -> None:
    form = PromptFormat(make_tokenizer(adds_bos=adds_bos, template=template))
    ids = form.user("hi")
    if adds_bos:
        assert ids.count(BOS) == 1
        assert ids[0] == BOS
    text = read(ids).replace("<s>", "")
    assert text == "<turn>user\nhi<end>\n<turn>assistant\n"


def test_prompts_are_what_the_tokenizer_makes_of_the_template_in_one_step(make_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_tokenizer(template=WITH_BOS)
    messages = [{"role": "user", "content": "hi "}, {"role": "assistant", "content": " yes"}, {"role": "user", "content": "é?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert PromptFormat(tokenizer).chat(messages) == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_the_system_text_always_arrives(make_tokenizer: Callable[..., Any], read: Callable[..., str]) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    for template in (REFUSES_SYSTEM, DROPS_SYSTEM):
        form = PromptFormat(make_tokenizer(template=template))
        assert read(form.chat(messages)) == "<s><turn>user\nBe brief.\n\nhi<end>\n<turn>assistant\n"
        assert read(form.chat(messages[:1])) == "<s><turn>user\nBe brief.<end>\n<turn>assistant\n"
    form = PromptFormat(make_tokenizer(template=WITH_BOS))
    assert read(form.chat(messages)) == "<s><turn>system\nBe brief.<end>\n<turn>user\nhi<end>\n<turn>assistant\n"
    assert messages[1] == {"role": "user", "content": "hi"}  # the caller's messages are untouched


def test_refusals_of_a_template_are_one_line(make_tokenizer: Callable[..., Any]) -> None:
    strict = (
        "{% for m in messages %}{% if m['role'] != 'user' %}{{ raise_exception('Only\nusers') }}{% endif %}{{ m['content'] }}{% endfor %}"
    )
    form = PromptFormat(make_tokenizer(template=strict))
    with pytest.raises(ModelError) as error:
        form.chat([{"role": "assistant", "content": "x"}])
    assert error.value.given == ("assistant",)
    assert "Only users" in error.value.message
    assert "\n" not in str(error.value)
    assert error.value.hint


def test_prompts_do_not_depend_on_the_day_nor_think_aloud(make_tokenizer: Callable[..., Any], read: Callable[..., str]) -> None:
    assert read(PromptFormat(make_tokenizer(template=DATED)).user("x")).startswith("<s><turn>Today: 26 Jul 2024\n")
    assert "<think>" not in read(PromptFormat(make_tokenizer(template=THINKING)).user("x"))


@pytest.mark.parametrize(
    ("code", "shown"),
    [("%d %b %Y", "26 Jul 2024"), ("%Y-%m-%d", "2024-07-26"), ("%A, %B %-d", "Friday, July 26"), ("%H:%M %p", "00:00 AM"), ("100%% %y", "100% 24")],
)
def test_a_template_that_asks_for_today_gets_one_fixed_day(
    code: str, shown: str, make_tokenizer: Callable[..., Any], read: Callable[..., str]
) -> None:
    at_once = "<turn>{{ strftime_now('" + code + "') }}" + PLAIN
    through_a_macro = "{% macro head(f) %}<turn>{{ strftime_now(f) }}{% endmacro %}{{ head('" + code + "') }}" + PLAIN
    kept = "{% if strftime_now is defined %}{% set day = strftime_now('" + code + "') %}{% endif %}<turn>{{ day }}" + PLAIN
    for template in (at_once, through_a_macro, kept):
        assert read(PromptFormat(make_tokenizer(template=template)).user("x")) == f"<s><turn>{shown}<turn>user\nx<end>\n<turn>assistant\n"


def test_the_day_is_a_part_of_a_runs_identity() -> None:
    assert RENDERING["strftime_now"] == TODAY.isoformat()
    assert RENDERING["date_string"] == TEMPLATE_OPTIONS["date_string"] == "26 Jul 2024"


def test_the_end_of_a_turn_is_read_off_the_template(make_tokenizer: Callable[..., Any]) -> None:
    assert PromptFormat(make_tokenizer(template=PLAIN)).end_of_turn == END
    closing = "{% for m in messages %}[{{ m['content'] }}]{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    assert PromptFormat(make_tokenizer(template=closing)).end_of_turn == EOS
    assert PromptFormat(make_tokenizer()).end_of_turn is None


def test_base_models_get_the_plain_text(make_tokenizer: Callable[..., Any], make_hf: Any, read: Callable[..., str]) -> None:
    model = SubjectModel(make_hf("llama"), make_tokenizer(), name="base")
    assert read(model.prompt("Say it.", prefix="Talk of cats.")) == "<s>Talk of cats.\n\nSay it."
    assert model.chat_prefix_length == 1
    assert model.prompt("Say it.") == model.encode("Say it.")


def test_prefix_and_instruction_share_one_user_turn(make_tokenizer: Callable[..., Any], make_hf: Any, read: Callable[..., str]) -> None:
    model = SubjectModel(make_hf("llama"), make_tokenizer(template=WITH_BOS), name="chat")
    assert read(model.prompt("Say it.", prefix="Talk of cats.")) == "<s><turn>user\nTalk of cats.\n\nSay it.<end>\n<turn>assistant\n"
    assert read(model.prompt("Say it.")) == "<s><turn>user\nSay it.<end>\n<turn>assistant\n"


@pytest.mark.parametrize("template", [None, PLAIN, WITH_BOS, SYSTEM_AHEAD])
def test_the_constant_prefix_ends_where_the_users_text_begins(
    template: str | None, make_tokenizer: Callable[..., Any], read: Callable[..., str]
) -> None:
    form = PromptFormat(make_tokenizer(template=template))
    n = form.prefix_length
    assert read(form.user("xyz")[n:]).startswith("xyz")
    assert form.user("xyz")[:n] == form.user("123")[:n]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_decoding_gives_back_any_text(text: str, make_tokenizer: Callable[..., Any]) -> None:
    form = PromptFormat(make_tokenizer())
    assert form.decode(form.plain(text)) == text
