"use strict";
// Follows a run: asks what has changed every few seconds, and fetches those parts anew. The server
// makes and escapes all HTML; text that comes as JSON is set as text.

const EVERY_MS = 3000;
const seen = {};
let steps = [], pages = [], order = "newest", shownGroup = null, shownHeldout = "";

const at = (id) => document.getElementById(id);
const query = (name, values) => name + "?" + new URLSearchParams(values);

async function get(address) {
  const answer = await fetch(address, { cache: "no-store" });
  if (!answer.ok) throw new Error(address + ": " + answer.status);
  return answer;
}

async function fill(place, address) {
  place.innerHTML = await (await get(address)).text();
}

// -- what has changed

async function look() {
  let delay = EVERY_MS;
  try {
    const state = await (await get("state")).json();
    at("lost").hidden = true;
    state.status.forEach((text, number) => {
      at("status-" + number).querySelector(".said").textContent = text;
    });
    at("recorded").textContent = state.recorded;
    for (const [name, stamp] of Object.entries(state.stamps)) {
      if (seen[name] === stamp) continue;
      if (name === "groups") await list();
      else if (name === "heldout") await newEvaluations(state);
      else await fill(document.querySelector("#" + name + " .body"), "part?" + new URLSearchParams({ name }));
      seen[name] = stamp;
    }
  } catch {
    at("lost").hidden = false;
    delay = 2 * EVERY_MS;
  }
  setTimeout(look, document.hidden ? 5 * delay : delay);
}

// -- held-out pages

async function newEvaluations(state) {
  const slider = at("step"), choice = at("page");
  const newest = Number(slider.value) === steps.length - 1 || !steps.length;
  const step = steps[Number(slider.value)];
  steps = state.steps;
  pages = state.pages;
  document.querySelector("#heldout .controls").hidden = !pages.length;
  at("unread").hidden = pages.length > 0;
  if (!pages.length) return;
  const page = choice.value;
  choice.replaceChildren(...pages.map((id) => new Option(id, id)));
  if (pages.includes(page)) choice.value = page;
  slider.max = String(steps.length - 1);
  slider.value = String(newest || !steps.includes(step) ? steps.length - 1 : steps.indexOf(step));
  shownHeldout = "";
  await heldout();
}

async function heldout() {
  const step = steps[Number(at("step").value)], page = at("page").value;
  at("at").textContent = step + " of " + steps[steps.length - 1];
  const address = query("heldout", { page, step });
  if (address === shownHeldout) return;
  shownHeldout = address;
  const text = await (await get(address)).text();
  if (address === shownHeldout) document.querySelector("#heldout .body").innerHTML = text;
}

// -- prompt groups

async function list() {
  const lines = document.querySelector(".lines");
  const height = lines.scrollTop;
  await fill(lines, query("groups", { order }));
  lines.scrollTop = height;
  find();
  mark();
  if (!shownGroup) {
    const first = lines.querySelector("button");
    if (first) await open(first);
  }
}

function find() {
  const wanted = at("find").value.toLowerCase();
  for (const button of document.querySelectorAll(".lines button")) {
    button.parentElement.hidden = !button.dataset.page.toLowerCase().includes(wanted);
  }
}

function mark() {
  for (const button of document.querySelectorAll(".lines button")) {
    const here = button.dataset.run + "/" + button.dataset.name === shownGroup;
    button.setAttribute("aria-pressed", String(here));
  }
}

async function open(button) {
  const { run, name } = button.dataset;
  shownGroup = run + "/" + name;
  mark();
  const text = await (await get(query("group", { run, name }))).text();
  if (shownGroup === run + "/" + name) document.querySelector("#groups .browse > .body").innerHTML = text;
}

// -- the pointer on a curve

function point(event) {
  const drawing = event.target.closest ? event.target.closest(".chart > svg") : null;
  for (const old of document.querySelectorAll(".tip, .cursor")) old.remove();
  if (!drawing) return;
  const box = drawing.getBoundingClientRect(), chart = drawing.parentElement;
  const width = drawing.viewBox.baseVal.width;
  const x = ((event.clientX - box.left) / box.width) * width;
  const tip = document.createElement("div");
  tip.className = "tip";
  let place = null;
  for (const line of drawing.querySelectorAll(".line")) {
    const spots = line.getAttribute("d").slice(1).split(" L").map((spot) => spot.split(" ").map(Number));
    let near = 0;
    spots.forEach((spot, index) => { if (Math.abs(spot[0] - x) < Math.abs(spots[near][0] - x)) near = index; });
    const xs = line.dataset.x.split(","), ys = line.dataset.y.split(",");
    near = Math.min(near, xs.length - 1);
    place = place ?? spots[near][0];
    const row = document.createElement("div");
    row.textContent = "step " + xs[near] + "  " + line.dataset.label + "  " + ys[near];
    tip.append(row);
  }
  if (place === null) return;
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("d", "M" + place + " 8 V" + (drawing.viewBox.baseVal.height - 22));
  drawing.append(cursor);
  chart.append(tip);
  const left = event.clientX - chart.getBoundingClientRect().left;
  tip.style.left = Math.max(0, Math.min(left + 12, chart.clientWidth - tip.offsetWidth)) + "px";
  tip.style.top = "24px";
}

const told = (work) => work.catch(() => { at("lost").hidden = false; });

document.addEventListener("mousemove", point);
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.order) {
    order = button.dataset.order;
    for (const other of document.querySelectorAll("[data-order]")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    told(list());
  } else if (button.dataset.name) {
    told(open(button));
  }
});
at("find").addEventListener("input", find);
at("step").addEventListener("input", () => told(heldout()));
at("page").addEventListener("change", () => told(heldout()));
look();
