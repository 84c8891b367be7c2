"use strict";
// The page of `stj annotate`. All data is shown by textContent: no text of a pair can become markup.

const KEYS = { 1: "1", a: "1", arrowleft: "1", 2: "2", b: "2", arrowright: "2", 0: "tie", t: "tie", u: "unsure" };
const SCROLLS = { arrowdown: 0.15, arrowup: -0.15, pagedown: 0.9, pageup: -0.9 }; // shares of a response's height
const WORDS = { 1: "response 1 is better", 2: "response 2 is better", tie: "a tie", unsure: "unsure" };
const SHORTEST_LOOK = 250; // milliseconds; a second press within them was meant for the pair before
const byId = (id) => document.getElementById(id);
const choices = [...document.querySelectorAll("[data-choice]")];
const token = location.hash.slice(1);

let name = null, fixed = false, shown = null, busy = true, turn = 0;

async function ask(path, body) {
  let answer;
  try {
    const headers = { "Content-Type": "application/json", "X-Stj-Token": token };
    answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer: is it still running? Your label may not be saved; try again.");
  }
  if (!answer.ok) throw Object.assign(new Error(await answer.text()), { status: answer.status });
  return answer.json();
}

function complain(message) {
  byId("alert").textContent = message;
  byId("alert").hidden = !message;
}

// ---- what is shown ----

function fill(element, text) {
  element.textContent = text || "(no text)";
  element.classList.toggle("nothing", !text);
  element.scrollTop = 0;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function showTurns(turns) {
  const alone = turns.length === 1;
  byId("asked").textContent = alone ? "Instruction" : "Dialogue";
  byId("turns").replaceChildren(
    ...turns.flatMap(({ role, text }) => {
      const content = element("p", "turn", text);
      content.dir = "auto";
      return alone ? [content] : [element("p", "role", role), content];
    }),
  );
  byId("turns").scrollTop = alone ? 0 : byId("turns").scrollHeight; // the last turn is what the responses answer
}

function show(state, last) {
  shown = state;
  const done = state.number === null;
  byId("naming").hidden = true;
  byId("choices").hidden = false;
  byId("pair").hidden = done;
  byId("done").hidden = !done;
  byId("who").hidden = false;
  byId("bar").hidden = false;
  byId("rename").hidden = fixed;
  byId("who").querySelector("strong").textContent = name;
  byId("place").textContent = done ? `All ${state.of} pairs` : `Pair ${state.number} of ${state.of}`;
  byId("bar").max = state.of;
  byId("bar").value = state.labelled;
  const said = last ? ` The last: ${WORDS[last]}.` : state.choice ? ` You said: ${WORDS[state.choice]}.` : "";
  byId("status").textContent = `${state.labelled} of ${state.of} labelled.${said}`;
  for (const button of choices) {
    button.disabled = done;
    button.setAttribute("aria-pressed", String(button.dataset.choice === state.choice));
  }
  byId("back").disabled = state.number === 1;
  byId("next").hidden = done || !state.choice;
  if (!done) {
    showTurns(state.turns);
    state.responses.forEach((text, place) => fill(byId(`response-${place + 1}`), text));
  }
  window.scrollTo(0, 0);
  byId("place").focus({ preventScroll: true });
}

// ---- what the annotator does ----

// One request at a time: what is pressed meanwhile, or at once after a new pair, was not meant for that pair.
async function once(work) {
  if (busy) return;
  busy = true;
  delete document.body.dataset.ready;
  try {
    await work();
  } catch (error) {
    complain(error.message);
  }
  await new Promise((resolve) => setTimeout(resolve, SHORTEST_LOOK));
  busy = false;
  document.body.dataset.ready = String(++turn);
}

const open = (number) => async () => {
  const state = await ask("pair.json", { name, number });
  complain("");
  show(state);
};

const choose = (choice) => async () => {
  if (!shown || shown.number === null) return;
  try {
    const state = await ask("label.json", { name, number: shown.number, choice, before: shown.choice });
    complain("");
    show(state, choice);
  } catch (error) {
    if (error.status !== 409) throw error;
    await open(null)();
    complain("The pair before was labelled in another tab, and that label was kept. Go back to change it.");
  }
};

const back = async () => {
  const number = (shown.number ?? shown.of + 1) - 1;
  if (number >= 1) await open(number)();
};

async function begin(given) {
  const state = await ask("pair.json", { name: given, number: null });
  name = given;
  if (!fixed) sessionStorage.setItem("name", name);
  complain("");
  show(state);
}

function askName() {
  shown = null;
  for (const id of ["pair", "done", "choices", "who", "bar"]) byId(id).hidden = true;
  byId("naming").hidden = false;
  byId("place").textContent = "stj annotate";
  byId("status").textContent = "";
  byId("name").value = sessionStorage.getItem("name") ?? "";
  byId("name").focus();
}

function scrollResponses(share) {
  for (const id of ["response-1", "response-2"]) byId(id).scrollBy(0, share * byId(id).clientHeight);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.target.matches("input")) return;
  if (!shown) return;
  const key = event.key.toLowerCase();
  if (Object.hasOwn(SCROLLS, key) && !event.target.closest(".scrolls")) {
    event.preventDefault();
    scrollResponses(SCROLLS[key]);
  }
  const work = Object.hasOwn(KEYS, key) ? choose(KEYS[key]) : { z: back, backspace: back, n: shown.choice && open(null) }[key];
  if (!work) return;
  event.preventDefault();
  if (!event.repeat) once(work);
}

async function start() {
  if (!token) throw new Error("Open the address as the terminal shows it, with what stands behind the #.");
  const given = await ask("name.json", {});
  fixed = given.name !== null;
  const known = given.name ?? sessionStorage.getItem("name");
  if (known) await begin(known);
  else askName();
}

document.addEventListener("keydown", pressed);
for (const button of choices) button.addEventListener("click", () => once(choose(button.dataset.choice)));
byId("back").addEventListener("click", () => once(back));
byId("next").addEventListener("click", () => once(open(null)));
byId("rename").addEventListener("click", askName);
byId("naming").addEventListener("submit", (event) => {
  event.preventDefault();
  once(() => begin(byId("name").value.trim().normalize()));
});
window.addEventListener("hashchange", () => location.reload());
busy = false;
once(start);
