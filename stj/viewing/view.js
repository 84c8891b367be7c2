"use strict";
// The page of `stj view`. All data is shown by textContent: no text of a row can become markup.

const PAGE = 50;
const FACTS = ["task", "subset", "category", "complexity", "state"];
const FILTERS = ["text", ...FACTS, "difference", "judge", "position", "outcome", "agreement"];
const FIRST = 1, OTHER = 2, NEITHER = 4, UNREAD = 8; // bits of a mask, for each order
const byId = (id) => document.getElementById(id);

// The texts that a search looks at, as the server's search does.
function wordsOf(row) {
  const judgments = row.judges.flatMap((judge) => judge.judgments);
  return [
    row.id,
    ...[...row.turns, ...row.answers, ...row.judges.flatMap((judge) => judge.answers)].map(({ text }) => text),
    ...judgments.flatMap(({ thought, parts }) => [thought ?? "", parts.map(({ text }) => text).join("")]),
  ];
}

// Where the rows come from: this file itself, or the server that sent the page.
function embedded(data) {
  const texts = data.rows.map((row) => wordsOf(row).join("\n").toLowerCase());
  return {
    index: async () => data.index,
    titles: async (rows) => rows.map((row) => data.titles[row]),
    row: async (row) => data.rows[row],
    find: async (id) => data.titles.findIndex((title) => title.id === id),
    search: async (text) => texts.flatMap((row, number) => (row.includes(text.toLowerCase()) ? [number] : [])),
    contradictions: async () => data.contradictions,
  };
}

function served() {
  const get = async (path, query) => {
    const answer = await fetch(`${path}?${new URLSearchParams(query)}`);
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  };
  return {
    index: () => get("index.json", {}),
    titles: (rows) => get("titles.json", { rows: rows.join(",") }),
    row: (row) => get("row.json", { row }),
    find: (id) => get("find.json", { id }),
    search: (text) => get("search.json", { text }),
    contradictions: () => get("contradictions.json", {}),
  };
}

const data = byId("data");
const source = data ? embedded(JSON.parse(data.textContent)) : served();
let index, shown = [], start = 0, current = -1, asked = 0, filtering = 0, listing = 0;

// ---- filters: each is a function from the number of a row to whether it stays ----

function factFilter(name) {
  const value = byId(name).value;
  if (value === "") return null;
  const { names, codes } = index.facts[name];
  const wanted = names.indexOf(value);
  return (row) => codes[row] === wanted;
}

function differenceFilter() {
  const value = byId("difference").value;
  if (!value) return null;
  const [low, high] = value.split(":").map(Number);
  return (row) => index.difference[row] !== index.no_difference && index.difference[row] >= low && index.difference[row] <= high;
}

function chosenJudges() {
  const value = byId("judge").value;
  return index.judges.filter((judge) => value === "" || judge.name === value);
}

// The masks of a judge's orders: one for the chosen position, or all that were judged.
function orders(judge, row) {
  const position = byId("position").value;
  const places = position === "" ? [0, 1, 2, 3] : [Number(position)];
  return places.map((place) => (judge.masks[row] >> (4 * place)) & 15).filter((mask) => mask > 0);
}

const OUTCOMES = {
  "": (masks) => masks.length > 0,
  right: (masks, known) => known && masks.length > 0 && masks.every((mask) => mask === FIRST),
  wrong: (masks, known) => known && masks.some((mask) => mask & (OTHER | NEITHER)),
  never: (masks, known) => known && masks.length > 0 && masks.every((mask) => !(mask & FIRST)),
  unparsed: (masks) => masks.some((mask) => mask & UNREAD),
  consistent: (masks) => masks.length > 1 && masks.every((mask) => mask === masks[0] && (mask === FIRST || mask === OTHER)),
  position: (masks) => masks.length > 1 && masks.some((mask) => mask !== masks[0]),
};

function outcomeFilter() {
  const outcome = byId("outcome").value;
  const judges = chosenJudges();
  if (outcome === "contradiction") return null;
  if (!outcome && byId("position").value === "" && byId("judge").value === "") return null;
  return (row) => judges.some((judge) => OUTCOMES[outcome](orders(judge, row), index.known[row] === 1));
}

function agreementFilter() {
  const wanted = byId("agreement").value;
  if (!wanted) return null;
  return (row) => {
    const given = index.judges.map((judge) => judge.prefers[row]).filter((prefers) => prefers > 0);
    if (given.length < 2) return false;
    const first = given[0], last = given[given.length - 1];
    if (wanted === "gained") return index.known[row] === 1 && first !== 1 && last === 1;
    if (wanted === "lost") return index.known[row] === 1 && first === 1 && last !== 1;
    return given.every((prefers) => prefers === first) === (wanted === "agree");
  };
}

async function membership(promise) {
  const rows = new Set(await promise);
  return (row) => rows.has(row);
}

async function filter() {
  const turn = ++filtering;
  byId("count").textContent = "filtering…";
  const filters = [...FACTS.map(factFilter), differenceFilter(), outcomeFilter(), agreementFilter()].filter(Boolean);
  if (byId("text").value) filters.push(await membership(source.search(byId("text").value)));
  if (byId("outcome").value === "contradiction") filters.push(await membership(source.contradictions()));
  if (turn !== filtering) return;
  shown = [];
  for (let row = 0; row < index.rows; row += 1) if (filters.every((keeps) => keeps(row))) shown.push(row);
  start = 0;
  await list();
}

// ---- the list ----

async function list() {
  const turn = ++listing;
  const rows = shown.slice(start, start + PAGE);
  const all = index.of > index.rows ? ` (this file holds ${index.rows.toLocaleString("en")} of ${index.of.toLocaleString("en")})` : "";
  const which = rows.length ? `, ${(start + 1).toLocaleString("en")} to ${(start + rows.length).toLocaleString("en")} here` : "";
  const titles = rows.length ? await source.titles(rows) : [];
  if (turn !== listing) return; // Another filter was set meanwhile.
  byId("count").textContent = `${shown.length.toLocaleString("en")} of ${index.rows.toLocaleString("en")} rows${which}${all}`;
  byId("list").replaceChildren(...titles.map((title, place) => {
    const link = make("a", { href: address(title.id) }, title.title || "(no text)", make("span", {}, title.id));
    link.dir = "auto";
    link.dataset.row = rows[place];
    return make("li", {}, link);
  }));
  document.querySelector("nav").scrollTop = 0;
  byId("earlier").disabled = start === 0;
  byId("later").disabled = start + PAGE >= shown.length;
  mark();
}

function mark() {
  for (const link of byId("list").querySelectorAll("a")) {
    if (Number(link.dataset.row) !== current) link.removeAttribute("aria-current");
    else {
      link.setAttribute("aria-current", "true");
      scrollList(link);
    }
  }
}

// Moves the list alone; scrollIntoView would move the page too.
function scrollList(link) {
  const list = document.querySelector("nav"), box = list.getBoundingClientRect(), item = link.getBoundingClientRect();
  const bottom = Math.min(box.bottom, innerHeight);
  if (item.top < box.top) list.scrollTop -= box.top - item.top;
  else if (item.bottom > bottom) list.scrollTop += item.bottom - bottom;
}

// Shows the start of the opened row: the last one may have been read to its end, or the list may stand above it.
function reveal() {
  const { top } = byId("row").getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) byId("row").scrollIntoView();
}

// ---- one row ----

async function open(row) {
  const turn = ++asked;
  const details = await source.row(row);
  if (turn !== asked) return;
  current = row;
  byId("row").replaceChildren(...parts(details));
  mark();
}

function make(name, attributes, ...content) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...content);
  return element;
}

const block = (text) => make("div", { class: "text", dir: "auto" }, text);

function parts(details) {
  const link = make("a", { href: `#${new URLSearchParams({ row: details.id })}` }, details.id);
  const facts = Object.entries(details.facts).map(([name, value]) => `${name}: ${value}`).join("; ");
  const content = [make("h2", {}, link), make("p", { class: "facts" }, facts), make("h3", {}, "Instruction")];
  if (!details.turns.length) content.push(make("p", { class: "soft" }, "This file has no instructions; name that of its pairs with --pairs."));
  for (const turn of details.turns) {
    if (details.turns.length > 1) content.push(make("h4", {}, turn.role));
    content.push(block(turn.text));
  }
  if (details.modified) content.push(folded("modified instruction", details.modified));
  if (details.reference) content.push(folded("reference answer, which the judge sees", details.reference));
  if (details.context) content.push(folded("context, which the judge sees", details.context));
  if (details.answers.length) content.push(make("h3", {}, "Answers"), answers(details.answers));
  for (const judge of details.judges) content.push(...judgeParts(judge));
  return content;
}

function answers(list) {
  return make("div", { class: "side" }, ...list.map((answer) => make("div", {}, make("h4", {}, answer.title), block(answer.text))));
}

function folded(title, text) {
  return make("details", {}, make("summary", {}, title), block(text));
}

function judgeParts(judge) {
  const content = [make("h3", {}, judge.name)];
  if (judge.answers.length) content.push(make("p", { class: "wrong" }, "This judge saw another instruction or other answers:"), answers(judge.answers));
  if (judge.dropped) content.push(make("p", { class: "unread" }, `dropped: ${judge.dropped}`));
  if (judge.error) content.push(make("p", { class: "wrong" }, `failed: ${judge.error}`));
  if (judge.detail) content.push(folded("detail", judge.detail));
  content.push(make("div", { class: "side" }, ...judge.judgments.map(judgmentPart)));
  return content;
}

function judgmentPart(judgment) {
  const head = make("h4", {}, make("span", { class: judgment.outcome }, `verdict ${judgment.verdict}`));
  const notes = [judgment.title, judgment.order];
  if (judgment.tokens !== null) notes.push(`${judgment.tokens.toLocaleString("en")} tokens`);
  if (judgment.probability !== null) notes.push(`A is better with probability ${judgment.probability.toFixed(3)}`);
  if (judgment.kept) notes.push("kept");
  if (judgment.ended) notes.push(`ended by ${judgment.ended}`);
  const part = make("section", {}, head, make("p", { class: "facts" }, notes.join("; ")));
  if (judgment.contradiction) part.append(make("p", { class: "wrong" }, `The verdict contradicts: “${judgment.contradiction}”`));
  if (judgment.thought) part.append(folded("thought", judgment.thought));
  const text = block("");
  for (const { text: words, mark: isVerdict } of judgment.parts) text.append(isVerdict ? make("mark", {}, words) : words);
  part.append(text);
  return part;
}

// ---- moving: the part of the address behind # names the row and the filters ----

function address(id) {
  const set = FILTERS.map((name) => [name, byId(name).value]).filter(([, value]) => value !== "");
  return `#${new URLSearchParams(id === undefined ? set : [...set, ["row", id]])}`;
}

async function follow() {
  const named = new URLSearchParams(location.hash.slice(1));
  if (FILTERS.some((name) => byId(name).value !== (named.get(name) ?? ""))) {
    for (const name of FILTERS) byId(name).value = named.get(name) ?? "";
    await filter();
  }
  if (named.has("row")) await openNamed(named.get("row"));
  else if (shown.length) await open(shown[0]);
  else byId("row").replaceChildren();
}

async function openNamed(id) {
  const row = await source.find(id);
  if (row >= 0) return open(row);
  return byId("row").replaceChildren(make("p", { class: "wrong" }, `No row here has the id ${id}.`));
}

async function refilter() {
  history.replaceState(null, "", address());
  await filter();
  await follow();
}

async function step(by) {
  const place = shown.indexOf(current) + by;
  if (place < 0 || place >= shown.length) return;
  if (place < start || place >= start + PAGE) {
    start = Math.floor(place / PAGE) * PAGE;
    await list();
  }
  const [title] = await source.titles([shown[place]]);
  history.pushState(null, "", address(title.id));
  await open(shown[place]);
  reveal();
}

function turn(by) {
  start = Math.max(0, Math.min(start + by * PAGE, shown.length - 1));
  return list();
}

const failed = (error) => { byId("count").textContent = `failed: ${error.message}`; };
const safely = (action) => (...args) => Promise.resolve().then(() => action(...args)).catch(failed);

function options(select, names) {
  select.replaceChildren(make("option", { value: "" }, "any"), ...names.map((name) => make("option", { value: name }, name)));
}

function fill() {
  for (const name of FACTS) {
    const { names } = index.facts[name];
    options(byId(name), names.toSorted((a, b) => a.localeCompare(b, "en", { numeric: true })));
    byId(name).parentElement.hidden = names.length < 2;
  }
  options(byId("judge"), index.judges.map((judge) => judge.name));
  byId("judge").parentElement.hidden = index.judges.length < 2;
  byId("agreement").parentElement.hidden = index.judges.length < 2;
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const by = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
  if (by === undefined) return;
  event.preventDefault();
  safely(step)(by);
}

let waiting;
byId("filters").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(safely(refilter), 150); });
byId("filters").addEventListener("reset", () => setTimeout(safely(refilter)));
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("earlier").addEventListener("click", safely(() => turn(-1)));
byId("later").addEventListener("click", safely(() => turn(1)));
addEventListener("popstate", safely(async () => { await follow(); reveal(); }));
addEventListener("keydown", keys);

safely(async () => {
  index = await source.index();
  fill();
  await filter();
  await follow();
  document.documentElement.dataset.ready = "true";
})();
