"""The pages in a real browser: phones and desktops, light and dark, keyboard, filters, and nothing that runs, fails or leaves the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CONTRAST = """
const luminance = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map((value) => value / (colour.startsWith("color(") ? 1 : 255))
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  for (; element; element = element.parentElement) {
    const own = getComputedStyle(element).backgroundColor;
    if (!/, 0\\)$|\\/ 0\\)$/.test(own)) return own;
  }
  return "rgb(255, 255, 255)";
};
const found = [];
const kinds = "p, li, caption, th, td, a, summary, h1, h2, h3, h4, h5, dt, dd, label, figcaption, .mark, .rating";
for (const element of document.querySelectorAll(kinds)) {
  if (!element.offsetParent || !element.textContent.trim()) continue;
  const [a, b] = [luminance(getComputedStyle(element).color), luminance(ground(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) found.push([element.tagName, element.className, ratio.toFixed(2)]);
}
return found.slice(0, 5);
"""
DRAWN = """
return [...document.querySelectorAll("figure[data-chart]")].filter((figure) => !figure.hidden).map((figure) => [
  figure.id, figure.querySelectorAll("svg").length, figure.querySelectorAll("svg circle, svg path, svg rect, svg line").length]);
"""


class Reader:
    """A person with a browser."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def screen(self, width: int, scheme: str) -> None:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def open(self, path: Path, hash_: str = "") -> None:
        self.browser.get("about:blank")
        self.browser.get(path.as_uri() + hash_)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def keys(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def wait(self, script: str) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.browser, 120, 0.02).until(lambda _: self.run(script))

    def scroll_through(self) -> None:
        """Look at the whole page, so that all figures are drawn."""
        self.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        self.run("for (const one of document.querySelectorAll('figure[data-chart]')) one.scrollIntoView()")
        self.run(
            "window.seen = 0; const all = [...document.querySelectorAll('figure[data-chart]')];"
            "const step = () => { if (window.seen < all.length) { all[window.seen].scrollIntoView({block: 'center'}); window.seen += 1;"
            " requestAnimationFrame(() => requestAnimationFrame(step)); } else window.done = true; }; step();"
        )
        self.wait("return window.done && [...document.querySelectorAll('figure[data-chart]')].every((one) => one.hidden || one.dataset.drawn)")

    def requests(self) -> list[str]:
        """Every address that was asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture
def reader(chromium: Any) -> Reader:
    found = Reader(chromium)
    found.requests(), found.errors()
    found.screen(1280, "light")
    return found


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_every_page_works_on_every_screen(reader: Reader, pages: Any, width: int, scheme: str) -> None:
    reader.screen(width, scheme)
    with_run = pages.site / "entries" / f"{pages.entries[0].file_name.removesuffix('.json')}.html"
    for path in (pages.report, pages.site / "index.html", with_run, pages.site / "compare.html"):
        reader.open(path)
        reader.scroll_through()
        assert reader.run("return document.documentElement.scrollWidth") <= width, path
        drawn = reader.run(DRAWN)
        assert [figure for figure in drawn if not figure[1] or not figure[2]] == [], path
        assert len(drawn) >= (0 if path.name == "compare.html" else 5)
        assert reader.run("return [window.hacked, document.querySelectorAll('img').length]") == [None, 0]
        assert reader.run(CONTRAST) == [], path
        assert reader.errors() == []
    own = (pages.site.as_uri(), pages.report.as_uri(), "about:blank", "data:,")
    asked = reader.requests()
    assert {(pages.site / "index.html").as_uri(), (pages.site / "assets" / "d3.min.js").as_uri()} <= set(asked)
    assert [url for url in asked if not url.startswith(own)] == []


def test_tables_sort_by_keyboard_and_say_so(reader: Reader, pages: Any) -> None:
    reader.open(pages.site / "index.html")
    column = "return [...document.querySelector('#ranking-1-table tbody').rows].map((row) => row.cells[2].textContent.trim())"
    heading = "document.querySelector('#ranking-1-table thead').rows[0].cells[2]"
    before = [float(value) for value in reader.run(column)]
    reader.run(f"{heading}.querySelector('button').focus()")
    reader.keys("\ue007")
    assert reader.run(f"return {heading}.getAttribute('aria-sort')") == "descending"
    assert [float(value) for value in reader.run(column)] == sorted(before, reverse=True)
    reader.keys(" ")
    assert reader.run(f"return {heading}.getAttribute('aria-sort')") == "ascending"
    assert [float(value) for value in reader.run(column)] == sorted(before)
    assert reader.run("return document.querySelectorAll('#ranking-1-table [aria-sort]').length") == 1
    assert reader.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_filters_hide_rows_and_live_in_the_address(reader: Reader, pages: Any) -> None:
    reader.open(pages.site / "index.html")
    shown = "return [...document.querySelectorAll('section.ranking table.data tbody tr')].filter((row) => row.offsetParent).length"
    rankings = "return [...document.querySelectorAll('section.ranking')].filter((one) => one.offsetParent).map((one) => one.dataset.kind)"
    every = reader.run(shown)
    choose = (
        "const field = document.forms.filters.elements[arguments[0]]; field.value = arguments[1];"
        "field.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    reader.run(choose, "kind", "detection")
    assert set(reader.run(rankings)) == {"detection"}
    some = reader.run(shown)
    assert 0 < some < every
    reader.run(choose, "layer", "1")
    assert 0 < reader.run(shown) < some
    assert reader.run("return location.hash") == "#kind=detection&layer=1"
    assert "of" in reader.run("return document.getElementById('filtered').textContent")
    fewer = reader.run(shown)
    reader.open(pages.site / "index.html", "#kind=detection&layer=1")
    assert reader.run(shown) == fewer
    reader.run("document.forms.filters.reset()")
    reader.wait("return location.hash === ''")
    assert reader.run(shown) == every
    reader.run(choose, "method", "no such method")
    assert reader.run(shown) == 0
    assert reader.run("return [...document.querySelectorAll('#filters select, #filters input')].every((one) => one.labels.length)")


def test_two_entries_are_compared(reader: Reader, pages: Any) -> None:
    names = [entry.file_name.removesuffix(".json") for entry in pages.entries]
    reader.open(pages.site / "compare.html", f"#a={names[0]}&b={names[1]}")
    reader.wait("return document.querySelector('#compare-items')")
    first, second = (entry.rows[0].score.value for entry in pages.entries[:2])
    cells = reader.run("return [...document.querySelector('#compare-scores tbody').rows[0].cells].map((cell) => cell.textContent)")
    assert cells[1].startswith(f"{first:.3f}")
    assert cells[2].startswith(f"{second:.3f}")
    assert cells[3] == f"{first - second:.3f}".replace("-0.000", "0.000")
    assert len(reader.run("return [...document.querySelector('#compare-items tbody').rows]")) == len(pages.entries[0].rows[0].items)
    assert "ahead" in reader.run("return document.getElementById('answer').textContent")
    assert reader.run("return document.querySelectorAll('#compare-pairs svg circle').length") >= 14
    reader.run("document.getElementById('swap').click()")
    reader.wait(f"return document.forms.pair.elements.a.value === '{names[1]}' && document.querySelector('#compare-items')")
    assert reader.run("return window.hacked") is None
    assert reader.errors() == []


def test_everything_is_readable_without_scripts(reader: Reader, pages: Any) -> None:
    reader.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        reader.browser.get((pages.site / "index.html").as_uri())
        source = reader.browser.find_element("css selector", "#ranking-1-table")
        assert source.is_displayed()
        assert f"{pages.entries[0].rows_of('steering')[0].score.value:.3f}" in reader.browser.find_element("css selector", "main").text
        assert not reader.browser.find_element("id", "filters").is_displayed()
    finally:
        reader.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
