"use strict";
// Which picture is shown, and what can be undone, is kept here; every label is in the list before the next one is shown.
const KEYS = "123456789qwertyiopadfghjklzxcvbm"; // without those of the tools: n, s, u
const at = (id) => document.getElementById(id);
const state = { items: [], classes: [], labelled: 0, next: "" };
const undone = [];
let place = 0;
let busy = false;
let round = 0; // of choosing: the same number is another picture then

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  busy = true;
  try {
    const answer = await fetch(path, options);
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    Object.assign(state, found);
    at("error").hidden = true;
    return true;
  } catch (error) {
    const lost = error instanceof TypeError || error instanceof SyntaxError;
    at("error").textContent = lost ? "Not saved: topwork does not answer; start it again." : `Not saved: ${error.message}`;
    at("error").hidden = false;
    return false;
  } finally {
    busy = false;
  }
}

function show() {
  const item = state.items[place];
  const labelled = state.items.filter((each) => each.label).length;
  const share = state.items.length ? (100 * labelled) / state.items.length : 100;
  at("count").textContent = `${labelled} of ${state.items.length} labelled`;
  at("progress").setAttribute("aria-valuemax", state.items.length);
  at("progress").setAttribute("aria-valuenow", labelled);
  at("progress").firstElementChild.style.width = `${share}%`;
  at("figure").hidden = !item;
  at("done").hidden = Boolean(item);
  at("back").disabled = place === 0;
  at("skip").disabled = !item;
  at("undo").disabled = !undone.length;
  if (item) {
    const picture = at("picture");
    const source = (number) => `picture/${number}?${round}`;
    if (picture.getAttribute("src") !== source(place)) picture.src = source(place);
    picture.alt = item.path;
    at("path").textContent = item.path.split(/[\\/]/).slice(-2).join("/");
    at("path").title = item.path;
    at("about").textContent = item.stands_for > 1 ? `stands for ${item.stands_for} pictures` : "";
    if (place + 1 < state.items.length) new Image().src = source(place + 1); // shown at once when it is its turn
  } else {
    const left = state.items.length - labelled;
    at("done-title").textContent = !state.items.length
      ? "There is nothing to label"
      : left ? `${labelled} labelled, ${left} skipped` : `All ${labelled} are labelled`;
    at("next").textContent = state.next;
  }
  const guess = item && !item.label ? item.suggested : "";
  at("suggestion").hidden = !guess;
  at("accept").lastElementChild.textContent = guess && `Looks like ${guess} (${Math.round(100 * item.confidence)} %)`;
  at("classes").replaceChildren(...state.classes.map((label, number) => button(label, number, item)));
}

function button(label, number, item) {
  const made = document.createElement("button");
  made.type = "button";
  if (KEYS[number]) made.append(Object.assign(document.createElement("kbd"), { textContent: KEYS[number].toUpperCase() }));
  made.append(label); // as text, whatever is in it
  made.disabled = !item;
  if (item && item.label === label) {
    made.className = "is-label";
    made.setAttribute("aria-pressed", "true");
  }
  made.addEventListener("click", () => give(label));
  const row = document.createElement("li");
  row.append(made);
  return row;
}

async function give(label) {
  const item = state.items[place];
  if (busy || !item || !label) return;
  undone.push({ place, label: item.label });
  if (await ask("label", { item: place, label })) place += 1;
  else undone.pop();
  show();
}

async function undo() {
  const last = undone[undone.length - 1];
  if (busy || !last) return;
  if (await ask("label", { item: last.place, label: last.label })) {
    place = last.place;
    undone.pop();
  }
  show();
}

function move(by) {
  place = Math.min(Math.max(place + by, 0), state.items.length);
  show();
}

async function more() {
  at("more").disabled = true;
  if (!busy && (await ask("more", {}))) {
    place = 0;
    round += 1;
    undone.length = 0;
  }
  at("more").disabled = false;
  show();
}

function enter() {
  const item = state.items[place];
  if (!item) more();
  else if (!item.label) give(item.suggested);
}

const keys = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), s: () => move(1), u: undo, n: () => at("name").focus(), Enter: enter };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === at("name")) {
    if (event.key === "Escape") at("name").blur();
    return;
  }
  if (event.key === "Enter" && event.target.tagName === "BUTTON") return; // presses the button
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const number = key.length === 1 ? KEYS.indexOf(key) : -1;
  if (!keys[key] && !state.classes[number]) return;
  event.preventDefault();
  if (keys[key]) keys[key]();
  else give(state.classes[number]);
});
at("new").addEventListener("submit", (event) => {
  event.preventDefault();
  const label = at("name").value.trim();
  at("name").value = "";
  at("name").blur();
  give(label);
});
at("back").addEventListener("click", () => move(-1));
at("skip").addEventListener("click", () => move(1));
at("undo").addEventListener("click", undo);
at("accept").addEventListener("click", enter);
at("more").addEventListener("click", more);
ask("state").then(() => {
  const first = state.items.findIndex((item) => !item.label); // a page that was opened again goes on there
  place = first < 0 ? state.items.length : first;
  show();
});
