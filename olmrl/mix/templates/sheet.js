"use strict";
const $ = (name) => document.getElementById(name);
const ids = JSON.parse($("ids").textContent);
const units = [...document.querySelectorAll(".unit")];
const known = new Set(ids), store = "olmrl-sheet:" + location.pathname;
let at = 0, marks = new Map();

function parse(row) {
  if (!row || typeof row.id !== "string" || !["good", "bad", "none"].includes(row.verdict)) {
    throw new Error("not a mark");
  }
  return { id: row.id, verdict: row.verdict, reason: String(row.reason || "").slice(0, 500) };
}
function put(mark) {
  marks.delete(mark.id);
  if (mark.verdict !== "none") marks.set(mark.id, mark);
}
function keep() {
  try { localStorage.setItem(store, JSON.stringify([...marks.values()])); } catch (error) { /* no storage here */ }
}
function paint(place) {
  const mark = marks.get(ids[place]), list = units[place].classList;
  list.toggle("good", !!mark && mark.verdict === "good");
  list.toggle("bad", !!mark && mark.verdict === "bad");
  list.toggle("here", place === at);
  units[place].title = mark ? mark.reason : "";
}
function count() {
  let good = 0, bad = 0;
  for (const mark of marks.values()) mark.verdict === "good" ? good++ : bad++;
  $("count").textContent = `${good} accepted, ${bad} rejected, ${ids.length} in all`;
}
function go(place) {
  if (!units.length) return;
  const before = at;
  at = Math.max(0, Math.min(units.length - 1, place));
  paint(before);
  paint(at);
  units[at].scrollIntoView({ block: units[at].tagName === "LI" ? "nearest" : "start" });
}
function judge(verdict, reason = "") {
  if (!units.length) return;
  put({ id: ids[at], verdict, reason });
  keep();
  count();
  go(verdict === "none" ? at : at + 1);
}
function unmarked() {
  for (let step = 1; step <= ids.length; step++) {
    const place = (at + step) % ids.length;
    if (!marks.has(ids[place])) return go(place);
  }
}
function ask() {
  $("reason").hidden = false;
  $("reason").focus();
}

addEventListener("keydown", (event) => {
  if (event.target === $("reason")) {
    if (event.key === "Enter") judge("bad", $("reason").value.trim());
    else if (event.key !== "Escape") return;
    $("reason").value = "";
    $("reason").blur();
    $("reason").hidden = true;
    event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {
    a: () => judge("good"), r: () => judge("bad"), u: () => judge("none"), t: ask, n: unmarked,
    j: () => go(at + 1), ArrowDown: () => go(at + 1), ArrowRight: () => go(at + 1),
    k: () => go(at - 1), ArrowUp: () => go(at - 1), ArrowLeft: () => go(at - 1),
  };
  if (!Object.hasOwn(keys, event.key)) return;
  keys[event.key]();
  event.preventDefault();
});
units.forEach((unit, place) => unit.addEventListener("click", () => go(place)));
$("save").addEventListener("click", () => {
  const lines = ids.filter((id) => marks.has(id)).map((id) => JSON.stringify(marks.get(id)) + "\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines));
  link.download = "marks.jsonl";
  link.click();
  $("save").blur();
});
$("load").addEventListener("change", async () => {
  const file = $("load").files[0];
  if (!file) return;
  let strange = 0, number = 0;
  $("said").textContent = "";
  try {
    for (const line of (await file.text()).split("\n")) {
      number++;
      if (!line.trim()) continue;
      const mark = parse(JSON.parse(line));
      known.has(mark.id) ? put(mark) : strange++;
    }
    if (strange) $("said").textContent = `${strange} marks of ${file.name} name nothing here`;
  } catch (error) {
    $("said").textContent = `${file.name}, line ${number}: not a mark`;
  }
  $("load").value = "";
  $("load").blur();
  keep();
  ids.forEach((_, place) => paint(place));
  count();
});

try {
  for (const row of JSON.parse(localStorage.getItem(store)) || []) {
    const mark = parse(row);
    if (known.has(mark.id)) put(mark);
  }
} catch (error) { marks = new Map(); }
ids.forEach((_, place) => paint(place));
count();
