"""The prompt steerer: who writes, and what becomes of what a writer refuses. A real HTTP server answers for the APIs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness_plugins.steerers.prompt import MODELS, NAMED, Prompt, PromptOptions

from harness.chat.providers.servers import HOMES
from harness.chat.values import RequestFailed
from harness.contracts import SteererTraits, Work
from harness.engine.base import Generated, GenerationRequest
from harness.errors import OptionError
from harness.interventions import Intervention
from harness.options import as_json, build, transport_names
from harness.run.bench import Choices, TaskBench, open_bench
from harness.tasks.find import load_task
from harness.testing import check_steerer, toy_bench
from harness.types import Concept, Decoding, Labeling

SECRET = "sk-loopback-0123456789abcdef"
REFUSES = "I'm sorry, but I can't help with that."
SUBJECTS = ["beekeeping", "the sea", "knots"]


@pytest.fixture
def api(api_servers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A server that writes of all but knots, and a cache of its own."""
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MY_KEY", SECRET)
    monkeypatch.chdir(tmp_path)

    def answer(body: dict[str, Any]) -> Any:
        subject = next((name for name in SUBJECTS if name in body["messages"][0]["content"]), "it")
        return REFUSES if subject == "knots" else f"Sure! Here is an instruction:\n\n**Instruction:** Always speak of {subject}."

    with api_servers.ApiServer(answer) as server:
        yield server


@pytest.fixture
def bench(tmp_path: Path, api: Any) -> TaskBench:
    return toy_bench(tmp_path / "toy")


def labelings(*subjects: str) -> list[Labeling]:
    return [Labeling(Concept(f"c{number}", subject)) for number, subject in enumerate(subjects)]


def made(api: Any, **options: Any) -> Prompt:
    given = {"writer": "openai", "base_url": f"{api.url}/v1", "key_name": "MY_KEY", **options}
    return Prompt(build(PromptOptions, given, "steerer prompt"))


def prefixes(steerer: Prompt, *subjects: str) -> list[str]:
    return [steerer.intervene(labeling, 1.0).prompt_prefix for labeling in labelings(*subjects)]


# ------------------------------------------------------------------------------------------------------------------- who writes


@pytest.mark.parametrize("writer", ["openai", "anthropic"])
def test_an_api_writes_and_what_it_refuses_gets_the_template_and_a_warning(api: Any, bench: TaskBench, writer: str) -> None:
    steerer = made(api, writer=writer)
    estimate = steerer.estimate(Work(concepts=[labeling.concept for labeling in labelings(*SUBJECTS)]))
    assert (estimate.calls, estimate.most.calls, len(api.seen)) == (3, 9, 0)
    steerer.prepare(bench, labelings(*SUBJECTS))
    expected = ["Always speak of beekeeping.", "Always speak of the sea.", "Your answer must be about knots."]
    assert prefixes(steerer, *SUBJECTS) == expected
    assert len(api.seen) == 5  # knots three times
    assert steerer.usage.output == 5 * 5
    assert steerer.cost == 0.0  # nothing is paid at a local address
    (warning,) = [warning for warning in bench.warnings.messages if "fixed template" in warning]
    assert warning.startswith(
        f"prompt: {writer} {MODELS[writer]} wrote no usable prompt for 1 of 3 concepts, which got the fixed template (knots: "
    )
    assert "the model refused (I'm sorry" in warning
    record = steerer.record
    assert (record["writer"], record["model"], record["base_url"]) == (
        writer,
        MODELS[writer],
        api.url + ("/v1" if writer == "openai" else ""),
    )
    assert record["prompts"]["the sea"] == {"text": expected[1], "by": "served-model", "asked": 1}
    assert (record["prompts"]["knots"]["by"], record["prompts"]["knots"]["asked"]) == ("template", 3)
    assert SECRET not in str(record)


def test_prompts_outlive_the_cache_of_paid_replies(api: Any, bench: TaskBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(api)
    first.prepare(bench, labelings(*SUBJECTS))
    (tmp_path / "cache" / "replies.sqlite").unlink()
    monkeypatch.delenv("MY_KEY")
    api.answer = lambda body: "Say something else entirely."
    sent = len(api.seen)
    again = made(api)
    again.prepare(bench, labelings(*reversed(SUBJECTS)))
    assert prefixes(again, *SUBJECTS) == prefixes(first, *SUBJECTS)
    assert (again.record, len(api.seen), again.hits, again.cost) == (first.record, sent, 0, 0.0)


def test_a_run_that_goes_on_has_the_prompts_of_its_record(api: Any, bench: TaskBench, tmp_path: Path) -> None:
    first = made(api)
    first.prepare(bench, labelings(*SUBJECTS[1:]))
    again = made(api)
    again.restore(first.record)
    assert again.record == first.record
    assert again.estimate(Work(concepts=[labeling.concept for labeling in labelings(*SUBJECTS[1:])])).most.calls == 0
    api.answer = lambda body: "Say something else entirely."
    again.prepare(bench, labelings(*SUBJECTS))  # one more than the record has
    assert prefixes(again, *SUBJECTS) == ["Say something else entirely.", "Always speak of the sea.", "Your answer must be about knots."]


def test_other_writers_have_other_prompts(api: Any, bench: TaskBench) -> None:
    made(api).prepare(bench, labelings("the sea"))
    for other in (
        {"writer_model": "gpt-4o"},
        {"max_tokens": 300},
        {"asks": 1},
        {"base_url": api.url.replace("127.0.0.1", "localhost") + "/v1"},
    ):
        sent = len(api.seen)
        made(api, **other).prepare(bench, labelings("the sea"))
        assert len(api.seen) == sent + ("asks" not in other)  # the same request, which the cache of replies answers
    for same in ({"timeout": 50}, {"concurrency": 2}):
        sent = len(api.seen)
        made(api, **same).prepare(bench, labelings("the sea"))
        assert len(api.seen) == sent


def test_the_subject_model_writes_and_what_is_cut_off_is_not_used(api: Any, tiny_task: Path) -> None:
    """The tiny model knows no instructions and goes on until it is stopped."""
    bench = open_bench(load_task(tiny_task), Choices(device="cpu", dtype="float32"), quiet=True)
    steerer = Prompt(PromptOptions(writer="subject", max_tokens=16, asks=2))
    concepts = labelings("the sea")
    assert steerer.estimate(Work(concepts=[labeling.concept for labeling in concepts])).calls == 0
    steerer.prepare(bench, concepts)
    assert prefixes(steerer, "the sea") == ["Your answer must be about the sea."]
    assert "the subject model wrote no usable prompt for 1 of 1 concepts" in " ".join(bench.warnings.messages)
    row = {"text": "Your answer must be about the sea.", "by": "template", "asked": 2, "reason": "the reply was cut off"}
    assert steerer.record["prompts"]["the sea"] == row
    assert not api.seen


def test_a_subject_model_without_room_for_the_question_is_refused(bench: TaskBench) -> None:
    with pytest.raises(OptionError) as error:
        Prompt(PromptOptions(writer="subject")).prepare(bench, labelings("the sea"))
    assert error.value.given == "subject"
    assert all(part in error.value.message for part in ("tokens", bench.model.name, str(bench.model.max_tokens)))
    assert all(writer in error.value.hint for writer in ("writer=openai", "writer=anthropic", "writer=template"))


def test_what_the_subject_model_writes_stands_before_the_instruction(bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrote(engine: Any, requests: list[GenerationRequest], decoding: Decoding) -> Iterator[Generated]:
        for request in requests:
            text = "I cannot do that." if not decoding.temperature else "Sure! Speak of boats.\n\nLet me know if that helps."
            yield Generated(request.id, (1, 2), text, "eos")

    monkeypatch.setattr("harness.engine.torch_loop.TorchEngine.run", wrote)
    monkeypatch.setattr("harness_plugins.steerers.prompt.ASK", "Write of {concept}.")
    steerer = Prompt(PromptOptions(writer="subject", max_tokens=20))
    steerer.prepare(bench, labelings("the sea"))
    assert steerer.record["prompts"]["the sea"] == {"text": "Speak of boats.", "by": bench.model.name, "asked": 2}


def test_many_lost_concepts_are_counted_and_the_first_are_named(api: Any, bench: TaskBench) -> None:
    api.answer = lambda body: REFUSES
    many = [f"matter {number:02}" for number in range(NAMED + 3)]
    steerer = made(api, asks=1)
    steerer.prepare(bench, labelings(*many))
    (warning,) = [warning for warning in bench.warnings.messages if "fixed template" in warning]
    assert f"for {NAMED + 3} of {NAMED + 3} concepts" in warning
    assert "matter 19: the model refused" in warning
    assert warning.endswith("; and 3 more)")
    assert "matter 20" not in warning


def test_notes_of_the_server_reach_the_reader(api: Any, api_servers: Any, bench: TaskBench) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if "temperature" in body:
            told = "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is supported."
            return api_servers.Reply(
                {"error": {"message": told, "type": "invalid_request_error", "param": "temperature", "code": "unsupported_value"}}, 400
            )
        return "Always speak of the sea."

    api.answer = answer
    steerer = made(api)
    steerer.prepare(bench, labelings("the sea"))
    assert prefixes(steerer, "the sea") == ["Always speak of the sea."]
    (note,) = [warning for warning in bench.warnings.messages if "temperature" in warning]
    assert note.startswith("prompt: ")
    bench.warnings.messages.clear()
    made(api).prepare(bench, labelings("the sea"))  # another run, for which nothing is sent
    assert bench.warnings.messages == [note]


def test_it_keeps_the_contract(api: Any, bench: TaskBench) -> None:
    assert check_steerer(lambda: made(api), bench)
    assert made(api).traits == SteererTraits(unit="none", grid=(1.0,), neutral=None, needs_features=False)
    assert Prompt(PromptOptions()).traits == SteererTraits(unit="none", grid=(1.0,), neutral=None, needs_features=False, suppresses="negate")


def test_against_a_concept_it_asks_to_leave_it_out(bench: TaskBench) -> None:
    steerer = Prompt(PromptOptions(template="Speak of {concept}."))
    steerer.prepare(bench, labelings("the sea"))
    words = steerer.intervene(labelings("the sea")[0], -1.0).prompt_prefix
    assert words == "Your answer must not be about the sea, and must not mention it."


def test_the_prompt_stands_before_the_instruction(bench: TaskBench) -> None:
    steerer = Prompt(PromptOptions(template="Speak of {concept}. {braces}"))
    steerer.prepare(bench, labelings("the sea"))
    prefix = steerer.intervene(labelings("the sea")[0], 1.0)
    assert prefix == Intervention(prompt_prefix="Speak of the sea. {braces}")
    asked = bench.model.decode(bench.model.prompt("Name three.", prefix=prefix.prompt_prefix))
    assert asked.index("Speak of the sea.") < asked.index("Name three.")


# --------------------------------------------------------------------------------------------------------------------- failures


def test_a_server_that_is_down_makes_no_templates(api: Any, api_servers: Any, bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.chat.client.dispatch.pause_before", lambda *_: 0.0)
    working, api.answer = api.answer, lambda body: api_servers.Reply({"error": {"message": "overloaded"}}, 500)
    with pytest.raises(RequestFailed) as error:
        made(api).prepare(bench, labelings("the sea"))
    assert (error.value.given, error.value.status, error.value.retryable) == (["the sea"], 500, True)
    assert all(part in error.value.reason for part in ("1 of 1", "gpt-4o-mini", "overloaded"))
    assert "same command" in error.value.hint
    assert not [warning for warning in bench.warnings.messages if "template" in warning]
    api.answer = working
    steerer = made(api)
    steerer.prepare(bench, labelings("the sea"))
    assert prefixes(steerer, "the sea") == ["Always speak of the sea."]


def test_a_wrong_model_or_key_is_said_at_once(api: Any, api_servers: Any, bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    api.answer = lambda body: api_servers.Reply({"error": {"message": "The model `gpt-5-typo` does not exist"}}, 404)
    with pytest.raises(OptionError) as error:
        made(api, writer_model="gpt-5-typo").prepare(bench, labelings("the sea"))
    assert error.value.given == "gpt-5-typo"
    assert "The model `gpt-5-typo` does not exist" in error.value.message
    assert all(part in error.value.hint for part in ("writer_model", "base_url", "writer=template"))
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(OptionError) as error:
        made(api).estimate(Work(concepts=[labelings("the sea")[0].concept]))
    assert error.value.given == "MY_KEY"
    assert "prompt writer openai" in error.value.message
    assert all(part in error.value.hint for part in ("set it", "writer=subject", "writer=template"))


# ---------------------------------------------------------------------------------------------------------------------- options


def test_options_name_the_writer_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for writer, model in MODELS.items():
        monkeypatch.delenv(f"{writer.upper()}_BASE_URL", raising=False)
        assert as_json(build(PromptOptions, {"writer": writer}, "steerer prompt"))["writer_model"] == model
    assert as_json(build(PromptOptions, {}, "steerer prompt"))["writer_model"] is None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:9/v1/")
    assert build(PromptOptions, {"writer": "openai"}, "steerer prompt").base_url == "http://localhost:9/v1"
    assert build(PromptOptions, {}, "steerer prompt").base_url is None
    assert set(transport_names(PromptOptions)) == {"key_name", "timeout", "concurrency"}


@pytest.mark.parametrize("writer", ["openai", "anthropic"])
def test_the_apis_own_server_is_asked_where_it_is_named_whatever_the_environment_says(
    writer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setenv("MY_KEY", SECRET)
    monkeypatch.setenv(f"{writer.upper()}_BASE_URL", "http://127.0.0.1:9/v1")
    steerer = Prompt(build(PromptOptions, {"writer": writer, "base_url": HOMES[writer], "key_name": "MY_KEY"}, "steerer prompt"))
    link: Any = steerer._open_writer().provider
    assert (steerer.record["base_url"], link.connection.url, link.name) == (None, HOMES[writer], writer)


@pytest.mark.parametrize(
    ("options", "given", "allowed", "part"),
    [
        ({"template": "Speak."}, "Speak.", "text", "{concept}"),
        ({"writer": "gemini"}, "gemini", "template | subject | openai | anthropic", "option writer "),
        ({"writer_model": "gpt-4o"}, "writer_model", "['writer=openai', 'writer=anthropic']", "option writer_model "),
        ({"writer": "subject", "key_name": "MY_KEY"}, "key_name", "['writer=openai', 'writer=anthropic']", "option key_name "),
        ({"writer": "openai", "base_url": "localhost:8000"}, "base_url", "None", "option base_url is no address"),
        ({"writer": "openai", "asks": "0"}, "0", "≥ 1", "option asks "),
        ({"writer": "openai", "writer_model": ""}, "", "length ≥ 1", "option writer_model "),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, str], given: object, allowed: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(OptionError) as error:
        build(PromptOptions, options, "steerer prompt")
    assert error.value.given == given
    assert allowed in str(error.value.allowed)
    assert part in error.value.message
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["key_name", "base_url"])
@pytest.mark.parametrize("writer", ["openai", "anthropic"])
def test_a_key_in_the_wrong_place_is_not_shown(name: str, writer: str) -> None:
    with pytest.raises(OptionError) as error:
        build(PromptOptions, {"writer": writer, name: SECRET}, "steerer prompt")
    assert (error.value.given, bool(error.value.hint)) == (name, True)
    assert "not shown" in str(error.value)
    assert SECRET not in str(error.value)


def test_a_key_within_an_address_is_not_shown() -> None:
    with pytest.raises(OptionError) as error:
        build(PromptOptions, {"writer": "openai", "base_url": f"https://host/{SECRET}/v1"}, "steerer prompt")
    assert error.value.given == "base_url"
    assert "path of base_url" in error.value.message
    assert "key_name" in error.value.hint
    assert SECRET not in str(error.value)
