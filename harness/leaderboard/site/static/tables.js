// Tables that sort, and rows that are filtered. Without this script the tables stay as they are: sorted as ranked, all rows shown.
"use strict";
(() => {
  const text = (cell) => cell.textContent.trim();

  // ------------------------------------------------------------------------------------------------------------------ sorting

  function key(row, place) {
    const cell = row.cells[place];
    if (cell === undefined) return null;
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    const shown = text(cell);
    return shown === "" || shown === "–" ? null : shown;
  }

  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null); // what has no value comes last, whichever way it is sorted
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  }

  function sort(table, place, sign) {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, at) => ({ row, at, key: key(row, place) }));
    rows.sort((a, b) => compare(a.key, b.key, sign) || a.at - b.at);
    body.append(...rows.map((one) => one.row));
    for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
    table.tHead.rows[0].cells[place].setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  }

  function sortable(table) {
    [...table.tHead.rows[0].cells].forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const numbers = [...table.tBodies[0].rows].some((row) => row.cells[place]?.dataset.v !== undefined);
        const now = head.getAttribute("aria-sort");
        const up = now ? now === "descending" : !numbers || text(head) === "rank";
        sort(table, place, up ? 1 : -1);
      });
    });
  }

  // ---------------------------------------------------------------------------------------------------------------- filtering

  const has = (value, wanted) => wanted === "" || value.split("\n").includes(wanted);

  function filter(form) {
    const wanted = Object.fromEntries(new FormData(form));
    const method = (wanted.method ?? "").trim().toLowerCase();
    let shown = 0, all = 0;
    for (const section of document.querySelectorAll("section.ranking")) {
      const own = ["task", "kind", "judge"].every((name) => has(section.dataset[name] ?? "", wanted[name] ?? ""));
      let some = 0;
      for (const row of section.querySelector("table.data").tBodies[0].rows) {
        const fits =
          own &&
          ["model", "layer", "sae"].every((name) => has(row.dataset[name] ?? "", wanted[name] ?? "")) &&
          !(wanted.controls === "no" && row.classList.contains("control")) &&
          (method === "" || text(row.cells[1]).toLowerCase().includes(method));
        row.hidden = !fits;
        some += fits;
        all += 1;
      }
      section.hidden = !some;
      shown += some;
    }
    document.getElementById("filtered").textContent = shown === all ? `${all} rows` : `${shown} of ${all} rows`;
  }

  function toHash(form) {
    const given = [...new FormData(form)].filter(([, value]) => value !== "");
    const hash = new URLSearchParams(given).toString();
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  function fromHash(form) {
    const hash = location.hash.slice(1);
    if (hash !== "" && !hash.includes("=")) return; // a place on the page
    const given = new URLSearchParams(hash);
    for (const field of form.elements) {
      if (!field.name) continue;
      const value = given.get(field.name) ?? "";
      if (field.type === "checkbox") field.checked = value === field.value;
      else if (field.tagName !== "SELECT" || [...field.options].some((option) => option.value === value)) field.value = value;
      else field.value = "";
    }
    filter(form);
  }

  function filters(form) {
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => { filter(form); toHash(form); });
    form.addEventListener("reset", () => setTimeout(() => { filter(form); toHash(form); }));
    window.addEventListener("hashchange", () => fromHash(form));
    fromHash(form);
    if (!location.hash.includes("=")) filter(form);
  }

  window.harnessSortable = sortable;
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("table[data-sortable]").forEach(sortable);
    const form = document.getElementById("filters");
    if (form) filters(form);
  });
})();
