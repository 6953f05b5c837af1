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

// IndexedDB, not localStorage: of what a page wrote there shortly before it was closed, Chromium lost some.
let store = null;

const settled = (request, event) => new Promise((done, failed) => {
  request[event] = () => done(request.result);
  request.onerror = request.onabort = () => failed(request.error);
});

async function load() {
  try {
    if (!store) {
      const asked = indexedDB.open("harness-ratings", 1);
      asked.onupgradeneeded = () => asked.result.createObjectStore("sheets");
      store = await settled(asked, "onsuccess");
    }
    const kept = await settled(store.transaction("sheets").objectStore("sheets").get(data.key), "onsuccess");
    if (kept && typeof kept.answers === "object") state = { ...state, ...kept };
  } catch (error) {
    find("storage").hidden = false;
  }
  state.at = Math.min(Math.max(Math.trunc(state.at) || 0, 0), data.rows.length - 1);
}

// All that it does is done when it returns, so that a page may be closed right after it.
function save() {
  try {
    const writing = store.transaction("sheets", "readwrite");
    writing.objectStore("sheets").put(state, data.key);
    settled(writing, "oncomplete").catch(() => { find("storage").hidden = false; });
    writing.commit();
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
  save();
  arrive(told);
}

// Writes nothing: a page that is only opened leaves what is kept as it is.
function arrive(told) {
  active = Math.max(aspects.findIndex((name) => answer(row())[name] === undefined), 0);
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

build();
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
document.addEventListener("visibilitychange", async () => {
  if (document.hidden) return; // the same sheet may have been rated in another tab meanwhile
  await load();
  arrive();
});
load().then(() => {
  arrive();
  document.addEventListener("keydown", pressed); // not before: an answer would be written over those that are kept
  document.body.inert = false;
});
