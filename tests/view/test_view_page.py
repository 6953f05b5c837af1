"""The pages in a real browser: nothing that a run holds runs, new texts come without losing the reader's place, keys, phones, both schemes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.browser import started_chromium
from helpers.view_runs import HOSTILE, JUDGES, begin, rate, trials, write
from helpers.waiting import wait_for

from harness.view.runs import Runs


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real browser, started once."""
    with started_chromium() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """The browser, whose pages must have no error in their console and reach nobody else."""
    chromium.get_log("browser")
    yield chromium
    errors = [entry["message"] for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    elsewhere = chromium.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name).filter((name) => !name.startsWith(location.origin))"
    )
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chromium.get("about:blank")
    assert errors == []
    assert elsewhere == []


def articles(browser: Any) -> list[str]:
    found: list[str] = browser.execute_script("return [...document.querySelectorAll('#list > article')].map((one) => one.id.slice(2))")
    return found


def keys(browser: Any, *pressed: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*pressed).perform()


def test_hostile_texts_are_shown_and_run_nothing(browser: Any, site: str) -> None:
    first = trials()[0].id
    for path in (f"/run/demo-1/text/{first}", "/run/demo-1/?q=hacked", "/run/demo-1/"):
        browser.get(site + path)
        shown = browser.execute_script("return document.querySelector('.body').textContent")
        assert shown == HOSTILE.replace("\x1b", "\\x1b")
        assert browser.execute_script("return window.hacked") is None
        assert browser.execute_script("return document.querySelectorAll('main script, main img, .body b, .answers i').length") == 0
    assert browser.execute_script("return document.querySelector('option[value=war]').textContent") == "war and <b>peace</b>"


def test_a_filter_and_a_search_by_hand(browser: Any, site: str) -> None:
    browser.get(f"{site}/run/demo-1/")
    assert len(articles(browser)) == 40
    keys(browser, "/")
    assert browser.execute_script("return document.activeElement.id") == "q"
    keys(browser, "waves of war", "\ue007")
    wait_for(lambda: len(articles(browser)) == 20)
    assert browser.current_url.endswith("/?q=waves+of+war")  # what says nothing is not in it
    assert browser.execute_script("return document.querySelectorAll('.trial mark').length") >= 40
    browser.find_element("css selector", "#order option[value=overall]").click()
    browser.find_element("css selector", "#filter button").click()
    wait_for(lambda: "order=overall" in browser.current_url)
    badges = browser.execute_script("return [...document.querySelectorAll('.own .badge')].map((one) => parseFloat(one.lastChild.textContent))")
    rated = [badge for badge in badges if badge is not None]
    assert rated == sorted(rated, reverse=True)
    assert browser.execute_script("return document.getElementById('counts').textContent").split()[:4] == ["20", "texts", "of", "40"]


def test_keys_go_from_text_to_text(browser: Any, site: str) -> None:
    browser.get(f"{site}/run/demo-1/")
    ids = articles(browser)
    keys(browser, "j", "j", "k", "j")
    assert browser.execute_script("return document.activeElement.id") == f"t-{ids[1]}"


def test_everything_works_without_scripts(browser: Any, site: str) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(f"{site}/run/demo-1/?method=&q=waves&order=newest")
        assert len(browser.find_elements("css selector", "article")) == 39
        browser.find_element("css selector", "article h3 a").click()
        wait_for(lambda: "/text/" in browser.current_url)
        assert browser.find_element("css selector", ".figures dd").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        browser.get(f"{site}/run/demo-1/")


def test_new_texts_and_ratings_come_while_one_reads(browser: Any, tmp_path: Path, serve: Any, own_cache: Path) -> None:
    folder, every = tmp_path / "run", trials()
    with begin(folder) as store, serve(Runs([folder])) as address:
        write(store, every[5:15])
        browser.get(f"{address}/run/run/")
        wait_for(lambda: len(articles(browser)) == 10)
        assert browser.execute_script("return document.querySelector('.top .status').textContent") == "running"
        browser.execute_script("arguments[0].scrollIntoView()", browser.find_element("id", f"t-{every[10].id}"))
        place = "return Math.round(document.getElementById(arguments[0]).getBoundingClientRect().top)"
        before = browser.execute_script(place, f"t-{every[10].id}")
        write(store, every[:5])  # these come above what is read
        write(store, every[15:20])
        wait_for(lambda: len(articles(browser)) == 20)
        assert articles(browser) == [trial.id for trial in every[:20]]
        assert abs(browser.execute_script(place, f"t-{every[10].id}") - before) <= 1
        rate(store, JUDGES[0], every[:6])
        badge = f"return document.querySelector('#t-{every[3].id} .badge').textContent"
        wait_for(lambda: "overall" in browser.execute_script(badge))
        assert abs(browser.execute_script(place, f"t-{every[10].id}") - before) <= 1
        assert "20 texts" in " ".join(browser.execute_script("return document.getElementById('counts').textContent").split())
    browser.get("about:blank")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_width_and_scheme(browser: Any, site: str, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    for path in ("/run/demo-1/?q=waves", f"/run/demo-1/text/{trials()[1].id}"):
        browser.get(site + path)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(253, 253, 252)") == (scheme == "light")
        assert _poor_contrast(browser) == []
        named = browser.find_elements("css selector", "input:not([type=hidden]), select, button, summary, a, progress")
        assert [one.get_attribute("outerHTML") for one in named if one.is_displayed() and not one.accessible_name.strip()] == []


def _poor_contrast(browser: Any) -> list[str]:
    """Writing that stands out from its ground by less than 4.5 (WCAG 2)."""
    found: list[str] = browser.execute_script(
        """
        const light = (colour) => {
          const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((value) => value / 255)
            .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const poor = [];
        for (const one of document.querySelectorAll("body *")) {
          if (!one.checkVisibility() || one.closest(".skip, .sr, select, svg")) continue;
          if (![...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
          let ground = "rgba(0, 0, 0, 0)";
          for (let at = one; at && ground.startsWith("rgba(0, 0, 0, 0"); at = at.parentElement) ground = getComputedStyle(at).backgroundColor;
          const [a, b] = [light(getComputedStyle(one).color), light(ground)].sort((x, y) => y - x);
          if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(one.className + ": " + one.textContent.trim().slice(0, 40));
        }
        return [...new Set(poor)];
        """
    )
    return found


def test_an_error_page_says_what_is_wrong(chromium: Any, site: str) -> None:
    answer = httpx.get(f"{site}/run/demo-1/?strength=<script>hacked</script>")
    assert answer.status_code == 400
    assert "<script>hacked" not in answer.text
    chromium.get(f"{site}/run/demo-1/?strength=<script>window.hacked=1</script>")
    assert chromium.execute_script("return window.hacked") is None
    assert "strength" in chromium.find_element("css selector", "[role=alert]").text
    chromium.get("about:blank")
