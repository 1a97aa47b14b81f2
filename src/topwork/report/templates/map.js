"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const canvas = at("map");
const pen = canvas.getContext("2d");
const count = data.x.length;

// Okabe and Ito's colours; a second round of them has a stripe.
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442"];
const OTHER = "#8a929a";
const FURTHEST = 400; // times nearer than the view of everything
const DOT = 9; // pixels: a smaller thumbnail is drawn as a dot
const colourOf = (label) => (label >= 0 && label < 2 * COLOURS.length ? COLOURS[label % COLOURS.length] : OTHER);
const isStriped = (label) => label >= COLOURS.length && label < 2 * COLOURS.length;

const span = (values) => Math.max(values.reduce((a, b) => Math.max(a, b), 0) - values.reduce((a, b) => Math.min(a, b), 1), 0.01);
const [across, down] = [span(data.x), span(data.y)];
const view = { x: 0.5, y: 0.5, zoom: 1 }; // the place in the middle
let width = 1, height = 1, near = -1, held = -1, chosen = null, matches = null, asked = false;
const sheets = [];

function scale() { // pixels from 0 to 1
  return 0.9 * Math.min(width / across, height / down) * view.zoom;
}
function onScreen(i) {
  return [(data.x[i] - view.x) * scale() + width / 2, (data.y[i] - view.y) * scale() + height / 2];
}
function tile() {
  // Nearer pictures grow less than the distances between them, so that they come apart.
  const alone = clamp(0.8 * Math.sqrt((across * down * (scale() / view.zoom) ** 2) / Math.max(count, 1)), 4, 72);
  return Math.min(alone * Math.pow(view.zoom, 0.55), 128);
}
function isFaded(i) {
  return (chosen !== null && data.label[i] !== chosen) || (matches !== null && !matches.has(i));
}

function draw() {
  asked = false;
  const ratio = window.devicePixelRatio || 1;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const size = tile();
  const inside = [];
  for (let i = 0; i < count; i++) {
    const [x, y] = onScreen(i);
    if (x > -size && y > -size && x < width + size && y < height + size) inside.push([isFaded(i), i, x, y]);
  }
  for (const [faded, i, x, y] of inside) if (faded) drawOne(i, x, y, size, true);
  for (const [faded, i, x, y] of inside) if (!faded) drawOne(i, x, y, size, false);
  pen.globalAlpha = 1;
  for (const i of [near, held]) if (i >= 0) drawOne(i, ...onScreen(i), Math.max(size * 1.15, 24), false, true);
}

function drawOne(i, x, y, size, faded, marked = false) {
  pen.globalAlpha = faded ? 0.13 : 1;
  const left = x - size / 2, top = y - size / 2;
  pen.fillStyle = colourOf(data.label[i]);
  const sheet = sheets[Math.floor(i / (data.columns * data.columns))];
  if (size < DOT || !sheet) {
    const side = Math.max(size, 4) * 0.8;
    pen.fillRect(x - side / 2, y - side / 2, side, side);
    return;
  }
  const edge = Math.max(Math.round(size / 16), 2);
  if (marked) {
    pen.fillStyle = getComputedStyle(document.body).color;
    pen.fillRect(left - edge * 2, top - edge * 2, size + edge * 4, size + edge * 4);
    pen.fillStyle = colourOf(data.label[i]);
  }
  pen.fillRect(left - edge, top - edge, size + edge * 2, size + edge * 2);
  if (isStriped(data.label[i])) {
    pen.fillStyle = "#fff";
    for (let k = 0; k < 4; k++) pen.fillRect(left - edge + ((2 * k + 1) * (size + edge * 2)) / 9, top - edge, (size + edge * 2) / 9, size + edge * 2);
  }
  picture(pen, i, left, top, size);
}

function picture(onto, i, left, top, size) {
  const sheet = sheets[Math.floor(i / (data.columns * data.columns))];
  const number = i % (data.columns * data.columns);
  const column = number % data.columns, row = Math.floor(number / data.columns);
  onto.drawImage(sheet, column * data.side, row * data.side, data.side, data.side, left, top, size, size);
}

function redraw() {
  if (!asked) requestAnimationFrame(draw);
  asked = true;
}

function nearest(x, y, most) {
  let best = -1, least = most;
  for (let i = 0; i < count; i++) {
    const [px, py] = onScreen(i);
    const distance = Math.max(Math.abs(px - x), Math.abs(py - y)) + (isFaded(i) ? most / 2 : 0);
    if (distance < least) [best, least] = [i, distance];
  }
  return best;
}

function labelOf(i) {
  return data.label[i] < 0 ? "" : data.classes[data.label[i]][0];
}

function showCard() {
  const i = near >= 0 ? near : held;
  const card = at("card");
  card.hidden = i < 0;
  if (i < 0) return;
  card.classList.toggle("is-held", i === held);
  at("card-label").textContent = labelOf(i) || "no label";
  at("card-name").textContent = data.name[i];
  const link = data.link[i];
  at("card-link").hidden = !link || i !== held;
  if (link) at("card-link").href = link;
  const large = at("large");
  large.width = large.height = data.side;
  if (sheets.length) picture(large.getContext("2d"), i, 0, 0, data.side);
  const [x, y] = onScreen(i);
  const gap = tile() / 2 + 14;
  const { offsetWidth: w, offsetHeight: h } = card;
  const left = x + gap + w < width ? x + gap : x - gap - w;
  card.style.transform = `translate(${clamp(left, 8, width - w - 8)}px, ${clamp(y - h / 2, 8, height - h - 8)}px)`;
}
function clamp(value, low, high) {
  return Math.max(low, Math.min(value, high));
}

function zoomAt(factor, x = width / 2, y = height / 2) {
  const before = scale();
  view.zoom = clamp(view.zoom * factor, 0.5, FURTHEST);
  const gained = 1 / before - 1 / scale();
  view.x += (x - width / 2) * gained;
  view.y += (y - height / 2) * gained;
  changed();
}
function pan(x, y) {
  view.x = clamp(view.x - x / scale(), -0.2, 1.2);
  view.y = clamp(view.y - y / scale(), -0.2, 1.2);
  changed();
}
function everything() {
  Object.assign(view, { x: 0.5, y: 0.5, zoom: 1 });
  changed();
}
function changed() {
  showCard();
  redraw();
}

function hold(i) {
  held = i;
  near = -1;
  if (i >= 0) at("said").textContent = `${data.name[i]}, ${labelOf(i) || "no label"}`;
  changed();
}
function holdVisibly(i) {
  const [x, y] = onScreen(i);
  if (x < 60 || y < 60 || x > width - 60 || y > height - 60) [view.x, view.y] = [data.x[i], data.y[i]];
  hold(i);
}
function step(dx, dy) {
  if (held < 0) {
    const first = nearest(width / 2, height / 2, Infinity);
    if (first >= 0) holdVisibly(first);
    return;
  }
  const [x, y] = onScreen(held);
  let best = -1, least = Infinity;
  for (let i = 0; i < count; i++) {
    if (i === held || isFaded(i)) continue;
    const [px, py] = onScreen(i);
    const along = (px - x) * dx + (py - y) * dy, aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
    if (along <= 0 || aside > along * 1.5) continue;
    if (along + aside < least) [best, least] = [i, along + aside];
  }
  if (best >= 0) holdVisibly(best);
}

// Pointers: one moves, two zoom, one that does not move picks.
const pointers = new Map();
let moved = 0;
const place = (event) => [event.clientX - canvas.getBoundingClientRect().left, event.clientY - canvas.getBoundingClientRect().top];
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, place(event));
  if (pointers.size === 1) moved = 0;
});
canvas.addEventListener("pointermove", (event) => {
  const [x, y] = place(event);
  const old = pointers.get(event.pointerId);
  if (!old) {
    const found = nearest(x, y, Math.max(tile() / 2 + 4, 12));
    if (found !== near) {
      near = found;
      changed();
    }
    return;
  }
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  pointers.set(event.pointerId, [x, y]);
  moved += Math.hypot(x - old[0], y - old[1]);
  if (!other) {
    if (moved > 4) pan(x - old[0], y - old[1]);
    return;
  }
  const [mx, my] = [(x + other[0]) / 2, (y + other[1]) / 2];
  pan((x - old[0]) / 2, (y - old[1]) / 2);
  zoomAt(Math.hypot(x - other[0], y - other[1]) / Math.max(Math.hypot(old[0] - other[0], old[1] - other[1]), 1), mx, my);
});
for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    const picks = kind === "pointerup" && pointers.size === 1 && moved <= 4;
    pointers.delete(event.pointerId);
    if (picks) hold(nearest(...place(event), Math.max(tile() / 2 + 4, 16)));
  });
}
canvas.addEventListener("pointerleave", () => {
  near = -1;
  changed();
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 16 : 1;
  zoomAt(Math.exp(-clamp(event.deltaY * lines, -240, 240) * 0.0022), ...place(event));
}, { passive: false });

const keys = {
  ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1),
  "+": () => zoomAt(1.4), "=": () => zoomAt(1.4), "-": () => zoomAt(1 / 1.4), 0: everything, Escape: () => hold(-1),
  Enter: () => held >= 0 && data.link[held] && at("card-link").click(),
};
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});
at("in").addEventListener("click", () => zoomAt(1.6));
at("out").addEventListener("click", () => zoomAt(1 / 1.6));
at("all").addEventListener("click", everything);

function point(label) {
  chosen = chosen === label ? null : label;
  for (const button of at("legend").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.label) === chosen));
  }
  changed();
}
function legend() {
  const rows = data.classes.map(([name, n], label) => [name, n, label]);
  if (data.unlabelled) rows.push(["no label", data.unlabelled, -1]);
  at("legend").append(...rows.map(([name, n, label]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.label = label;
    button.setAttribute("aria-pressed", "false");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    const colour = colourOf(label);
    swatch.style.background = isStriped(label) ? `repeating-linear-gradient(90deg, ${colour} 0 3px, #fff 3px 5px)` : colour;
    const number = document.createElement("span");
    number.className = "n";
    number.textContent = n.toLocaleString("en");
    const text = document.createElement("span");
    text.textContent = name; // as text, whatever is in it
    button.append(swatch, text, number);
    button.addEventListener("click", () => point(label));
    const row = document.createElement("li");
    row.append(button);
    return row;
  }));
}

function search() {
  const wanted = at("search").value.trim().toLowerCase();
  matches = wanted ? new Set() : null;
  for (let i = 0; wanted && i < count; i++) {
    if (`${data.name[i]} ${labelOf(i)}`.toLowerCase().includes(wanted)) matches.add(i);
  }
  at("found").textContent = wanted ? `${matches.size.toLocaleString("en")} found` : "";
  changed();
}
at("search").addEventListener("input", search);
at("search").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !matches || !matches.size) return;
  const list = [...matches];
  holdVisibly(list[(list.indexOf(held) + 1) % list.length]); // the next one each time
});

function resize() {
  const ratio = window.devicePixelRatio || 1;
  const box = canvas.getBoundingClientRect();
  [width, height] = [box.width, box.height];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  changed();
}
new ResizeObserver(resize).observe(canvas);

async function load() {
  for (const [number, source] of data.sheets.entries()) {
    const image = new Image();
    image.src = source;
    await image.decode();
    sheets[number] = await createImageBitmap(image);
    data.sheets[number] = "";
    changed();
  }
  document.body.dataset.ready = "yes";
}
if (!count) at("found").textContent = "The index is empty.";
legend();
resize();
load();
