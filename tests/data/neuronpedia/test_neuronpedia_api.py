"""Neuronpedia over the network, against a server on this machine that is as unreliable as the real ones: slow, refusing, lying, cut short."""

from __future__ import annotations

import email.utils
import gzip
import json
import logging
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.data.neuronpedia.api import SEARCH_PAGE, ApiLabels, feature, fetch_bulk, search
from harness.data.neuronpedia.explanations import Explanation, SourceId, explained_features
from harness.data.neuronpedia.http import KEY_ENV, Server, load, store
from harness.data.neuronpedia.open import open_explanations
from harness.errors import DataError, HarnessError, StoreError

SOURCE = SourceId("gemma-2-2b", "20-gemmascope-res-16k")
KEY = "sk-np-s3cret0123456789"
PAGE = "<!DOCTYPE html><html><body>Application error</body></html>"


# -------------------------------------------------------------------------------------------------------------------- the server


@dataclass
class Site:
    """What the server has, what it does wrong first, and what it was asked."""

    address: str = ""
    features: dict[int, Any] = field(default_factory=dict)
    batches: dict[int, bytes] = field(default_factory=dict)
    moods: list[Callable[[Any], bool]] = field(default_factory=list)
    """Each answers one request in place of the server, if it returns True."""
    asked: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: Any) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        site.asked[self.path] += 1
        site.times.append(time.monotonic())
        site.keys.append(self.headers.get("X-Api-Key"))
        site.bodies.append(body)
        if site.moods and site.moods.pop(0)(self):
            return
        parts = self.path.strip("/").split("/")
        if parts[:2] == ["api", "feature"] and int(parts[-1]) in site.features:
            self.answer(site.features[int(parts[-1])])
        elif parts == ["api", "explanation", "search"]:
            self.answer({"request": body, "results": hits(body["query"])[body["offset"] :][:SEARCH_PAGE]})
        elif parts[0] == "v1" and int(parts[-1].split("-")[1].split(".")[0]) in site.batches:
            self.answer(site.batches[int(parts[-1].split("-")[1].split(".")[0])])
        else:
            self.answer({"error": "Feature Not Found"}, 404)

    def answer(self, content: Any, status: int = 200, short: int = 0, **headers: str) -> None:
        """``content`` as JSON (text and bytes as they are), ``short`` bytes fewer than announced."""
        data = content if isinstance(content, bytes) else (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data[: len(data) - short])
        if short:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.site = found = Site(f"http://127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_ENV, raising=False)


@pytest.fixture
def connect(site: Site, tmp_path: Path) -> Callable[..., Server]:
    """A function that makes a server object with the test's cache and no patience."""

    def make(**options: Any) -> Server:
        return Server(
            site.address, **{"cache": tmp_path / "cache", "interval": 0.0, "pause": 0.01, "timeout": 0.5, "attempts": 4, **options}
        )

    return make


def reply(index: int, *texts: Any) -> dict[str, Any]:
    """A reply of ``GET /api/feature``, with what the real ones carry along."""
    said = [
        {"id": "x", "description": text, "explanationModelName": "gpt", "typeName": "t", "scores": [], "embedding": "[1]"} for text in texts
    ]
    place = {"modelId": SOURCE.model, "layer": SOURCE.source, "index": str(index)}
    return {**place, "explanations": said, "activations": [{"tokens": ["a"] * 1000}]}


def rows(*pairs: tuple[int, Any]) -> bytes:
    """A batch of the bulk files."""
    place = {"modelId": SOURCE.model, "layer": SOURCE.source, "explanationModelName": "gpt", "embedding": [0.1] * 9}
    return gzip.compress("".join(json.dumps({**place, "index": str(i), "description": text}) + "\n" for i, text in pairs).encode())


def hits(query: str) -> list[dict[str, Any]]:
    """50 hits of the search, one of them an error text."""
    place = {"modelId": SOURCE.model, "layer": SOURCE.source, "explanationModelName": "gpt"}
    texts = [f"{query} {i}" if i != 1 else "Error: 429" for i in range(50)]
    return [{**place, "index": str(100 + i), "description": text, "cosine_similarity": 1 - i / 100} for i, text in enumerate(texts)]


def moody(content: Any, status: int = 200, **more: Any) -> Callable[[Handler], bool]:
    return lambda handler: handler.answer(content, status, **more) or True


def slow(handler: Handler) -> bool:
    time.sleep(0.8)
    return False


def dead(handler: Handler) -> bool:
    handler.close_connection = True
    return True


# ------------------------------------------------------------------------------------------------------------------ one feature


def test_a_feature_is_asked_for_once(site: Site, connect: Callable[..., Server]) -> None:
    site.features[7] = reply(7, "tea", "Error: 429")
    for _ in range(2):
        row = feature(connect(), SOURCE, 7)
        assert row is not None
        assert row.said == (Explanation(7, "tea", "gpt (t)"),)
    assert site.asked == {"/api/feature/gemma-2-2b/20-gemmascope-res-16k/7": 1}


def test_the_real_reply_and_what_is_kept_of_it(site: Site, connect: Callable[..., Server], shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "neuronpedia" / "feature_gemma-2-2b_21-gemmascope-res-65k_353.json"
    real = SourceId("gemma-2-2b", "21-gemmascope-res-65k")
    site.moods = [moody(path.read_bytes())]
    first, again = feature(connect(), real, 353), feature(connect(), real, 353)
    assert first is not None
    assert first == again
    assert first.said[0].text.startswith("specific patterns related to letters")
    kept = list((tmp_path / "cache").rglob("353.json"))
    assert len(kept) == 1
    assert kept[0].stat().st_size < 1000 < path.stat().st_size


@pytest.mark.parametrize(
    "missing", [moody({"error": "Feature Not Found"}, 404), moody("null"), moody({"error": "Feature not found"}), moody("", 404)]
)
def test_no_such_feature_is_remembered(site: Site, connect: Callable[..., Server], missing: Any) -> None:
    site.moods = [missing]
    site.features[9] = reply(9, "it appeared later")
    labels = ApiLabels(connect(), SOURCE)
    assert labels.of(9) == ()
    assert "1 no such feature" in labels.summary()
    assert ApiLabels(connect(), SOURCE).of(9) == ()
    assert sum(site.asked.values()) == 1


MOODS = {
    "500": moody("oops", 500),
    "502 with a page": moody(PAGE, 502),
    "a page with status 200": moody(PAGE),
    "malformed JSON": moody('{"modelId": "gemma'),
    "an error with status 200": moody({"error": "Internal"}),
    "a number": moody("17"),
    "another feature": moody(reply(8, "coffee")),
    "a body cut short": moody(reply(7, "tea"), short=300),
    "too many requests": moody("slow down", 429),
    "no reply": dead,
    "slow": slow,
}


@pytest.mark.parametrize("mood", MOODS.values(), ids=MOODS.keys())
def test_what_can_pass_is_tried_again(site: Site, connect: Callable[..., Server], mood: Any) -> None:
    site.features[7] = reply(7, "tea")
    site.moods = [mood]
    row = feature(connect(), SOURCE, 7)
    assert row is not None
    assert [e.text for e in row.said] == ["tea"]
    assert sum(site.asked.values()) == 2


@pytest.mark.parametrize("name", ["500", "a page with status 200", "malformed JSON", "a body cut short", "another feature", "no reply"])
def test_what_does_not_pass_is_an_error_and_never_a_label(site: Site, connect: Callable[..., Server], name: str, tmp_path: Path) -> None:
    site.moods = [MOODS[name]] * 3
    with pytest.raises(DataError) as error:
        feature(connect(attempts=3), SOURCE, 7)
    assert error.value.given == f"{site.address}/api/feature/{SOURCE}/7"
    assert "3 times" in error.value.message
    assert "network" in error.value.hint
    assert "\n" not in str(error.value)
    assert sum(site.asked.values()) == 3
    assert list((tmp_path / "cache").rglob("*.json")) == []


def test_a_refusal_is_not_repeated(site: Site, connect: Callable[..., Server]) -> None:
    site.moods = [moody({"message": "Model is required"}, 400), moody("no", 401)]
    for status, reason, advice in ((400, "Model is required", "model_id and source_id"), (401, "no", KEY_ENV)):
        with pytest.raises(DataError) as error:
            feature(connect(), SOURCE, 7)
        assert error.value.given == f"{site.address}/api/feature/{SOURCE}/7"
        assert f"HTTP {status} " in error.value.message
        assert reason in error.value.message
        assert advice in error.value.hint
    assert sum(site.asked.values()) == 2


def test_the_server_says_how_long_to_wait(site: Site, connect: Callable[..., Server]) -> None:
    said: list[str] = []
    site.features[7] = reply(7, "tea")
    date = email.utils.formatdate(time.time() + 2.5, usegmt=True)
    site.moods = [moody("", 429, Retry_After="1"), moody("", 503, Retry_After=date)]
    assert feature(connect(say=said.append), SOURCE, 7) is not None
    gaps = [later - earlier for earlier, later in zip(site.times, site.times[1:], strict=False)]
    assert gaps[0] >= 1
    assert gaps[1] >= 0.4  # dates have whole seconds
    assert re.fullmatch(r"Neuronpedia: HTTP 429; asking again in 1 s", said[0])


def test_a_wait_of_an_hour_is_said_and_not_slept(site: Site, connect: Callable[..., Server]) -> None:
    site.moods = [moody("", 429, Retry_After="3600")]
    with pytest.raises(DataError) as error:
        feature(connect(), SOURCE, 7)
    assert "HTTP 429" in error.value.message
    assert "3600 s" in error.value.message
    assert "300 s" in str(error.value.allowed)
    assert error.value.hint


def test_requests_are_spaced(site: Site, connect: Callable[..., Server]) -> None:
    server = connect(interval=0.1)
    site.features = {i: reply(i, "tea") for i in range(4)}
    for index in range(4):
        feature(server, SOURCE, index)
    assert site.times[-1] - site.times[1] > 0.15  # two intervals; the first request is late, since it connects


def test_offline_what_was_fetched_is_there_and_the_rest_is_an_error(site: Site, connect: Callable[..., Server], tmp_path: Path) -> None:
    site.features[7] = reply(7, "tea")
    feature(connect(), SOURCE, 7)
    site.moods = [dead] * 99
    row = feature(connect(), SOURCE, 7)
    assert row is not None
    assert row.said[0].text == "tea"
    unreachable = Server("http://127.0.0.1:9", cache=tmp_path / "other", pause=0.01, interval=0)
    with pytest.raises(DataError) as error:
        feature(unreachable, SOURCE, 7)
    assert str(error.value.given).startswith("http://127.0.0.1:9/")
    assert "3 times" in error.value.message
    assert "Connection refused" in error.value.message
    assert "network" in error.value.hint


@pytest.mark.parametrize("damage", [b"", b"{", b"\x00" * 50, b'{"format": 1}', b"[]"])
def test_a_damaged_cache_file_is_fetched_again(site: Site, connect: Callable[..., Server], tmp_path: Path, damage: bytes) -> None:
    site.features[7] = reply(7, "tea")
    before = feature(connect(), SOURCE, 7)
    (path,) = (tmp_path / "cache").rglob("7.json")
    path.write_bytes(damage)
    assert feature(connect(), SOURCE, 7) == before
    path.write_bytes(path.read_bytes().replace(b'"tea"', b'"ale"'))  # intact JSON that somebody changed
    assert feature(connect(), SOURCE, 7) == before
    assert sum(site.asked.values()) == 3


def test_servers_do_not_share_what_they_said(site: Site, connect: Callable[..., Server], tmp_path: Path) -> None:
    site.features[7] = reply(7, "tea")
    feature(connect(), SOURCE, 7)
    other = Server(site.address + "/", cache=tmp_path / "cache")
    assert other.cache == connect().cache
    mirror = Server(site.address.replace("127.0.0.1", "localhost"), cache=tmp_path / "cache")
    assert mirror.cache != connect().cache


def test_a_cache_that_cannot_be_written_says_so(site: Site, tmp_path: Path) -> None:
    site.features[7] = reply(7, "tea")
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StoreError) as error:
        feature(Server(site.address, cache=tmp_path / "file", interval=0), SOURCE, 7)
    assert "Neuronpedia" in str(error.value)
    assert str(tmp_path / "file") in str(error.value)


# ----------------------------------------------------------------------------------------------------------------------- the key


def test_the_key_is_sent_and_nowhere_else(
    site: Site, connect: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv(KEY_ENV, f" {KEY}\n")
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    site.features[7] = reply(7, f"tea, and {KEY}")
    site.moods = [moody(f"the key {KEY} is tired", 500, X_Echo=KEY), moody(PAGE), moody("", 429)]
    server = connect(say=said.append, pause=1e-3)
    feature(server, SOURCE, 7)
    search(server, SOURCE, "tea")
    assert set(site.keys) == {KEY}
    refused = moody({"error": f"bad key {KEY}"}, 403)
    places = ("http://elsewhere.example/", site.address.replace("http:", "https:"), "http://127.0.0.1:1/", f"/api?k={KEY}")
    site.moods = [refused, *(moody("", status, Location=places[status % 4]) for status in (301, 302, 303, 307, 308))]
    errors = []
    for index in range(8, 14):
        asked = sum(site.asked.values())
        with pytest.raises(DataError) as error:
            feature(server, SOURCE, index)
        errors.append(str(error.value))
        assert sum(site.asked.values()) == asked + 1
    assert "bad key …" in errors[0]
    assert all("is elsewhere" in error for error in errors[1:])
    stored = [path.read_text(encoding="utf-8") for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert stored
    assert KEY not in "".join([*said, *errors, *stored, caplog.text, repr(server), str(server)])


def test_tls_that_fails_says_so_and_is_not_tried_again(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        feature(Server(site.address.replace("http:", "https:"), cache=tmp_path, timeout=5.0), SOURCE, 7)
    assert "the TLS connection failed" in error.value.message
    assert "http:// in place of https://" in error.value.message


def test_the_key_goes_to_the_api_alone(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    site.batches[0] = rows((1, "tea"))
    dictionary: Any = SimpleNamespace(
        source="s",
        model_name="gemma-2-2b",
        hook_name="blocks.20.hook_resid_post",
        d_sae=16384,
        cfg={"metadata": {"neuronpedia_id": str(SOURCE)}},
    )
    labels, _ = open_explanations(dictionary, "bulk", base_url=site.address)
    assert labels.of(1)[0].text == "tea"
    assert set(site.keys) == {None}
    with pytest.raises(DataError) as error:
        Server("http://mirror.example")
    assert (error.value.given, error.value.allowed) == ("http://mirror.example", "https")
    assert KEY_ENV in error.value.hint


@pytest.mark.parametrize("key", ["sk np", "sk-\u20ac", "a\x01b"])
def test_a_key_that_cannot_be_sent_is_not_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(KEY_ENV, key)
    with pytest.raises(DataError) as error:
        Server("https://www.neuronpedia.org")
    assert (error.value.given, bool(error.value.hint)) == (KEY_ENV, True)
    assert key not in str(error.value)


@pytest.mark.parametrize(
    "address", ["", "www.neuronpedia.org", "ftp://x", "http://", "https://me:pw@x.org", "https://x.org?key=1", "https://x:p", "http://["]
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(DataError) as error:
        Server(address)
    assert "https://" in str(error.value.allowed)
    assert "base_url" in error.value.hint
    assert error.value.given is None, "an address may hold a password"
    assert "pw" not in str(error.value)


# -------------------------------------------------------------------------------------------------------------------- the search


def test_the_search_comes_in_pages_and_is_kept(site: Site, connect: Callable[..., Server]) -> None:
    for _ in range(2):
        first, second, third = (search(connect(), SOURCE, " hot  tea ", offset) for offset in (0, 20, 40))
        assert [hit.explanation.feature for hit in first] == [100, *range(102, 120)]  # 101 is an error text
        assert first[0].explanation == Explanation(100, "hot tea 0", "gpt")
        assert first[0].similarity == 1.0
        assert [len(page) for page in (first, second, third)] == [19, 20, 10]
    assert sum(site.asked.values()) == 3
    assert site.bodies[1] == {"modelId": SOURCE.model, "layers": [SOURCE.source], "query": "hot tea", "offset": 20}
    with pytest.raises(DataError) as error:
        search(connect(), SOURCE, "AI")
    assert (error.value.given, error.value.allowed, bool(error.value.hint)) == ("AI", "at least 3 characters", True)


@pytest.mark.parametrize(
    "wrong",
    [{"results": None}, {"results": [{"index": "1"}]}, {"results": [{**hits("x")[0], "cosine_similarity": None}]}, {"results": ["x"]}, []],
)
def test_hits_that_are_none_are_asked_for_again(site: Site, connect: Callable[..., Server], wrong: Any) -> None:
    site.moods = [moody(wrong)]
    assert len(search(connect(), SOURCE, "tea")) == 19
    site.moods = [moody(wrong)] * 4
    with pytest.raises(DataError) as error:
        search(connect(), SOURCE, "coffee")
    assert error.value.given == f"{site.address}/api/explanation/search"
    assert "broken" in error.value.message
    assert error.value.hint


def test_a_server_without_search(site: Site, connect: Callable[..., Server]) -> None:
    site.moods = [moody("", 404)]
    with pytest.raises(DataError) as error:
        search(connect(), SOURCE, "tea")
    assert error.value.given == site.address
    assert "base_url" in error.value.hint


# --------------------------------------------------------------------------------------------------------------------- bulk files


def test_batches_are_read_until_there_are_no_more(site: Site, connect: Callable[..., Server]) -> None:
    site.batches = {0: rows((1, "tea"), (10, "ale"), (1, "a hot drink")), 1: rows((2, "rain"), (10, "ale"), (11, None))}
    first = fetch_bulk(connect(), SOURCE)
    assert {f: [e.text for e in first.of(f)] for f in first.features} == {1: ["a hot drink", "tea"], 2: ["rain"], 10: ["ale"]}
    assert first.unlabelled == {11: "null"}
    assert sum(site.asked.values()) == 4  # two batches, and twice 404
    site.moods = [dead] * 99
    again = fetch_bulk(connect(), SOURCE)
    assert again.by_feature == first.by_feature
    assert sum(site.asked.values()) == 4


def test_a_batch_cut_short_is_fetched_again(site: Site, connect: Callable[..., Server]) -> None:
    site.batches[0] = rows(*((i, f"topic {i * 7919 % 997}") for i in range(300)))
    half = site.batches[0][: len(site.batches[0]) // 2]
    site.moods = [moody(half), moody(site.batches[0], short=50), moody(PAGE), moody(gzip.compress(b"")), moody("slow", 503)]
    assert len(fetch_bulk(connect(attempts=6), SOURCE).by_feature) == 300
    assert site.asked[f"/v1/{SOURCE}/explanations/batch-0.jsonl.gz"] == 6


def test_an_interrupted_download_goes_on(site: Site, connect: Callable[..., Server]) -> None:
    site.batches = {i: rows((i, f"topic {i}")) for i in range(3)}
    site.moods = [lambda handler: False, lambda handler: False, *[moody("", 500)] * 4]
    with pytest.raises(DataError) as error:
        fetch_bulk(connect(), SOURCE)
    assert "batch-2" in str(error.value.given)
    assert "HTTP 500" in error.value.message
    assert error.value.hint
    site.asked.clear()
    assert fetch_bulk(connect(), SOURCE).features == (0, 1, 2)
    assert [int(name.split("-")[-1].split(".")[0]) for name in site.asked] == [2, 3, 4]


def test_a_damaged_batch_of_the_cache_is_fetched_again(site: Site, connect: Callable[..., Server], tmp_path: Path) -> None:
    site.batches = {i: rows((i, f"topic {i}")) for i in range(3)}
    before = fetch_bulk(connect(), SOURCE)
    site.asked.clear()
    (path,) = (tmp_path / "cache").rglob("batch-1.json")
    path.write_bytes(path.read_bytes()[:-20])
    assert fetch_bulk(connect(), SOURCE).by_feature == before.by_feature
    assert [name.split("/")[-1] for name in site.asked] == ["batch-1.jsonl.gz"]
    (index,) = (tmp_path / "cache").rglob("index.json")
    index.unlink()
    assert fetch_bulk(connect(), SOURCE).by_feature == before.by_feature


def test_a_missing_batch_and_bad_rows_are_named(site: Site, connect: Callable[..., Server]) -> None:
    good = gzip.decompress(rows((4, "tea")))
    other = good.replace(b"20-gemmascope-res-16k", b"21-gemmascope-res-16k")
    site.batches = {0: rows((1, "tea")), 2: gzip.compress(good + b'{"index": \n' + other + b'{"index": "x"}\n')}
    found = fetch_bulk(connect(), SOURCE)
    assert found.features == (1, 4)
    assert [skip.file for skip in found.skipped] == ["batch-1", "batch-2", "batch-2", "batch-2"]
    assert found.skipped[0].reason == "missing from the bucket"
    assert "21-gemmascope-res-16k" in found.skipped[2].reason


def test_a_source_that_the_bucket_does_not_have(site: Site, connect: Callable[..., Server]) -> None:
    with pytest.raises(DataError) as error:
        fetch_bulk(connect(), SOURCE)
    assert error.value.given == "gemma-2-2b/20-gemmascope-res-16k"
    assert "model_id and source_id" in error.value.hint
    site.batches[0] = rows((1, "tea"))  # published since: nothing of the failure is remembered
    assert fetch_bulk(connect(), SOURCE).features == (1,)


def test_two_processes_share_one_download(site: Site, tmp_path: Path) -> None:
    site.batches = {i: rows(*((i * 50 + j, f"topic {j}") for j in range(50))) for i in range(6)}
    site.moods = [slow]
    program = (
        "import sys; from pathlib import Path\n"
        "from harness.data.neuronpedia.open import SourceId\n"
        "from harness.data.neuronpedia.api import fetch_bulk\n"
        "from harness.data.neuronpedia.http import Server\n"
        f"server = Server({site.address!r}, cache=Path({str(tmp_path)!r}), interval=0.01)\n"
        f"print(len(fetch_bulk(server, SourceId.parse({str(SOURCE)!r})).by_feature))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == ["300", "300"]
    assert sum(site.asked.values()) == 8


# --------------------------------------------------------------------------------------------------------------------- together


def test_drawing_from_the_api_asks_for_no_more_than_needed(site: Site, connect: Callable[..., Server]) -> None:
    site.features = {i: reply(i, "tea" if i % 3 else "—") for i in range(30)}
    labels = ApiLabels(connect(), SOURCE)
    drawn = [next(explained_features(labels, order))[0] for order in ([3, 6, 1, 2], [6, 31, 4])]
    assert drawn == [1, 4]
    assert sum(site.asked.values()) == 5  # 3, 6, 1; then 31 and 4
    assert labels.n_unlabelled == 3
    assert labels.summary() == f"{SOURCE}: 2 of 5 features asked for are explained (2 without a letter or digit, 1 no such feature)"


def test_what_is_stored_is_what_is_loaded(tmp_path: Path) -> None:
    store(tmp_path / "a" / "b.json", ["k", 1], {"text": "naïve — ü", "n": None})
    assert load(tmp_path / "a" / "b.json", ["k", 1]) == (True, {"text": "naïve — ü", "n": None})
    assert load(tmp_path / "a" / "b.json", ["k", 2]) == (False, None)
    assert load(tmp_path / "gone.json", 1) == (False, None)
    assert issubclass(DataError, HarnessError)
