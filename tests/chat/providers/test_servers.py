"""Addresses, the environment's word on them, and the options that plugins share: another server is another judge, and no secret is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.chat.providers.openai import OpenAIProvider
from harness.chat.providers.servers import ServerOptions, connect, server_address
from harness.errors import JudgeError, OptionError
from harness.options import as_json, build, transport_names

KEY = "sk-proj-0123456789abcdefghijKLMNOP"


class Asked(ServerOptions):
    """Options of a plugin of the tests."""


class Claude(ServerOptions):
    """Options of another one."""

    api = "anthropic"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for api in ("OPENAI", "ANTHROPIC"):
        for name in ("API_KEY", "BASE_URL"):
            monkeypatch.delenv(f"{api}_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        ("localhost:8000", "no address", "http://localhost:8000/v1"),
        ("ftp://host/v1", "no address", "http://localhost:8000/v1"),
        ("http://[::1/v1", "no address", "http://localhost:8000/v1"),
        ("http://host:99999/v1", "no address", "http://localhost:8000/v1"),
        ("http://ho st/v1", "no address", "http://localhost:8000/v1"),
        (KEY, "no address", "http://localhost:8000/v1"),
        ("http://me:secret@host/v1", "password", "key_name"),
        ("http://secret@host/v1", "password", "key_name"),
        ("http://host/v1?api-key=secret", "query", "key_name"),
        ("https://secret.openai.azure.com/openai/deployments/x?api-version=2024-10-21", "query", "https://NAME.openai.azure.com/openai/v1"),
        ("http://host/v1#secret", "fragment", "key_name"),
        (f"https://host/{KEY}/v1", "the path of ", "key_name"),
        ("https://host/sk%2Dsecret-0123456789/v1", "the path of ", "key_name"),
        ("https://host/sk-secretsecretsecret/v1", "the path of ", "key_name"),
    ],
)
def test_addresses_that_are_none_or_hold_secrets_are_refused_unseen(
    url: str, message: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError) as refused:
        build(Asked, {"base_url": url}, "judge x")
    with pytest.raises(JudgeError) as direct:
        OpenAIProvider(base_url=url)
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(OptionError) as found:
        build(Asked, {}, "judge x")
    for caught, name in ((refused, "base_url"), (direct, "base_url"), (found, "OPENAI_BASE_URL")):
        assert caught.value.given == name
        assert name in caught.value.message
        assert message in caught.value.message
        assert hint in caught.value.hint
        text = (
            str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__ if caught.value.__suppress_context__ else "")
        )
        assert "secret" not in text
        assert KEY not in text
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://router.host/hf-inference/v1", "https://hf-endpoint-1.host/v1", f"https://host/v1/{'0a' * 16}/openai"]
)
def test_words_that_begin_as_keys_do_are_no_keys(url: str) -> None:
    assert server_address("openai", url) == url


def test_a_key_of_the_environment_in_a_path_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_GATEWAY_TOKEN", "horse-battery-staple")
    with pytest.raises(OptionError) as caught:
        build(Asked, {"base_url": "https://host/horse-battery-staple/v1"}, "judge x")
    assert caught.value.given == "base_url"
    assert "path of base_url" in caught.value.message
    assert "key_name" in caught.value.hint
    assert "horse" not in str(caught.value)


def test_a_server_of_the_environment_is_part_of_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    assert as_json(build(Asked, {}, "judge x"))["base_url"] is None
    monkeypatch.setenv("OPENAI_BASE_URL", " http://localhost:8000/v1/ ")
    assert as_json(build(Asked, {}, "judge x"))["base_url"] == "http://localhost:8000/v1"
    assert as_json(build(Claude, {}, "judge x"))["base_url"] is None
    assert as_json(build(Asked, {"base_url": "http://other:1/v1"}, "judge x"))["base_url"] == "http://other:1/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1/")
    assert as_json(build(Asked, {}, "judge x"))["base_url"] is None, "the API's own server is what it is without the variable"
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://localhost:4000/v1")
    assert as_json(build(Claude, {}, "judge x"))["base_url"] == "http://localhost:4000"


@pytest.mark.parametrize("url", ["http://h:1/v1", "http://h:1/v1/", "http://h:1", "HTTP://H:1/"])
def test_one_server_has_one_address_however_it_is_spelt(url: str) -> None:
    assert server_address("anthropic", url) == "http://h:1"
    assert server_address("openai", url) == url.lower().rstrip("/")
    assert server_address("openai", "http://h:1/Path/V1") == "http://h:1/Path/V1"


def test_the_standard_key_goes_to_own_servers_and_the_one_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert connect("openai", None, None, 1.0).key == KEY
    assert connect("openai", None, "http://localhost:8000/v1", 1.0).key == "none"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    for given in (None, "http://localhost:8000/v1/", build(Asked, {}, "judge x").base_url):
        found = connect("openai", None, given, 1.0)
        assert (found.key, found.server, found.own, found.trusted) == (KEY, "openai@localhost:8000", False, True)
    assert connect("openai", None, "http://localhost:8001/v1", 1.0).key == "none"
    monkeypatch.setenv("OPENAI_BASE_URL", "rubbish")
    assert connect("openai", None, "http://localhost:8001/v1", 1.0).key == "none"


def test_a_missing_key_is_named() -> None:
    with pytest.raises(JudgeError) as caught:
        OpenAIProvider()
    assert (caught.value.given, bool(caught.value.hint)) == ("OPENAI_API_KEY", True)
    with pytest.raises(JudgeError) as caught:
        OpenAIProvider(base_url="http://localhost:8000/v1", key_name="MY_SERVER")
    assert (caught.value.given, bool(caught.value.hint)) == ("MY_SERVER", True)


def test_the_name_of_a_key_is_no_part_of_who_judges() -> None:
    assert transport_names(Asked) == ("key_name",)


@pytest.mark.parametrize("given", ["sk-proj-AbCdEf0123456789abcdef", "two words", "A" * 65])
def test_a_key_given_for_its_name_is_refused_unseen(given: str) -> None:
    with pytest.raises(OptionError) as caught:
        build(Asked, {"key_name": given}, "judge x")
    assert caught.value.given == "key_name"
    assert "MY_SERVER_API_KEY" in caught.value.hint
    assert given not in str(caught.value)
    with pytest.raises(OptionError) as caught:
        Asked(key_name=given)
    assert caught.value.given == "key_name"
    assert given not in str(caught.value)


def test_what_is_no_text_is_refused_as_any_option_is() -> None:
    values: Any = {"key_name": ["sk-proj-AbCdEf0123456789abcdef"]}
    with pytest.raises(ValidationError) as caught:
        Asked(**values)
    assert "AbCdEf" not in str(caught.value)
