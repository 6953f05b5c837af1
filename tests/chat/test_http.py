"""HTTP clients: proxies and certificates of the environment, and what is said where they cannot be used."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from harness.chat.http import http_client, proxy_of
from harness.errors import JudgeError

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
HERE, AWAY = "http://127.0.0.1:8000/v1", "https://api.example.org/v1"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def client(url: str) -> httpx.Client:
    return http_client(httpx.Client, "openai", url, 3.0)


@pytest.mark.parametrize("url", [HERE, AWAY])
def test_no_client_follows_a_redirect(url: str) -> None:
    with client(url) as made:
        assert not made.follow_redirects
        assert made.timeout == httpx.Timeout(3.0)


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY"])
@pytest.mark.parametrize("proxy", ["socks://me:secret@proxy:1080", "ftp://me:secret@proxy"])
def test_a_proxy_that_cannot_be_used_is_one_line_without_its_password(monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str) -> None:
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(JudgeError) as caught:
        client(AWAY)
    assert caught.value.given == proxy.partition(":")[0]
    assert "https://" in str(caught.value.allowed)
    assert caught.value.message.startswith("openai ")
    assert f" {variable} " in caught.value.message
    message = str(caught.value)
    assert "secret" not in message
    assert "\n" not in message
    assert all(part in caught.value.hint for part in (variable, "api.example.org", "NO_PROXY"))
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("listed", "url"),
    [
        ("127.0.0.1", HERE),
        ("localhost,127.0.0.1:8000", HERE),
        ("*", AWAY),
        ("Example.org", AWAY),
        (".example.org", AWAY),
        ("::1", "http://[::1]:8000/v1"),
    ],
)
def test_no_proxy_counts(monkeypatch: pytest.MonkeyPatch, listed: str, url: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://proxy:1080")
    with pytest.raises(JudgeError):
        client(url)
    monkeypatch.setenv("NO_PROXY", listed)
    assert proxy_of(url) is None
    client(url).close()


def test_a_proxy_of_another_scheme_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks://proxy:1080")
    assert proxy_of(HERE) is None
    assert proxy_of(AWAY) == ("HTTPS_PROXY", "socks://proxy:1080")
    client(HERE).close()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE"])
def test_certificates_that_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str) -> None:
    for content in (None, b"no certificate"):
        path = tmp_path / f"certificates-{content is None}.pem"
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setenv(variable, str(path))
        with pytest.raises(JudgeError) as caught:
            client(AWAY)
        assert caught.value.given == str(path)
        assert caught.value.message.startswith("openai ")
        assert f" {variable} " in caught.value.message
        assert variable in caught.value.hint
        assert "\n" not in str(caught.value)
        client(HERE).close()  # no TLS, no certificates
        monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
        with pytest.raises(JudgeError) as caught:
            client(HERE)
        assert caught.value.given == str(path)
        assert variable in caught.value.hint
        monkeypatch.delenv("HTTP_PROXY")
