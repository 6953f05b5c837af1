"""HTTP clients: proxies and certificates of the environment, and what is said where they cannot be used."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from harness.chat.http import http_client, proxy_hint, proxy_of, tls_trouble
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
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("listed", "url"),
    [
        ("127.0.0.1", HERE),
        ("localhost,127.0.0.1:8000", HERE),
        ("*", AWAY),
        ("Example.org", AWAY),
        (".example.org", AWAY),
        ("::1", "http://[::1]:8000/v1"),
        ("10.0.0.0/8, 127.0.0.0/8", HERE),
        ("fd00::/8,::1/128", "http://[::1]:8000/v1"),
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


@pytest.mark.parametrize("listed", ["10.0.0.0/8", "128.0.0.0/1", "/8", "127.0.0.1/x", "fd00::/8"])
def test_a_network_that_does_not_hold_the_host_sends_it_through_the_proxy(monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", listed)
    assert proxy_of(HERE) == ("ALL_PROXY", "http://proxy:3128")
    assert "ALL_PROXY" in proxy_hint(HERE)
    assert "127.0.0.1 into NO_PROXY" in proxy_hint(HERE)


@pytest.mark.parametrize(
    "proxy", ["http://", "://", "http://me:secret@proxy:port", "http://[", "proxy:secret", "http://proxy:99999", "http://me:sec ret@proxy"]
)
def test_a_proxy_that_is_no_address_is_one_line_that_shows_nothing_of_it(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(JudgeError) as caught:
        client(HERE)
    assert caught.value.given == "HTTP_PROXY"
    assert "http://" in str(caught.value.allowed)
    assert all(part in caught.value.hint for part in ("HTTP_PROXY", "127.0.0.1", "NO_PROXY"))
    assert "sec" not in str(caught.value).replace("not shown", "")
    client(AWAY).close()  # what is not needed is no obstacle


def test_a_proxy_without_a_scheme_is_one_of_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", " proxy:3128 ")
    client(HERE).close()
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("ALL_PROXY", "socks://proxy:1080")
    client(AWAY).close()  # one of another scheme that cannot be used is not built at all


def test_certificates_that_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty, junk, file, damaged = tmp_path / "empty", tmp_path / "junk", tmp_path / "file.pem", tmp_path / "damaged.pem"
    empty.mkdir()
    junk.mkdir()
    (junk / "authority.pem").write_text("under a name that is not looked for")
    file.write_bytes(b"")
    damaged.write_bytes(b"no certificate")
    absent = tmp_path / "absent"
    for variable, places in (("SSL_CERT_FILE", (absent, file, damaged, empty)), ("SSL_CERT_DIR", (absent, empty, junk, file))):
        for place in places:
            monkeypatch.setenv(variable, str(place))
            with pytest.raises(JudgeError) as caught:
                client(AWAY)
            assert caught.value.given == str(place)
            assert caught.value.message.startswith("openai ")
            assert f" {variable} " in caught.value.message
            assert variable in caught.value.hint
            assert "\n" not in str(caught.value)
            client(HERE).close()  # no TLS, no certificates
            monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
            client(HERE).close()
            monkeypatch.setenv("HTTP_PROXY", "https://proxy:3128")  # TLS to the proxy
            with pytest.raises(JudgeError):
                client(HERE)
            monkeypatch.delenv("HTTP_PROXY")
        monkeypatch.delenv(variable)


def verification(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "the reason."
    return error


@pytest.mark.parametrize(
    ("error", "words", "heals"),
    [
        (verification(18), ("(the reason)", "SSL_CERT_FILE"), False),
        (verification(20), ("(the reason)", "SSL_CERT_FILE"), False),
        (verification(62), ("another host's (the reason)", "base_url"), False),
        (verification(64), ("another host's (the reason)", "base_url"), False),
        (verification(10), ("not valid today (the reason)", "renewed"), False),
        (verification(9), ("not valid today (the reason)", "clock"), False),
        (RuntimeError("illegal request line"), ("https:// in place of http://",), False),
        (ssl.SSLError(1, "[SSL] handshake"), ("sslerror",), True),
    ],
)
def test_each_failure_of_tls_has_its_own_next_step(error: Exception, words: tuple[str, ...], heals: bool) -> None:
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = error
    found = tls_trouble(wrapped)
    assert found is not None
    assert all(word in found[0] for word in words)
    assert found[1] is heals
    assert tls_trouble(RuntimeError("outer")) is None
    assert tls_trouble(None) is None
