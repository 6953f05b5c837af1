"""The page that people rate on, in a real browser: ratings, keys, undo, what is kept, what is handed over, and that it talks to nobody."""

from __future__ import annotations

import csv
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from harness_plugins.judges.human.guide import GUIDE
from harness_plugins.judges.human.page import render_page
from harness_plugins.judges.human.sheets import page_ids
from helpers.browser import started_chromium
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.judging.sheets import COLUMNS, SheetRow, read_sheet

HOSTILE = '</script><script>window.hacked = 1</script><img src="http://127.0.0.1:9/x" onerror="window.hacked = 2"> {{DATA}} & <b>bold</b>'
TEXTS = ["The first text.", HOSTILE, "  ", "Zeile 1\n  Zeile 2 – „schön“, \U0001f41d", "=1+1", "A long text. " * 200]
ROWS = [SheetRow(f"t{place:012x}", f"concept {place}", f"Do {place}.", text) for place, text in enumerate(TEXTS)]


# ------------------------------------------------------------------------------------------------------------------ without a browser


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=40) | st.sampled_from([HOSTILE, "<!--<script>", "\u2028", "{{SCRIPT}}"]), min_size=1, max_size=5))
def test_any_text_survives_the_page(texts: list[str]) -> None:
    rows = [SheetRow(f"t{place:012x}", text, text[::-1], text * 2) for place, text in enumerate(texts)]
    page = render_page("sheet-1", rows)
    assert page_ids(page) == tuple(row.id for row in rows)
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    assert [SheetRow(**row) for row in json.loads(found[1])["rows"]] == rows
    assert page.count("<script") == 2, "a text has become a script of the page"


@pytest.mark.parametrize(
    "damage", [lambda page: page[: len(page) // 2], lambda page: "<html></html>", lambda page: page.replace('"rows"', '"rowz"')]
)
def test_a_damaged_page_is_refused(damage: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match="texts"):
        page_ids(damage(render_page("sheet-1", ROWS)))


def test_the_page_names_no_address_and_forbids_connections() -> None:
    page = render_page("sheet-1", [SheetRow("t1", "c", "i", "t")])
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'" in page
    assert "unsafe" not in page


# --------------------------------------------------------------------------------------------------------------------- the browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real browser, started once. Downloads go to its ``downloads``."""
    with started_chromium() as browser:
        browser.downloads = tmp_path_factory.mktemp("downloads")
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(browser.downloads)})
        yield browser


class Rater:
    """A person at the page."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.browser, self.path = browser, path
        self.open(path)

    def open(self, path: Path | None = None) -> None:
        """Open a page, or the same again, and wait until it has read what is kept."""
        if path is None:
            self.browser.refresh()
        else:
            self.browser.get(path.as_uri())
        deadline = time.monotonic() + 20
        while self.run("return document.body.inert"):
            assert time.monotonic() < deadline, "the page does not come to life"
            time.sleep(0.01)

    def kept(self) -> Any:
        """Return what the browser keeps of the sheet, after all that was written before."""
        return self.browser.execute_async_script(
            "const [done, asked] = [arguments[0], store.transaction('sheets').objectStore('sheets').get(data.key)];"
            "asked.onsuccess = () => done(asked.result ?? null);"
        )

    def find(self, name: str) -> Any:
        return self.browser.find_element("id", name)

    def text(self, name: str) -> str:
        return str(self.browser.execute_script("return document.getElementById(arguments[0]).textContent", name))

    def keys(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def pressed(self) -> list[str]:
        return [button.get_attribute("id") for button in self.browser.find_elements("css selector", "[aria-pressed=true]")]

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def download(self) -> Path:
        for path in self.browser.downloads.iterdir():
            path.unlink()
        self.find("download").click()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            files = [path for path in self.browser.downloads.iterdir() if path.suffix == ".csv"]
            if files:
                return Path(files[0])
            time.sleep(0.02)
        raise AssertionError("nothing was downloaded")


@pytest.fixture
def rater(chromium: Any, tmp_path: Path) -> Iterator[Rater]:
    path = tmp_path / "sheet-7.html"
    path.write_text(render_page("sheet-7", ROWS), encoding="utf-8")
    person = Rater(chromium, path)
    person.browser.execute_async_script(  # pages of files may share one storage
        "const [done, writing] = [arguments[0], store.transaction('sheets', 'readwrite')];"
        "writing.objectStore('sheets').clear(); writing.oncomplete = () => done();"
    )
    person.open()
    yield person
    errors = [entry["message"] for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert [error for error in errors if "127.0.0.1" not in error] == [], "the page's script failed"


def test_keys_rate_text_after_text_and_show_how_far_one_is(rater: Rater) -> None:
    assert (rater.text("place"), rater.text("text"), rater.text("count")) == ("Text 1 of 6", TEXTS[0], "0 of 6 answered")
    rater.keys("2", "0")
    assert rater.pressed() == ["concept-2", "instruction-0"]
    assert "active" in rater.run("return document.querySelector('[aria-labelledby=ask-fluency]').className")
    rater.keys("1")
    assert (rater.text("place"), rater.text("count"), rater.pressed()) == ("Text 2 of 6", "1 of 6 answered", [])
    assert rater.text("status") == "fluency 1. Text 2 of 6"  # what a screen reader says
    assert rater.run("return document.activeElement.id") == "place"
    rater.keys("1" * 15)
    assert rater.text("count") == "6 of 6 answered"
    assert rater.find("finished").is_displayed()
    assert rater.run("return [document.getElementById('bar').value, document.getElementById('bar').max]") == [6, 6]


def test_a_text_is_shown_as_it_is_and_runs_nothing(rater: Rater) -> None:
    for place, text in enumerate(TEXTS):
        assert rater.text("text") == (text if text.strip() else "(the text is empty)")
        assert (rater.text("concept"), rater.text("instruction")) == (f"concept {place}", f"Do {place}.")
        rater.keys("\ue014")  # right arrow
    assert rater.run("return window.hacked") is None
    assert rater.run("return document.querySelectorAll('img, b:not(.levels b)').length") == 0


def test_undo_takes_answers_back_one_by_one_across_texts(rater: Rater) -> None:
    rater.keys("2", "2", "2", "1")
    assert rater.text("place") == "Text 2 of 6"
    rater.keys("u")
    assert (rater.text("place"), rater.pressed()) == ("Text 2 of 6", [])
    rater.keys("u")
    assert (rater.text("place"), rater.pressed(), rater.text("count")) == ("Text 1 of 6", ["concept-2", "instruction-2"], "0 of 6 answered")
    rater.keys("0")
    assert rater.text("place") == "Text 2 of 6"
    rater.find("previous").click()
    assert rater.pressed() == ["concept-2", "instruction-2", "fluency-0"]
    rater.find("fluency-1").click()  # a correction stays where it is
    assert (rater.text("place"), rater.pressed()) == ("Text 1 of 6", ["concept-2", "instruction-2", "fluency-1"])


def test_skipping_asks_for_the_reason_and_digits_in_it_rate_nothing(rater: Rater) -> None:
    rater.keys("s")
    assert rater.run("return document.activeElement.id") == "comment"
    rater.keys("2 languages, usn0")
    assert rater.find("comment").get_attribute("value") == "2 languages, usn0"
    assert rater.pressed() == ["skip"]
    rater.keys("\ue007")  # enter
    assert (rater.text("place"), rater.text("count")) == ("Text 2 of 6", "1 of 6 answered")
    rater.keys("\ue012")  # left arrow
    rater.find("concept-0").click()  # a rating ends the skipping
    assert rater.pressed() == ["concept-0"]


def test_shortcuts_can_be_turned_off(rater: Rater) -> None:
    rater.find("keys").click()
    rater.keys("2", "s", "\ue014")
    assert (rater.pressed(), rater.text("place")) == ([], "Text 1 of 6")
    rater.find("keys").click()
    rater.keys("2")
    assert rater.pressed() == ["concept-2"]


def test_ratings_outlive_a_closed_page_and_other_sheets_have_their_own(rater: Rater) -> None:
    rater.keys("2", "1", "0", "1")
    rater.find("rater").send_keys("Anna")
    rater.browser.get("about:blank")
    rater.open(rater.path)
    assert (rater.text("place"), rater.pressed(), rater.text("count")) == ("Text 2 of 6", ["concept-1"], "1 of 6 answered")
    assert rater.find("rater").get_attribute("value") == "Anna"
    rater.keys("2")
    assert rater.pressed() == ["concept-1", "instruction-2"]
    other = rater.path.with_name("other.html")
    other.write_text(render_page("sheet-7", ROWS[1:]), encoding="utf-8")
    rater.open(other)
    assert rater.text("count") == "0 of 5 answered"


def test_ratings_outlive_pages_closed_at_once_again_and_again(rater: Rater) -> None:
    for turn in range(1, 7):
        rater.keys("2", "1", "0")
        rater.browser.get("about:blank")
        rater.open(rater.path)
        assert rater.text("count") == f"{turn} of 6 answered"


def test_a_tab_that_is_only_opened_changes_nothing_and_shows_what_another_has_rated(rater: Rater) -> None:
    assert rater.kept() is None
    first = rater.browser.current_window_handle
    rater.browser.switch_to.new_window("tab")
    try:
        rater.open(rater.path)
        rater.keys("2")
    finally:
        rater.browser.close()
        rater.browser.switch_to.window(first)
    rater.run("document.dispatchEvent(new Event('visibilitychange'))")  # headless tabs are never hidden
    deadline = time.monotonic() + 10
    while not rater.pressed():
        assert time.monotonic() < deadline
    assert rater.pressed() == ["concept-2"]
    assert rater.kept()["answers"] == {ROWS[0].id: {"concept": 2, "skip": False}}


def test_what_is_handed_over_is_a_sheet_that_the_judge_reads(rater: Rater) -> None:
    rater.keys("2", "1", "0")
    rater.keys("s")
    rater.keys('=a "quoted", reason')
    rater.find("next").click()
    rater.keys("1")
    rater.find("rater").send_keys(" ../Änna B. ")
    path = rater.download()
    assert path.name == "sheet-7-Änna-B.csv"
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    found = dict(read_sheet(path))
    assert list(found) == [row.id for row in ROWS]
    assert found[ROWS[0].id].ratings == (2, 1, 0)
    assert (found[ROWS[1].id].skipped, found[ROWS[1].id].comment) == (True, '\'=a "quoted", reason')
    assert found[ROWS[2].id].ratings == (1, None, None)
    assert all(found[row.id].blank for row in ROWS[3:])
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["text"] for row in rows] == [*TEXTS[:4], "'=1+1", TEXTS[5]]


def test_the_page_reaches_nobody(rater: Rater) -> None:
    hits: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/"
        rater.keys("0", "1", "2")
        # Even a script that had got into the page could send nothing.
        answer = rater.browser.execute_async_script(
            """const [address, done] = arguments;
            const image = new Image();
            image.onload = image.onerror = () => fetch(address + "fetch").then(() => done("sent"), () => done("refused"));
            image.src = address + "image";""",
            address,
        )
        assert answer == "refused"
        assert hits == []
        assert (
            rater.run("return performance.getEntriesByType('resource').filter((entry) => !entry.name.startsWith('http://127')).length") == 0
        )
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_it_without_scrolling_sideways_and_with_room_for_fingers(rater: Rater, width: int) -> None:
    metrics = {"width": width, "height": 700, "deviceScaleFactor": 2, "mobile": True}
    rater.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    rater.open(rater.path)
    rater.keys("\ue014" * 5)  # the long text
    assert rater.run("return document.documentElement.scrollWidth") <= width
    sizes = rater.run("return [...document.querySelectorAll('button')].map((b) => [b.id, b.offsetWidth, b.offsetHeight])")
    assert [name for name, wide, high in sizes if wide < 44 or high < 44] == []
    rater.run("window.scrollTo(0, document.body.scrollHeight)")
    for name in ("concept-1", "instruction-1", "fluency-1"):
        rater.find(name).click()
    assert rater.text("place") == "Text 1 of 6"
    assert 0 <= rater.run("return document.getElementById('place').getBoundingClientRect().top") < 700


def test_every_control_has_a_name_and_every_question_its_group(rater: Rater) -> None:
    controls = rater.browser.find_elements("css selector", "button, input, progress")
    assert len(controls) == 3 * 3 + 6 + 3 + 1
    assert [control.get_attribute("id") for control in controls if not control.accessible_name.strip()] == []
    groups = rater.browser.find_elements("css selector", "[role=group]")
    assert [group.accessible_name for group in groups] == [aspect.question for aspect in GUIDE]
    assert rater.find("concept-2").accessible_name == f"2 {GUIDE[0].levels[2]}"
    assert rater.run("return document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_writing_stands_out_from_its_ground(rater: Rater, scheme: str) -> None:
    """Contrast by WCAG 2: at least 4.5 for writing."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    rater.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    rater.keys("2")
    colours = rater.run(
        """return ["place", "text", "concept-0", "concept-2", "skip", "comment", "count"].map((id) => {
          let element = document.getElementById(id), ink = getComputedStyle(element).color, ground;
          for (; element; element = element.parentElement) {
            ground = getComputedStyle(element).backgroundColor;
            if (!ground.startsWith("rgba(0, 0, 0, 0")) return [id, ink, ground];
          }
          return [id, ink, getComputedStyle(document.getElementById("previous")).backgroundColor];  // the page's own ground
        })"""
    )
    for name, ink, ground in colours:
        light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{name}: {ink} on {ground}"
    rater.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(
    "script",
    [
        "IDBObjectStore.prototype.put = () => { throw new Error('full'); };",
        "Object.defineProperty(window, 'indexedDB', { value: undefined });",
        "const put = IDBObjectStore.prototype.put; IDBObjectStore.prototype.put = function (...all) {"
        " const asked = put.apply(this, all); this.transaction.abort(); this.transaction.commit = () => {}; return asked; };",
    ],
    ids=["full", "forbidden", "fails later"],
)
def test_a_browser_that_keeps_nothing_says_so(rater: Rater, script: str) -> None:
    assert not rater.find("storage").is_displayed()
    added = rater.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        rater.open(rater.path)
        rater.keys("2", "2", "2")
        assert rater.text("count") == "1 of 6 answered"  # rating goes on
        deadline = time.monotonic() + 10
        while not rater.find("storage").is_displayed():
            assert time.monotonic() < deadline, "nothing is said of it"
    finally:
        rater.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
