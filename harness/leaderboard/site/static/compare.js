// Two entries side by side. Each entry's data is a script of its own, which is asked for when the entry is chosen.
"use strict";
(() => {
  const known = new Map();
  const RANKED_WITHIN = ["task", "task's digest", "concepts' digest", "judge", "protocol"];
  const form = () => document.getElementById("pair");
  const shown = (value) => value !== null && value !== undefined;
  const figure = (value, digits = 3) => (shown(value) ? (Math.round(value * 10 ** digits) / 10 ** digits + 0).toFixed(digits) : "–");
  const ends = ([, low, high]) => (shown(low) ? ` [${figure(low, 2)}, ${figure(high, 2)}]` : "");

  window.harnessEntry = (entry) => known.set(entry.file, entry);

  function load(file) {
    if (known.has(file)) return Promise.resolve(known.get(file));
    return new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = `data/${encodeURIComponent(file)}.js`;
      script.onload = () => (known.has(file) ? done(known.get(file)) : failed(new Error(`the data of ${file} cannot be read`)));
      script.onerror = () => failed(new Error(`the data of ${file} cannot be read`));
      document.head.append(script);
    });
  }

  // ---------------------------------------------------------------------------------------------------------------------- pieces

  function element(name, content, css) {
    const made = document.createElement(name);
    if (css) made.className = css;
    if (content !== undefined) made.textContent = content;
    return made;
  }

  function table(id, caption, heads, rows) {
    const box = element("div", undefined, "scroll"), made = element("table", undefined, "data"), title = element("caption", caption);
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-labelledby", `${id}-caption`);
    title.id = `${id}-caption`;
    made.id = id;
    const head = made.createTHead().insertRow();
    heads.forEach(([text, words]) => {
      const cell = element("th", text, words ? "w" : "");
      cell.scope = "col";
      head.append(cell);
    });
    const body = made.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      if (row.css) line.className = row.css;
      row.cells.forEach(([text, value], place) => {
        const cell = element(place ? "td" : "th", text, heads[place][1] ? "w" : "");
        if (!place) cell.scope = "row";
        if (shown(value)) cell.dataset.v = String(value);
        line.append(cell);
      });
    }
    made.append(title);
    made.prepend(title);
    box.append(made);
    window.harnessSortable(made);
    return box;
  }

  // ------------------------------------------------------------------------------------------------------------------ comparing

  function answer(a, b, one, two, pairs) {
    const output = document.getElementById("answer");
    if (one.kind !== two.kind || one.metric !== two.metric) {
      output.textContent = `${one.name} and ${two.name} are measured by different numbers, which cannot be held against each other.`;
      return;
    }
    const unlike = a.facts.filter(([name, value], place) => RANKED_WITHIN.includes(name) && b.facts[place][1] !== value).map(([name]) => name);
    const by = `${one.metric} ${figure(one.score[0])}${ends(one.score)} against ${figure(two.score[0])}${ends(two.score)}`;
    if (unlike.length) {
      output.textContent = `${one.name} and ${two.name} are not ranked against each other, since they differ in ${unlike.join(", ")}: ${by}.`;
      return;
    }
    const difference = one.score[0] - two.score[0];
    const ahead = one.better === null ? "" : difference * one.better > 0 ? `${one.name} (first) is ahead` : difference === 0 ? "They are level" : `${two.name} (second) is ahead`;
    const parts = [shown(one.score[0]) && shown(two.score[0]) ? `${ahead ? `${ahead}: ` : ""}${by}.` : "One of them has no score."];
    if (pairs.length) {
      const mean = pairs.reduce((sum, pair) => sum + pair.a - pair.b, 0) / pairs.length;
      const wins = pairs.filter((pair) => (pair.a - pair.b) * (one.better ?? 1) > 0).length, ties = pairs.filter((pair) => pair.a === pair.b).length;
      parts.push(`On the ${pairs.length} shared items the first is ${figure(Math.abs(mean))} ${mean >= 0 ? "higher" : "lower"} on average: better on ${wins}, level on ${ties}, behind on ${pairs.length - wins - ties}.`);
    }
    const tested = a.tests[one.place]?.[two.place] ?? b.tests[two.place]?.[one.place];
    if (tested) parts.push(`Tested together with the rest of the ranking, ${tested}.`);
    else if (one.place === two.place) parts.push("They are runs of one method.");
    else parts.push("How certain a difference is: harness runs compare A B.");
    output.textContent = parts.join(" ");
  }

  function render(a, b, one, two) {
    const holder = document.getElementById("compared");
    const other = new Map(two.items.map(([id, , value]) => [id, value]));
    const pairs = one.items.filter(([id, , value]) => shown(value) && shown(other.get(id))).map(([id, name, value]) => ({ name, a: value, b: other.get(id) }));
    answer(a, b, one, two, pairs);
    const parts = [];
    const names = [...new Set([...one.metrics, ...two.metrics].map(([name]) => name))];
    const of = (row, name) => row.metrics.find(([own]) => own === name)?.slice(1) ?? [null, null, null];
    parts.push(element("h2", "Scores"), table("compare-scores", "Each metric of the two methods", [["metric", true], [`first: ${one.name}`], [`second: ${two.name}`], ["difference"]],
      names.map((name) => {
        const [first, second] = [of(one, name), of(two, name)];
        const difference = shown(first[0]) && shown(second[0]) ? first[0] - second[0] : null;
        return { cells: [[name], [figure(first[0]) + ends(first), first[0]], [figure(second[0]) + ends(second), second[0]], [figure(difference), difference]] };
      })));
    if (pairs.length > 1) {
      const chart = element("figure", undefined, "chart"), plot = element("div", undefined, "plot");
      chart.id = "compare-pairs";
      plot.setAttribute("role", "img");
      plot.setAttribute("aria-label", "Score of each shared item by the two methods");
      chart.append(element("figcaption", "Each shared item: the first across, the second upward; on the line both are level"), plot);
      parts.push(element("h2", "Item by item"), chart);
      parts.push(table("compare-items", `The score on each shared item; ${pairs.length} items`, [["item", true], ["first"], ["second"], ["difference"]],
        pairs.map((pair) => ({ cells: [[pair.name], [figure(pair.a), pair.a], [figure(pair.b), pair.b], [figure(pair.a - pair.b), pair.a - pair.b]] }))));
    }
    parts.push(element("h2", "How they were made"), table("compare-facts", "Settings of the two entries; bold where they differ", [["setting", true], ["first", true], ["second", true]],
      a.facts.map(([name, value], place) => ({ css: value === b.facts[place][1] ? "" : "differs", cells: [[name], [value], [b.facts[place][1]]] }))));
    holder.replaceChildren(...parts);
    const chart = document.getElementById("compare-pairs");
    if (chart) window.harnessFigure(chart, { type: "pair", first: `first: ${one.name}`, second: `second: ${two.name}`, points: pairs });
    for (const [name, entry] of [["a", a], ["b", b]]) {
      const link = element("a", `page of the ${name === "a" ? "first" : "second"} entry`);
      link.href = `entries/${encodeURIComponent(entry.file)}.html`;
      const line = element("p");
      line.append(link);
      holder.append(line);
    }
  }

  // ------------------------------------------------------------------------------------------------------------------- choosing

  function offer(select, rows, wanted) {
    select.replaceChildren(...rows.map((row, place) => new Option(`${row.name}${row.control ? " (control)" : ""}: ${row.kind}, ${row.metric} ${figure(row.score[0], 2)}`, String(place))));
    const first = rows.findIndex((row) => !row.control);
    select.value = String(wanted !== null && rows[wanted] ? wanted : Math.max(0, first));
  }

  async function choose(given) {
    const fields = form().elements;
    try {
      const [a, b] = await Promise.all([load(fields.a.value), load(fields.b.value)]);
      offer(fields.ra, a.rows, given.ra);
      offer(fields.rb, b.rows, given.rb);
      update(a, b);
    } catch (error) {
      document.getElementById("answer").textContent = error.message;
    }
  }

  function update(a, b) {
    const fields = form().elements;
    history.replaceState(null, "", `#${new URLSearchParams(new FormData(form()))}`);
    render(a, b, a.rows[Number(fields.ra.value)], b.rows[Number(fields.rb.value)]);
  }

  function fromHash() {
    const given = new URLSearchParams(location.hash.slice(1)), fields = form().elements;
    for (const name of ["a", "b"]) {
      const value = given.get(name);
      if (value !== null && [...fields[name].options].some((option) => option.value === value)) fields[name].value = value;
    }
    if (fields.a.value === fields.b.value && !given.has("b")) {
      const other = [...fields.b.options].find((option) => option.value !== fields.a.value);
      if (other) fields.b.value = other.value;
    }
    const place = (name) => (given.has(name) && /^\d+$/.test(given.get(name)) ? Number(given.get(name)) : null);
    return choose({ ra: place("ra"), rb: place("rb") });
  }

  document.addEventListener("DOMContentLoaded", () => {
    if (!form()) return;
    form().hidden = false;
    form().addEventListener("submit", (event) => event.preventDefault());
    form().addEventListener("input", (event) => {
      const { a, b } = form().elements;
      if (event.target === a || event.target === b) choose({ ra: null, rb: null });
      else update(known.get(a.value), known.get(b.value));
    });
    document.getElementById("swap").addEventListener("click", () => {
      const { a, b, ra, rb } = form().elements;
      const given = { ra: Number(rb.value), rb: Number(ra.value) };
      [a.value, b.value] = [b.value, a.value];
      choose(given);
    });
    window.addEventListener("hashchange", fromHash);
    fromHash();
  });
})();
