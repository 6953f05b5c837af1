// Keeps a page up to date without moving what is being read, and adds keys. Everything works without it, too.
"use strict";
(() => {
  const EVERY = 2000, MOST = 30000;
  const live = document.getElementById("live");
  const phone = matchMedia("(max-width: 48rem)");
  const filters = document.querySelector("details.narrow");
  if (filters && phone.matches) filters.open = false;

  // Fields that say nothing are no part of the address.
  for (const form of document.querySelectorAll("form[method=get]")) {
    form.addEventListener("submit", () => {
      for (const field of form.elements) if (field.name && field.value === "") field.disabled = true;
    });
  }
  addEventListener("pageshow", () => {
    for (const field of document.querySelectorAll("form [name]:disabled")) field.disabled = false;
  });

  // ------------------------------------------------------------------------------------------------------------------- keys
  const articles = () => [...document.querySelectorAll("#list > article")];
  function step(by) {
    const all = articles(), edge = 8;
    const at = all.findIndex((one) => one === document.activeElement || one.contains(document.activeElement));
    let next = at + by;
    if (at < 0) {
      const below = all.findIndex((one) => one.getBoundingClientRect().top > edge);
      next = by > 0 ? below : (below < 0 ? all.length : below) - 1;
    }
    const chosen = all[Math.max(0, Math.min(all.length - 1, next))];
    if (chosen) { chosen.focus({ preventScroll: true }); chosen.scrollIntoView({ block: "start" }); }
  }
  const follow = (rel) => document.querySelector(`#pager a[rel=${rel}]`)?.click();
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea")) return;
    const actions = { j: () => step(1), k: () => step(-1), n: () => follow("next"), p: () => follow("prev"), "/": search };
    if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
  });
  function search() {
    const field = document.getElementById("q");
    if (!field) return;
    if (filters) filters.open = true;
    field.focus();
    field.select();
  }

  // ---------------------------------------------------------------------------------------------------------------- updates
  if (!live) return;
  let version = live.dataset.version, wait = EVERY, busy = false;

  // What is being read stays where it is on the screen, whatever comes above it.
  function steady(change) {
    const anchor = articles().find((one) => one.getBoundingClientRect().bottom > 0);
    const before = anchor?.getBoundingClientRect().top;
    const scrolled = scrollY > 0;
    change();
    if (anchor?.isConnected && scrolled) scrollBy({ top: anchor.getBoundingClientRect().top - before, behavior: "instant" });
  }
  function reading(one) {
    const selection = getSelection();
    return one.contains(document.activeElement) && one !== document.activeElement || (!selection.isCollapsed && one.contains(selection.anchorNode));
  }
  function keepOpen(old, fresh) {
    for (const details of old.querySelectorAll("details[data-keep]")) {
      const same = fresh.querySelector(`details[data-keep="${CSS.escape(details.dataset.keep)}"]`);
      if (same) same.open = details.open;
    }
  }
  function merge(fresh) {
    const list = document.getElementById("list"), incoming = fresh.getElementById("list");
    if (!incoming) return;
    if (!incoming.querySelector(":scope > article")) {  // one text's own page
      if (!reading(list)) { keepOpen(list, incoming); list.replaceChildren(...incoming.childNodes); }
      return;
    }
    let previous = null;
    for (const one of [...incoming.children]) {
      const own = document.getElementById(one.id);
      if (!own) {
        one.classList.add("new");
        if (previous) previous.after(one); else list.prepend(one);
        previous = one;
        continue;
      }
      previous = own;
      if (own.dataset.html === undefined) own.dataset.html = own.innerHTML;
      if (own.dataset.html !== one.innerHTML && !reading(own)) {
        const html = one.innerHTML, focused = own === document.activeElement;
        keepOpen(own, one);
        own.replaceChildren(...one.childNodes);
        own.dataset.html = html;
        if (focused) own.focus({ preventScroll: true });
      }
    }
    document.getElementById("empty")?.remove();
  }
  async function refresh() {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const next = fresh.getElementById("live");
    if (!next) return;
    steady(() => {
      merge(fresh);
      for (const id of ["counts", "pager", "notices"]) {
        const own = document.getElementById(id), other = fresh.getElementById(id);
        if (own && other && own.innerHTML !== other.innerHTML && !own.contains(document.activeElement)) own.replaceChildren(...other.childNodes);
      }
      const own = document.querySelector(".top .status"), other = fresh.querySelector(".top .status");
      if (own && other) { own.className = other.className; own.textContent = other.textContent; }
    });
    live.toggleAttribute("data-partial", next.hasAttribute("data-partial"));
    version = next.dataset.version;
  }
  async function look() {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const state = await (await fetch(live.dataset.state)).json();
      const share = document.querySelector("[data-share]");
      if (share) { share.textContent = Math.round(100 * state.share); document.getElementById("share").value = state.share; }
      if (state.version !== version || live.hasAttribute("data-partial")) await refresh();
      wait = state.status === "finished" && state.share === 1 ? 5 * EVERY : EVERY;
    } catch {  // the server has gone, or is busy: asked again, ever more rarely
      wait = Math.min(2 * wait, MOST);
    } finally {
      busy = false;
    }
  }
  (async () => {
    for (;;) {
      await new Promise((done) => setTimeout(done, wait));
      await look();
    }
  })();
  document.addEventListener("visibilitychange", look);
})();
