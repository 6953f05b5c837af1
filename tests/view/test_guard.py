"""The server refuses what does not come from this machine's own pages, and what is more than reading."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from harness.errors import OptionError
from harness.view.server import open_port


def get(site: str, path: str = "/run/demo-1/", method: str = "GET", **headers: str) -> httpx.Response:
    return httpx.request(method, site + path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_this_machine_is_served_by_all_of_its_names(site: str) -> None:
    port = urlsplit(site).port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost:9999", "LOCALHOST", f"[::1]:{port}"):
        assert get(site, host=host).status_code == 200, host


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "evil@127.0.0.1", "127.0.0.1:x", "0.0.0.0", "localhost."],
)
def test_another_name_for_this_machine_is_refused(site: str, host: str) -> None:
    found = get(site, host=host)
    assert found.status_code == 403
    assert "Waves" not in found.text


def test_a_request_without_one_host_is_refused(site: str) -> None:
    parts = urlsplit(site)
    for lines in ("GET /run/demo-1/ HTTP/1.0\r\n\r\n", "GET /run/demo-1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n"):
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
            connection.sendall(lines.encode())
            status = connection.recv(4096).split(b" ")[1]
        assert status in (b"400", b"403")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "https://{host}"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "http://{host}", "sec_fetch_site": "cross-site"},
    ],
)
def test_other_origins_are_refused(site: str, headers: dict[str, str]) -> None:
    found = get(site, **{name: value.format(host=urlsplit(site).netloc) for name, value in headers.items()})
    assert found.status_code == 403
    assert "Waves" not in found.text
    assert not [name for name in found.headers if name.startswith("access-control")]


def test_the_pages_own_requests_are_answered(site: str) -> None:
    assert get(site, origin=site, sec_fetch_site="same-origin").status_code == 200
    assert get(site, sec_fetch_site="none").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_only_reading_is_allowed(site: str, method: str) -> None:
    for path in ("/", "/run/demo-1/", "/nowhere", "/static/view.js"):
        found = get(site, path, method)
        assert (found.status_code, found.headers["allow"]) == (405, "GET, HEAD")


def test_head_answers_without_a_body(site: str) -> None:
    found = get(site, method="HEAD")
    assert (found.status_code, found.content) == (200, b"")
    assert int(found.headers["content-length"]) > 1000


@pytest.mark.parametrize("path", ["/run/demo-1/", "/nowhere", "/run/demo-1/?order=x", "/run/demo-1/state", "/static/view.css", "/static/none"])
def test_every_answer_has_the_headers(site: str, path: str) -> None:
    headers = get(site, path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "data:" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


def test_no_page_has_a_script_or_style_in_itself(site: str) -> None:
    text = get(site).text
    identity = text.partition("/text/")[2][:24]
    for page in (text, get(site, f"/run/demo-1/text/{identity}").text, get(site, "/nowhere").text):
        assert page.count("<script") == page.count('<script src="/static/view.js?v=') == 1
        assert "<style" not in page
        assert " style=" not in page
        assert "http://" not in page


@pytest.mark.parametrize(
    "path",
    [
        "/run/../../../etc/passwd",
        "/run/%2e%2e/%2e%2e/etc/passwd",
        "/run/..%2f..%2f..%2fetc%2fpasswd/",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/run/demo-1/text/..%2f..%2frun.lock",
        "/run/demo-1/detection/../../x",
        "/run/demo-1/text/%00",
    ],
)
def test_no_address_is_made_a_path(site: str, path: str) -> None:
    parts = urlsplit(site)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:  # as it stands: clients would tidy it
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while more := connection.recv(65536):
            answer += more
    assert answer.split(b" ")[1] in (b"404", b"307")
    assert b"root:" not in answer
    assert b"import annotations" not in answer


def test_a_port_that_is_taken_is_one_line() -> None:
    with open_port(0) as taken:
        with pytest.raises(OptionError) as error:
            open_port(taken.getsockname()[1])
        assert error.value.given == taken.getsockname()[1]
        assert taken.getsockname()[0] == "127.0.0.1"


def test_looking_changes_no_byte_of_the_run(site: str, made_run: Path) -> None:
    def state() -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(made_run.iterdir())}

    before = state()
    for query in ("", "?q=waves", "?order=newest", "?strength=chosen", "?differ=1&order=differ"):
        assert get(site, f"/run/demo-1/{query}").status_code == 200
    assert state() == before
