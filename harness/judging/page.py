"""The page that people rate on: one HTML file that needs no network, and the guide that it and every sheet carry.

The page holds the texts as JSON, shows one at a time, keeps the ratings in the browser's localStorage and hands them over as a CSV file. Its
content security policy forbids every connection and every script but its own, so a text that looks like markup stays text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from harness.types import digest

COLUMNS = ("id", "concept", "instruction", "text", "concept_rating", "instruction_rating", "fluency_rating", "comment")
"""The columns of a sheet, as a CSV file or as what the page hands over."""
SKIP = "skip"
"""What stands in place of a rating where a person cannot rate a text."""


class Aspect(NamedTuple):
    """One of the three ratings: its ``name``, the ``question`` that is asked, and what 0, 1 and 2 mean."""

    name: str
    question: str
    levels: tuple[str, str, str]


GUIDE = (
    Aspect(
        "concept", "Is the concept in the text?", ("No trace of it", "Touched on, or out of place", "Clearly there, part of what is said")
    ),
    Aspect(
        "instruction",
        "Does the text do what the instruction asks, concept aside?",
        ("No, it has nothing to do with it", "In part", "Yes"),
    ),
    Aspect("fluency", "Does it read like natural language?", ("Hardly readable", "Readable, but odd or repetitive", "Natural and clear")),
)
"""The rubric for people. Whoever changes a word of it changes the version of the ``human`` judge, too."""


@dataclass(frozen=True)
class SheetRow:
    """A text to rate. ``id`` says nothing of where the text comes from."""

    id: str
    concept: str
    instruction: str
    text: str


def safe_cell(text: str) -> str:
    """``text`` for a cell of a CSV file: no control characters, and an apostrophe before what a spreadsheet would take for a formula."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text


def render_page(name: str, rows: Sequence[SheetRow]) -> str:
    """The page for ``rows``, in their order, as HTML.

    Args:
        name: the sheet's name; the file that the page hands over is called ``NAME.csv`` or ``NAME-rater.csv``.
        rows: what to rate.
    """
    data = {
        "name": name,
        # Pages that are opened from the disk may share one storage, so the key tells sheets apart.
        "key": f"ratings:{name}:{digest([row.id for row in rows])}",
        "columns": COLUMNS,
        "skip": SKIP,
        "guide": [aspect._asdict() for aspect in GUIDE],
        "rows": [asdict(row) for row in rows],
        "cells": [[row.id, *map(safe_cell, (row.concept, row.instruction, row.text))] for row in rows],
    }
    # "<" as an escape: no text can end the script element that it stands in.
    content = json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    policy = f"default-src 'none'; script-src {_source(_SCRIPT)}; style-src {_source(_STYLE)}; base-uri 'none'; form-action 'none'"
    parts = {"POLICY": policy, "STYLE": _STYLE, "SCRIPT": _SCRIPT, "DATA": content}
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda found: parts[found[1]], _PAGE)


def page_ids(page: str) -> tuple[str, ...]:
    """The ids of the texts of a page that :func:`render_page` made. Raises ValueError for a page that is none, or is cut short."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    if found is None:
        raise ValueError("the page holds no texts to rate")
    try:
        return tuple(str(row["id"]) for row in json.loads(found[1])["rows"])
    except (KeyError, TypeError, ValueError):
        raise ValueError("the texts of the page cannot be read") from None


def _source(text: str) -> str:
    """What the content security policy calls an inline script or style: the digest of exactly these characters."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{POLICY}}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Rate texts</title>
<style>{{STYLE}}</style>
</head>
<body>
<noscript><p>This page needs JavaScript. It connects to nothing.</p></noscript>
<header>
<h1>Rate texts</h1>
<progress id="bar" max="1" value="0" aria-labelledby="count"></progress>
<span id="count"></span>
<button type="button" id="download">Download CSV</button>
</header>
<p id="storage" class="note" role="alert" hidden>This browser does not keep the ratings. Download the CSV before you close the page.</p>
<section id="finished" class="note" hidden>
<p>Every text has an answer. Download the CSV and put it into the folder that this page came from, or send it to whoever gave you the page.</p>
</section>
<main>
<section aria-labelledby="place">
<h2 id="place" tabindex="-1"></h2>
<dl>
<dt>Concept</dt><dd id="concept"></dd>
<dt>Instruction</dt><dd id="instruction"></dd>
<dt>Text</dt><dd id="text"></dd>
</dl>
</section>
<section aria-label="Your ratings">
<div id="aspects"></div>
<button type="button" id="skip" aria-pressed="false">I cannot rate this text <kbd>s</kbd></button>
<label for="comment">Comment (the reason, if you cannot rate the text)</label>
<input id="comment" maxlength="2000" autocomplete="off">
<nav aria-label="Between texts">
<button type="button" id="previous">Previous <kbd>&larr;</kbd></button>
<button type="button" id="undo">Undo <kbd>u</kbd></button>
<button type="button" id="next">Next <kbd>&rarr;</kbd></button>
<button type="button" id="open">Next unanswered <kbd>n</kbd></button>
</nav>
</section>
</main>
<footer>
<p><label for="rater">Your name or initials (for the name of the file)</label> <input id="rater" maxlength="40" autocomplete="off"></p>
<p class="keys"><label><input type="checkbox" id="keys" checked> Keyboard shortcuts</label>:
<kbd>0</kbd> <kbd>1</kbd> <kbd>2</kbd> answer the marked question and go on, <kbd>u</kbd> takes the last answer back, <kbd>s</kbd> cannot rate,
<kbd>c</kbd> comment, <kbd>&larr;</kbd> <kbd>&rarr;</kbd> previous and next text, <kbd>n</kbd> next unanswered text.</p>
<p>Judge each question by itself. You are not told how a text was made, and the order is random.
The ratings stay in this browser until you download them.</p>
</footer>
<p id="status" role="status"></p>
<script type="application/json" id="data">{{DATA}}</script>
<script>{{SCRIPT}}</script>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --line: #767676; --soft: #f1f3f5; --mark: #0b57d0; --on: #fff; }
@media (prefers-color-scheme: dark) { :root { --line: #8c8c8c; --soft: #26292d; --mark: #a8c7fa; --on: #062e6f; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { font: 17px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 0 1rem 2rem; }
header { align-items: center; display: flex; flex-wrap: wrap; gap: .5rem 1rem; padding: .75rem 0; }
h1 { font-size: 1.15rem; margin: 0; }
h2 { font-size: 1rem; margin: 0 0 .5rem; }
progress { accent-color: var(--mark); flex: 1 1 8rem; height: .8rem; min-width: 6rem; }
main { display: grid; gap: 1.5rem; grid-template-columns: minmax(0, 1.3fr) minmax(0, 1fr); }
dl { margin: 0; }
dt { font-size: .85rem; font-weight: 600; }
dd { margin: 0 0 .9rem; overflow-wrap: anywhere; white-space: pre-wrap; }
#text { background: var(--soft); border-radius: .4rem; padding: .75rem; }
#text.empty { font-style: italic; }
.note { background: var(--soft); border-left: .3rem solid var(--mark); margin: 0 0 1rem; padding: .5rem .75rem; }
.note p { margin: 0; }
[role=group] { border-left: .3rem solid transparent; margin-bottom: .9rem; padding-left: .6rem; }
[role=group].active { border-color: var(--mark); }
[role=group] > p { font-weight: 600; margin: 0 0 .3rem; }
.levels { display: grid; gap: .4rem; grid-template-columns: repeat(3, minmax(0, 1fr)); }
button, input:not([type=checkbox]) { background: Canvas; border: 1px solid var(--line); border-radius: .4rem; color: CanvasText; font: inherit; }
button { cursor: pointer; min-height: 2.75rem; padding: .35rem .6rem; }
button:disabled { cursor: default; opacity: .5; }
button[aria-pressed=true] { background: var(--mark); border-color: var(--mark); color: var(--on); }
.levels button { font-size: .85rem; line-height: 1.25; padding: .4rem .3rem; vertical-align: top; }
.levels b { display: block; font-size: 1.15rem; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
#place { scroll-margin-top: .5rem; }
#place:focus { outline: none; }
#skip, #comment { display: block; width: 100%; }
label[for=comment] { display: block; font-size: .85rem; margin-top: .7rem; }
input:not([type=checkbox]) { min-height: 2.75rem; padding: .3rem .6rem; }
nav { display: grid; gap: .4rem; grid-template-columns: repeat(3, minmax(0, 1fr)); margin-top: .9rem; }
#open { grid-column: 1 / -1; }
kbd { border: 1px solid currentColor; border-radius: .25rem; font: .8em ui-monospace, monospace; opacity: .8; padding: 0 .3em; }
footer { font-size: .85rem; margin-top: 1.5rem; }
#rater { max-width: 14rem; }
#status { height: 1px; margin: 0; overflow: hidden; position: absolute; clip-path: inset(50%); width: 1px; }
@media (max-width: 48rem) { main { gap: .5rem; grid-template-columns: minmax(0, 1fr); } button kbd { display: none; } }
@media (hover: none) and (pointer: coarse) { .keys { display: none; } }
"""

_SCRIPT = r"""
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const aspects = data.guide.map((aspect) => aspect.name);
const groups = {};
const history = [];
let state = { at: 0, rater: "", keys: true, answers: {} };
let active = 0;

const answer = (row) => state.answers[row.id] || {};
const rated = (given) => aspects.every((name) => given[name] !== undefined);
const answered = (row) => Boolean(answer(row).skip) || rated(answer(row));
const row = () => data.rows[state.at];

function load() {
  try {
    const kept = JSON.parse(localStorage.getItem(data.key));
    if (kept && typeof kept.answers === "object") state = { ...state, ...kept };
  } catch (error) {
    find("storage").hidden = false;
  }
  state.at = Math.min(Math.max(Math.trunc(state.at) || 0, 0), data.rows.length - 1);
}

function save() {
  try {
    localStorage.setItem(data.key, JSON.stringify(state));
  } catch (error) {
    find("storage").hidden = false;
  }
}

function build() {
  data.guide.forEach((aspect, place) => {
    const group = document.createElement("div");
    group.setAttribute("role", "group");
    group.setAttribute("aria-labelledby", "ask-" + aspect.name);
    const question = document.createElement("p");
    question.id = "ask-" + aspect.name;
    question.textContent = aspect.question;
    const levels = document.createElement("div");
    levels.className = "levels";
    aspect.levels.forEach((meaning, value) => {
      const button = document.createElement("button");
      const number = document.createElement("b");
      button.type = "button";
      button.id = aspect.name + "-" + value;
      number.textContent = value + " ";
      button.append(number, meaning);
      button.addEventListener("click", () => rate(place, value));
      levels.append(button);
    });
    group.append(question, levels);
    groups[aspect.name] = group;
    find("aspects").append(group);
  });
}

function show() {
  const shown = row(), given = answer(shown), done = data.rows.filter(answered).length, total = data.rows.length;
  find("place").textContent = "Text " + (state.at + 1) + " of " + total;
  find("concept").textContent = shown.concept;
  find("instruction").textContent = shown.instruction;
  find("text").textContent = shown.text.trim() ? shown.text : "(the text is empty)";
  find("text").classList.toggle("empty", !shown.text.trim());
  aspects.forEach((name, place) => {
    groups[name].classList.toggle("active", place === active);
    data.guide[place].levels.forEach((_, value) => {
      find(name + "-" + value).setAttribute("aria-pressed", String(given[name] === value));
    });
  });
  find("skip").setAttribute("aria-pressed", String(Boolean(given.skip)));
  find("comment").value = given.comment || "";
  find("rater").value = state.rater;
  find("keys").checked = state.keys;
  find("previous").disabled = state.at === 0;
  find("next").disabled = state.at === total - 1;
  find("open").disabled = done === total;
  find("undo").disabled = history.length === 0;
  find("bar").max = total;
  find("bar").value = done;
  find("count").textContent = done + " of " + total + " answered";
  find("finished").hidden = done < total;
}

function go(place, told) {
  state.at = Math.min(Math.max(place, 0), data.rows.length - 1);
  active = Math.max(aspects.findIndex((name) => answer(row())[name] === undefined), 0);
  save();
  show();
  find("place").focus({ preventScroll: true });
  if (find("place").getBoundingClientRect().top < 0) find("place").scrollIntoView();
  find("status").textContent = (told ? told + ". " : "") + find("place").textContent;
}

function goOpen(told) {
  const later = data.rows.map((_, place) => (state.at + 1 + place) % data.rows.length);
  const place = later.find((candidate) => !answered(data.rows[candidate]));
  if (place !== undefined) return go(place, told);
  show();
  find("status").textContent = "Every text has an answer. Download the CSV.";
  find("download").focus();
}

function change(next) {
  history.push({ at: state.at, id: row().id, before: state.answers[row().id], active });
  state.answers[row().id] = { ...answer(row()), ...next };
  save();
}

function rate(place, value) {
  const before = answered(row());
  change({ [aspects[place]]: value, skip: false });
  const told = data.guide[place].name + " " + value;
  if (!before && answered(row())) return goOpen(told);
  const missing = aspects.findIndex((name) => answer(row())[name] === undefined);
  active = missing >= 0 ? missing : (place + 1) % aspects.length;
  show();
  find("status").textContent = told;
}

function skip() {
  change({ skip: !answer(row()).skip });
  show();
  find("status").textContent = answer(row()).skip ? "Marked as not to be rated. Give the reason as a comment." : "To be rated";
  if (answer(row()).skip) find("comment").focus();
}

function undo() {
  const last = history.pop();
  if (!last) return;
  const comment = answer({ id: last.id }).comment;
  state.answers[last.id] = { ...(last.before || {}), comment };
  go(last.at, "Taken back");
  active = last.active;
  show();
}

function download() {
  const quote = (value) => '"' + String(value).replaceAll('"', '""') + '"';
  const guard = (text) => (/^\s*[=+\-@]/.test(text) ? "'" + text : text);
  const lines = data.cells.map((cells, place) => {
    const given = answer(data.rows[place]);
    const ratings = aspects.map((name) => (given.skip ? data.skip : given[name] ?? ""));
    return [...cells, ...ratings, guard(given.comment || "")].map(quote).join(",");
  });
  const rater = state.rater.trim().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff" + [data.columns.join(","), ...lines].join("\r\n") + "\r\n"], { type: "text/csv" }));
  link.download = data.name + (rater ? "-" + rater : "") + ".csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  find("status").textContent = "Saved as " + link.download;
}

function pressed(event) {
  const typing = event.target.matches("input:not([type=checkbox])");
  if (!state.keys || typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const actions = {
    0: () => rate(active, 0), 1: () => rate(active, 1), 2: () => rate(active, 2), u: undo, s: skip, n: () => goOpen(),
    c: () => find("comment").focus(), ArrowLeft: () => go(state.at - 1), ArrowRight: () => go(state.at + 1),
  };
  if (!Object.hasOwn(actions, event.key)) return;
  event.preventDefault();
  actions[event.key]();
}

load();
build();
go(state.at);
find("skip").addEventListener("click", skip);
find("undo").addEventListener("click", undo);
find("previous").addEventListener("click", () => go(state.at - 1));
find("next").addEventListener("click", () => go(state.at + 1));
find("open").addEventListener("click", () => goOpen());
find("download").addEventListener("click", download);
find("comment").addEventListener("input", (event) => {
  state.answers[row().id] = { ...answer(row()), comment: event.target.value };
  save();
});
find("comment").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  if (answered(row())) goOpen(); else find("place").focus();
});
find("rater").addEventListener("input", (event) => { state.rater = event.target.value; save(); });
find("keys").addEventListener("change", (event) => { state.keys = event.target.checked; save(); });
window.addEventListener("storage", (event) => { if (event.key === data.key) { load(); go(state.at); } });
document.addEventListener("keydown", pressed);
"""
