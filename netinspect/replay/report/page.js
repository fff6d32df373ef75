"use strict";
// The page reads without this. It adds the filter, tables that can be sorted, and names in tables that set the filter.
// Text is only ever read from and written to text nodes and values: nothing from a mail becomes markup.

const byId = (id) => document.getElementById(id);
const make = (text, act) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.addEventListener("click", act);
  return button;
};

// --- the filter ---------------------------------------------------------------------------------------------------

const list = byId("mails");
let filterBy = null;

if (list) {
  const form = byId("filter"), text = byId("f-text"), verdict = byId("f-verdict");
  const category = byId("f-category"), state = byId("f-state"), count = byId("f-count");
  const blocks = [...list.children];
  const items = blocks.flatMap((block) => [...block.children]);
  let index = null;
  let timer = 0;

  // Text nodes with a blank between them: words of neighbouring columns are not one word.
  const textOf = (item) => {
    const walker = document.createTreeWalker(item, NodeFilter.SHOW_TEXT);
    const parts = [];
    while (walker.nextNode()) parts.push(walker.currentNode.data);
    return parts.join(" ").replace(/\s+/g, " ").toLowerCase();
  };

  // "..." stands by itself: no letter, digit, @, - or .x around it; an IPv6 address does not go on either.
  const whole = (phrase) => {
    const quoted = phrase.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&");
    const v6 = /^[\da-f.]*:[\da-f:.]*$/.test(phrase);
    return new RegExp(v6 ? `(?<![\\w:])${quoted}(?![\\w:])` : `(?<![\\w.@-])${quoted}(?![\\w@-]|\\.\\w)`);
  };

  const conditions = () => {
    const tests = [];
    for (const [, phrase, word] of text.value.toLowerCase().matchAll(/"([^"]+)"?|(\S+)/g)) {
      const session = /^session:(\d+)$/.exec(word ?? "");
      if (session) tests.push((item) => item.dataset.s === session[1]);
      else if (phrase) {
        const pattern = whole(phrase.replace(/\s+/g, " "));
        tests.push((_, content) => pattern.test(content));
      } else tests.push((_, content) => content.includes(word));
    }
    if (verdict.value) tests.push((item) => item.dataset.v === verdict.value);
    if (category.value === "*") tests.push((item) => item.dataset.k !== undefined);
    else if (category.value) tests.push((item) => (item.dataset.k ?? "").split(" ").includes(category.value));
    if (state.value) tests.push((item) => item.dataset[state.value] !== undefined);
    return tests;
  };

  const apply = () => {
    clearTimeout(timer);
    const tests = conditions();
    if (tests.length) index ??= items.map(textOf);
    let shown = 0;
    items.forEach((item, number) => {
      const fits = tests.every((test) => test(item, index?.[number]));
      if (item.hidden === fits) item.hidden = !fits;
      shown += fits;
    });
    for (const block of blocks) block.hidden = !block.querySelector(":scope > :not([hidden])");
    count.textContent = tests.length ? `${shown} of ${items.length} verdicts fit` : `${items.length} verdicts`;
  };

  filterBy = (query) => {
    form.reset();
    text.value = query;
    apply();
    byId("sessions").scrollIntoView();
    text.focus({ preventScroll: true });
  };

  form.hidden = false;
  form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  form.addEventListener("reset", () => setTimeout(apply));
  text.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(apply, 150); });
  for (const select of [verdict, category, state]) select.addEventListener("change", apply);
  const open = (which) => {
    for (const item of items) if (!item.hidden) item.firstElementChild.open = which;
  };
  byId("f-open").addEventListener("click", () => open(true));
  byId("f-close").addEventListener("click", () => open(false));
  apply(); // a browser may have kept what was typed before

  // Made when it is first seen: ten thousand buttons that nobody looks at would be slow.
  list.addEventListener("toggle", (event) => {
    const place = event.target.querySelector(".q");
    if (!event.target.open || !place || place.firstElementChild) return;
    const number = place.textContent;
    const button = make("show all of it", () => filterBy(`session:${number}`));
    button.className = "link";
    place.append(" ", button);
  }, true);

  // A link to an entry opens it, also where the filter hides it.
  const arrive = () => {
    const item = /^#m\d+$/.test(location.hash) && byId(location.hash.slice(1));
    if (!item) return;
    if (item.hidden) { form.reset(); apply(); }
    item.firstElementChild.open = true;
    item.scrollIntoView({ block: "center" });
    item.querySelector("summary").focus({ preventScroll: true });
  };
  addEventListener("hashchange", arrive);
  arrive();
}

// --- tables -------------------------------------------------------------------------------------------------------

if (filterBy) {
  for (const place of document.querySelectorAll("[data-q]")) {
    const name = place.textContent;
    if (!name) continue;
    const button = make("", () => filterBy(`"${name.replaceAll('"', " ")}"`));
    button.append(...place.childNodes);
    button.title = "Show what this is about";
    place.append(button);
  }
}

const UNITS = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
const valueOf = (cell, numeric) => {
  const shown = cell.textContent.trim();
  if (!numeric) return shown.toLowerCase();
  return parseFloat(shown.replace(/\s/g, "")) * (UNITS[shown.slice(-3)] ?? 1) || 0;
};

for (const head of document.querySelectorAll("thead th")) {
  const numeric = head.classList.contains("r");
  const button = make(head.textContent, () => {
    const body = head.closest("table").tBodies[0];
    const before = head.getAttribute("aria-sort");
    const down = before ? before === "ascending" : numeric;
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => [valueOf(row.cells[head.cellIndex], numeric), row]);
    rows.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1));
    body.append(...rows.map(([, row]) => row));
  });
  head.replaceChildren(button);
}
