"""Keys: where they are read from, and that they stay out of every text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.chat.providers.keys import Misplaced, check_key_name, find_key, key, redact
from harness.chat.values import RequestFailed
from harness.errors import JudgeError

SECRET = "zz-qwertyuiop0123456789-ASDF"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("OPENAI_API_KEY=from-the-file\n")
    assert key("OPENAI_API_KEY") == "from-the-file"
    monkeypatch.setenv("OPENAI_API_KEY", " from-outside \n")
    assert key("OPENAI_API_KEY") == "from-outside"
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert key("OPENAI_API_KEY") == "from-the-file"


def test_a_missing_key_is_named_in_one_line() -> None:
    assert find_key("OPENAI_API_KEY") is None
    with pytest.raises(JudgeError) as caught:
        key("OPENAI_API_KEY")
    assert (caught.value.given, bool(caught.value.hint)) == ("OPENAI_API_KEY", True)
    assert "environment" in caught.value.message
    assert str(Path.cwd() / ".env") in caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=plain", "plain"),
        ("export A = spaced   # a comment", "spaced"),
        ("A=with#hash", "with#hash"),
        ("A='sin#gle'  # comment", "sin#gle"),
        ('A="dou\\"ble"', 'dou"ble'),
        ("A=sk-$HOME-${HOME}", "sk-$HOME-${HOME}"),
        ("A=", None),
        ("A", None),
        ("A= # nothing", None),
        ("\ufeffA=after-a-BOM", "after-a-BOM"),
        ("# A=comment\nA=1\nA=2", "2"),
        ("no assignment here\nA=1\r\n", "1"),
        ("B='never ends\nA=1", "1"),
        ("C=1\nA='never-ends", None),
    ],
)
def test_the_lines_of_a_dotenv_file(text: str, value: str | None, capfd: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_text(text, encoding="utf-8")
    assert find_key("A") == value
    assert capfd.readouterr() == ("", ""), "what another program's line looks like is no news here"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_a_key_in_double_quotes_comes_back(value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    Path(".env").write_text(f'KEY_OF_A_TEST="{escaped}"\n', encoding="utf-8")
    assert find_key("KEY_OF_A_TEST") == value


@pytest.mark.parametrize("bad", ["two words", "line\nbreak", "schlüssel-123", "tab\tinside"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", bad)
    with pytest.raises(JudgeError) as caught:
        key("OPENAI_API_KEY")
    assert caught.value.given == "OPENAI_API_KEY"
    assert "copy" in caught.value.hint
    assert "environment" in caught.value.message
    assert bad not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        None,
        "OPENAI_API_KEY",
        "MY_SERVER",
        "_x",
        "hf_token",
        "hf_api_key",
        "KEY2",
        "A" * 64,
        "sk_key",
        "VERY_LONG_NAME_OF_A_VARIABLE_1234567890",
    ],
)
def test_names_of_variables(name: str | None) -> None:
    assert check_key_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "sk-proj-AbCdEf0123456789abcdef",
        "sk_live_0123456789abcdef",
        "gsk_AbCd0123456789",
        "hf_AbCdEfGh0123456789",
        "AIzaSyA0123456789abcdefghij",
        "0123456789abcdef0123456789abcdef",
        "a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5",
        "A" * 65,
        "two words",
        "MY-KEY",
        "1KEY",
        "",
        "OPENAI_API_KEY\n",
        SECRET,
    ],
)
def test_what_is_no_name_of_a_variable_may_be_a_key_and_is_not_shown(name: str) -> None:
    with pytest.raises(Misplaced, match="key_name") as caught:
        check_key_name(name)
    assert caught.value.name == "key_name"
    assert "MY_SERVER_API_KEY" in caught.value.hint
    assert not name or name not in str(caught.value)


def test_a_known_key_is_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_key_name("only_letters_in_this_key") == "only_letters_in_this_key"
    monkeypatch.setenv("OPENAI_API_KEY", "only_letters_in_this_key")
    with pytest.raises(Misplaced, match="key_name") as caught:
        check_key_name("only_letters_in_this_key")
    assert "only_letters_in_this_key" not in str(caught.value)


@pytest.mark.parametrize("name", ["sk-proj-AbCdEf01", "Kq" * 21, SECRET])
def test_a_key_that_is_looked_up_as_a_name_is_not_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(JudgeError) as caught:
        key(name)
    assert "set it" in caught.value.hint
    assert name not in str(vars(caught.value))
    assert name not in str(caught.value)


def test_an_unreadable_file_says_so(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"OPENAI_API_KEY=\xff\xfe")
    path = Path.cwd() / ".env"
    with pytest.raises(JudgeError) as caught:
        key("OPENAI_API_KEY")
    assert caught.value.given == path
    assert "UTF-8" in caught.value.message
    assert "UTF-8" in caught.value.hint
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    with pytest.raises(JudgeError) as caught:
        key("OPENAI_API_KEY")
    assert (caught.value.given, bool(caught.value.hint)) == (path, True)
    assert "folder" in caught.value.message


def test_known_keys_are_replaced_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    text = redact(f"refused {SECRET}, header b'Bearer {SECRET}', cut {SECRET[:15]}… and {SECRET[:13]}***")
    assert SECRET[:12] not in text
    assert text.count("[key]") == 4


def test_a_key_of_the_file_is_replaced_too() -> None:
    Path(".env").write_text(f"OPENAI_API_KEY={SECRET}\n")
    key("OPENAI_API_KEY")
    assert redact(f"no {SECRET}!") == "no [key]!"


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abcd1234",
        "Incorrect API key provided: sk-proj-********************wxyz.",
        "Incorrect API key provided: wrongke*********long.",
        "x-api-key: abcdefgh1234",
        "authorization: Bearer abcdefgh1234",
        "invalid sk-ant-api03-abc_def-123",
    ],
)
def test_what_looks_like_a_key_is_replaced(text: str) -> None:
    cleaned = redact(text)
    assert "[key]" in cleaned
    assert not any(part in cleaned for part in ("abcd", "wxyz", "wrongke", "abc_def"))


WORD = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def masked(text: str) -> str:
    """``text`` with what looks like a masked key (``ab***``) hidden, character by character: the same as a pattern would, without one."""
    out, at = "", 0
    while at < len(text):
        end = at
        while end < len(text) and text[end] in WORD:
            end += 1
        stars = end
        while stars < len(text) and text[stars] == "*":
            stars += 1
        if end - at >= 2 and stars - end >= 3:
            while stars < len(text) and text[stars] in WORD:
                stars += 1
            out, at = out + "[key]", stars
        else:
            stop = max(end, at + 1)
            out, at = out + text[at:stop], stop
    return out


@given(st.text("aZ0_-* .", max_size=60))
def test_masked_keys_are_found_as_a_scan_finds_them(text: str) -> None:
    assert redact(text) == masked(text)


@pytest.mark.parametrize(
    "unit",
    ["a", "-", "*", "ab**", "a-b_c*", "sk", "sk-", "hf_a", "Bearer ", "Bearer a", "x-api-key: ", "api_key=api_key=", f"{SECRET[:12]}", "a***"],
)
def test_a_page_of_300_kb_holds_nothing_up(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock: what took the square of the length would not end."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    text = unit * (300_000 // len(unit))
    assert redact(redact(text)) == redact(text)
    assert len(RequestFailed(text).reason) <= 400


@pytest.mark.parametrize("text", ["Rating: [[2]], **bold** and a task-force", "", "risk-taking is fine", "gpt-4o-mini does not exist"])
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


def test_a_short_placeholder_of_a_local_server_spoils_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert redact("there are none") == "there are none"


def test_a_failure_is_one_clean_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    failure = RequestFailed(f"<html>\n{SECRET}\n" + "x" * 10_000)
    assert len(failure.reason) <= 400
    assert "\n" not in str(failure)
    assert SECRET not in repr(failure)


def test_no_key_is_in_a_traceback(tmp_path: Path) -> None:
    program = "from harness.chat.values import RequestFailed\nimport os\nraise RequestFailed('refused: ' + os.environ['OPENAI_API_KEY'])"
    answer = subprocess.run([sys.executable, "-c", program], env={"OPENAI_API_KEY": SECRET, "PATH": ""}, capture_output=True, text=True)
    assert "RequestFailed: refused: [key]" in answer.stderr
    assert SECRET not in answer.stderr
