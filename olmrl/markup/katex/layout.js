// Where a browser would put every symbol of a formula, computed from KaTeX's own tree.
//
// KaTeX's HTML output is a tree of spans: symbols in a row, and "vlists" whose rows are shifted up
// or down. This file walks that tree (katex.__renderToDomTree, no DOM) with the few CSS rules of
// KaTeX's stylesheet that move symbols. x grows to the right, y downwards, unit px.
//
// Entry points: loadWidths(katexJson, serifJson), then renderFormula(latexJson, fonts, maxSymbols).
"use strict";

const FORMULA_PX = 24 * 1.21; // 24 px text, and katex.css sets .katex to 1.21 em
const LINE_ASCENT = 0.95; // em, of a line without struts
const LINE_DESCENT = 0.25;
const SIZES = [0, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.44, 1.728, 2.074, 2.488]; // .size1 .. .size11

// Horizontal room that katex.css gives to a class, in em.
const PADDINGS = {
  "x-arrow-pad": [0.5, 0.5],
  boxpad: [0.3, 0.3],
  "cancel-pad": [0.2, 0.2],
  anglpad: [0.03889, 0.03889],
  "cd-arrow-pad": [0.55556, 0.27778],
};
const ROOT_MARGINS = [0.2777777778, -0.5555555556];
const WIDTHLESS = [
  "strut", "pstrut", "frac-line", "overline-line", "underline-line", "hline", "hdashline",
];

// Browsers keep lengths in 1/64 px: CSS lengths are cut, widths of text rounded up.
const truncatePx = (px) => Math.trunc(px * 64) / 64;
const ceilPx = (px) => Math.ceil(px * 64 - 1e-4) / 64;

// ---- the tree ----

// The classes that any rule asks for. Most nodes have none of them, and are then done in one look.
const RULED = new Set([
  "accent", "accent-body", "accent-full", "angl", "arraycolsep", "cancel-lap", "clap",
  "col-align-c", "col-align-l", "col-align-r", "delimsizing", "fontsize-ensurer", "katex-html",
  "llap", "mfrac", "mover", "mspace", "msupsub", "munder", "newline", "nulldelimiter", "op-limits",
  "rlap", "root", "rule", "sizing", "svg-align", "tag", "thinbox", "vertical-separator", "vlist-t",
  "x-arrow", ...WIDTHLESS, ...Object.keys(PADDINGS),
]);

function isRuled(node) {
  if (node.isRuled === undefined) {
    node.isRuled = Boolean(node.classes) && node.classes.some((name) => RULED.has(name));
  }
  return node.isRuled;
}

function hasClass(node, name) {
  return isRuled(node) && node.classes.includes(name);
}

function hasAnyClass(node, names) {
  return isRuled(node) && names.some((name) => node.classes.includes(name));
}

function isSymbol(node) {
  return typeof node.text === "string" && !node.children;
}

function hasStyle(node) {
  for (const _ in node.style) return true;
  return false;
}

// Only such symbols become an element of their own; the others are bare text of their parent.
function isElement(symbol) {
  return symbol.italic > 0 || (symbol.classes && symbol.classes.length > 0) || hasStyle(symbol);
}

// Document fragments have children but are no elements: their children count as the parent's.
function isFragment(node) {
  return node.children && node.classes && typeof node.setAttribute !== "function";
}

function flatten(children) {
  const isFlat = (child) => child && !isFragment(child);
  if (children.every(isFlat)) return children;
  return children.flatMap((child) => isFlat(child) ? [child] : child ? flatten(child.children) : []);
}

function findNode(root, matches) {
  if (matches(root)) return root;
  for (const child of root.children || []) {
    const found = findNode(child, matches);
    if (found) return found;
  }
  return null;
}

// ---- CSS ----

function cssLength(value, emPx) {
  if (!value || value.endsWith("%")) return 0;
  const number = parseFloat(value);
  if (isNaN(number)) return 0;
  return truncatePx(value.endsWith("px") ? number : number * emPx);
}

function sizeFactor(node) {
  if (!hasAnyClass(node, ["sizing", "fontsize-ensurer"])) return 1;
  let from = 0;
  let to = 0;
  for (const name of node.classes) {
    const size = /^(reset-)?size(\d+)$/.exec(name);
    if (!size) continue;
    if (size[1]) from = from || Number(size[2]);
    else to = to || Number(size[2]);
  }
  return from && to ? SIZES[to] / SIZES[from] : 1;
}

// Margins and paddings to the left and right of a span, px.
function edgesOf(node, px, parentPx) {
  const style = node.style || {};
  const edges = {
    marginLeft: cssLength(style.marginLeft, px),
    marginRight: cssLength(style.marginRight, px),
    paddingLeft: cssLength(style.paddingLeft, px),
    paddingRight: cssLength(style.paddingRight, px),
  };
  if (style.margin) {
    const [vertical, horizontal] = style.margin.split(" ");
    edges.marginLeft = edges.marginRight = cssLength(horizontal || vertical, px);
  }
  for (const name of node.classes) {
    if (PADDINGS[name]) {
      edges.paddingLeft = PADDINGS[name][0] * px;
      edges.paddingRight = PADDINGS[name][1] * px;
    }
  }
  if (hasClass(node, "cancel-lap")) edges.marginLeft = edges.marginRight = -0.2 * px;
  if (hasClass(node, "angl")) edges.marginRight = 0.03889 * px;
  if (hasClass(node, "root")) {
    edges.marginLeft = ROOT_MARGINS[0] * parentPx;
    edges.marginRight = ROOT_MARGINS[1] * parentPx;
  }
  return edges;
}

// Width of spans that hold no symbols but take room, margins included; null for all others.
function fixedWidth(node, px, edges) {
  const style = node.style || {};
  const margins = edges.marginLeft + edges.marginRight;
  if (hasClass(node, "nulldelimiter")) return truncatePx(0.12 * px) + margins;
  if (hasClass(node, "arraycolsep")) return cssLength(style.width, px);
  if (hasAnyClass(node, ["vertical-separator", "rule"])) {
    return cssLength(style.borderRightWidth, px) + margins;
  }
  return null;
}

// How the rows of the vlists inside a node are aligned: "left", "center" or "right".
function alignInside(node, align) {
  if (hasAnyClass(node, ["msupsub", "svg-align"])) return "left";
  return hasAnyClass(node, ["x-arrow", "mover", "munder"]) ? "center" : align;
}

function alignOfChild(parent, child, align) {
  if (hasClass(parent, "mfrac")) return "center";
  if (!child.classes || !hasClass(child, "vlist-t")) return align;
  if (hasAnyClass(parent, ["op-limits", "accent", "col-align-c"])) return "center";
  if (hasClass(parent, "col-align-l")) return "left";
  return hasClass(parent, "col-align-r") ? "right" : align;
}

// ---- placing ----
//
// A place function appends the boxes of a node, as if its baseline began at (0, 0), and returns how
// far the next node begins to its right. `state` is {px, font, align} of the surroundings.

function shift(boxes, from, dx, dy) {
  if (dx === 0 && dy === 0) return;
  for (let i = from; i < boxes.length; i++) {
    boxes[i].x += dx;
    boxes[i].y += dy;
  }
}

// `isRow`: a direct child of a vlist row is an inline block, whose box is its line, not its text.
function emit(boxes, text, x, y, width, px, font, isRow) {
  const shown = text.trim();
  if (!shown) return;
  const [ascent, descent] = textHeights(px, font);
  const box = { text: shown, x, y: y - ascent, width, height: ascent + descent };
  if (isRow) {
    const lineHeight = truncatePx(1.2 * px);
    box.y -= Math.floor((lineHeight - box.height) / 2);
    box.height = lineHeight;
  }
  boxes.push(box);
}

function placeSymbol(node, outer, boxes, isRow) {
  const { px } = outer;
  const font = fontInside(node, outer.font);
  const style = node.style || {};
  const width = ceilPx(textWidth(node.text, font) * px);
  const marginLeft = cssLength(style.marginLeft, px);
  let marginRight = node.italic > 0 ? truncatePx(node.italic * px) : 0;
  if (style.marginRight) marginRight = cssLength(style.marginRight, px);
  if (isElement(node)) {
    const x = marginLeft + cssLength(style.left, px);
    emit(boxes, node.text, x, cssLength(style.top, px), width, px, font, isRow);
  }
  return marginLeft + width + marginRight;
}

function place(node, outer, boxes, isRow) {
  if (isSymbol(node)) return placeSymbol(node, outer, boxes, isRow);
  if (!node.classes) return 0; // an SVG path
  const font = fontInside(node, outer.font);
  if (!isRuled(node) && !hasStyle(node)) {
    const state = font === outer.font ? outer : { ...outer, font };
    return Math.max(placeContent(node, state, boxes, 0, isRow), 0);
  }
  if (hasAnyClass(node, WIDTHLESS)) return 0;
  const state = { px: outer.px * sizeFactor(node), font, align: alignInside(node, outer.align) };
  const edges = edgesOf(node, state.px, state.px);
  const fixed = fixedWidth(node, state.px, edges);
  if (fixed !== null) return fixed;
  if (hasClass(node, "vlist-t")) {
    return edges.marginLeft + placeRows(node, state, boxes, edges.marginLeft) + edges.marginRight;
  }
  const start = boxes.length;
  const origin = edges.marginLeft + edges.paddingLeft;
  const inner = placeContent(node, state, boxes, origin, isRow);
  return finishSpan(node, state.px, boxes, start, edges, inner);
}

// Returns the width of the content of a span.
function placeContent(node, state, boxes, origin, isRow) {
  const children = flatten(node.children);
  if (children.length > 0 && children.every((child) => isSymbol(child) && !isElement(child))) {
    let width = 0;
    for (const child of children) width += textWidth(child.text, state.font) * state.px;
    width = ceilPx(width);
    const text = children.map((child) => child.text).join("");
    emit(boxes, text, origin, 0, width, state.px, state.font, isRow);
    return width;
  }
  let x = 0;
  for (const child of children) {
    const before = boxes.length;
    const align = alignOfChild(node, child, state.align);
    const width = place(child, align === state.align ? state : { ...state, align }, boxes, false);
    shift(boxes, before, origin + x, 0);
    x += width;
  }
  return x;
}

// The rules that act on a span once its content is placed; returns its advance.
function finishSpan(node, px, boxes, start, edges, contentWidth) {
  const style = node.style || {};
  const { marginLeft, marginRight, paddingLeft, paddingRight } = edges;
  let inner = Math.max(contentWidth, cssLength(style.minWidth, px));
  const isSpace = hasClass(node, "mspace");
  if (style.width && !style.width.endsWith("%") && !isSpace) inner = cssLength(style.width, px);
  const width = marginLeft + paddingLeft + inner + paddingRight;
  if (hasClass(node, "llap")) {
    shift(boxes, start, -width, 0);
    return 0;
  }
  if (hasClass(node, "rlap")) return 0;
  if (hasClass(node, "clap")) {
    shift(boxes, start, -width / 2, 0);
    return 0;
  }
  if (style.top && !hasClass(node, "tag")) shift(boxes, start, 0, cssLength(style.top, px));
  if (style.left) shift(boxes, start, cssLength(style.left, px), 0);
  if (hasClass(node, "thinbox")) return 0;
  if (hasClass(node, "accent-body") && !hasClass(node, "accent-full")) return 0;
  if (isSpace) return marginLeft + marginRight + cssLength(style.width, px) + inner;
  return width + marginRight;
}

// A vlist: rows of one or more spans, each with a strut that lifts it to its `top`.
function placeRows(node, state, boxes, offset) {
  const rows = [];
  let widest = 0;
  for (const row of flatten(node.children[0].children[0].children)) {
    if (!row.classes) continue;
    const placed = placeRow(row, state, boxes);
    rows.push(placed);
    widest = Math.max(widest, placed.marginLeft + placed.width + placed.marginRight);
  }
  for (const row of rows) {
    const free = widest - row.marginLeft - row.marginRight - row.width;
    let dx = offset + row.marginLeft;
    if (free > 0 && row.align === "center") dx += truncatePx(free / 2);
    if (free > 0 && row.align === "right") dx += free;
    for (let i = row.start; i < row.end; i++) {
      boxes[i].x += dx;
      boxes[i].y += row.dy;
    }
  }
  return widest;
}

function placeRow(row, outer, boxes) {
  const state = {
    px: outer.px * sizeFactor(row),
    font: fontInside(row, outer.font),
    align: hasClass(row, "svg-align") ? "left"
      : hasAnyClass(row, ["mover", "munder"]) ? "center" : outer.align,
  };
  const { marginLeft, marginRight } = edgesOf(row, state.px, outer.px);
  const start = boxes.length;
  let dy = cssLength((row.style || {}).top, state.px);
  let x = 0;
  for (const item of flatten(row.children)) {
    if (!item.classes) continue;
    if (hasClass(item, "pstrut")) {
      dy += cssLength(item.style.height, state.px);
      continue;
    }
    const before = boxes.length;
    const width = place(item, state, boxes, true);
    shift(boxes, before, x, 0);
    x += width;
  }
  const end = boxes.length;
  return { start, end, width: x, marginLeft, marginRight, dy, align: state.align };
}

// ---- the whole formula ----

function strutHeights(base, px) {
  const strut = base.children && base.children[0];
  if (!strut || !strut.style) return [0, 0];
  const below = -cssLength(strut.style.verticalAlign, px);
  return [cssLength(strut.style.height, px) - below, below];
}

function layoutFormula(tree) {
  const lines = [[]];
  const tags = [];
  for (const part of flatten(findNode(tree, (node) => hasClass(node, "katex-html")).children)) {
    if (hasClass(part, "newline")) lines.push([]);
    else if (hasClass(part, "tag")) tags.push(part);
    else lines[lines.length - 1].push(part);
  }
  const state = { px: FORMULA_PX, font: UPRIGHT, align: "center" };
  const boxes = [];
  const placedLines = placeLines(lines, state, boxes);
  const widest = Math.max(0, ...placedLines.map((line) => line.width));
  for (const line of placedLines) {
    for (let i = line.start; i < line.end; i++) boxes[i].x += (widest - line.width) / 2;
  }
  for (const tag of tags) {
    const start = boxes.length;
    const width = place(tag, state, boxes, false);
    const [ascent] = strutHeights(tag, FORMULA_PX);
    shift(boxes, start, widest - width, Math.max(ascent, LINE_ASCENT * FORMULA_PX));
  }
  return boxes;
}

function placeLines(lines, state, boxes) {
  const placed = [];
  let y = 0;
  for (const line of lines) {
    const start = boxes.length;
    let x = 0;
    let ascent = LINE_ASCENT * FORMULA_PX;
    let descent = LINE_DESCENT * FORMULA_PX;
    for (const base of line) {
      const before = boxes.length;
      const width = place(base, state, boxes, false);
      shift(boxes, before, x, 0);
      x += width;
      if (base.children && base.children[0] && hasClass(base.children[0], "strut")) {
        const [above, below] = strutHeights(base, FORMULA_PX);
        ascent = Math.max(ascent, above);
        descent = Math.max(descent, below);
      }
    }
    y += ascent;
    shift(boxes, start, 0, y);
    y += descent;
    placed.push({ start, end: boxes.length, width: x });
  }
  return placed;
}

// ---- MathML ----

// The markup of a formula's meaning: what stands in <semantics>, without the LaTeX annotation.
function mathmlOf(tree) {
  const math = findNode(tree, (node) => node.type === "math");
  if (!math) return "";
  const semantics = math.children[0];
  if (!semantics || semantics.type !== "semantics") return serialize(math);
  return semantics.children.filter((child) => child.type !== "annotation").map(serialize).join("");
}

function quote(value) {
  return String(value).replace(/&/g, "&amp;").replace(/"/g, "&quot;");
}

function serialize(node) {
  if (node.character) return node.character; // a space, written as the character itself
  if (node.children === undefined || node.type === undefined) return node.toMarkup();
  let open = "<" + node.type;
  for (const name in node.attributes) open += ` ${name}="${quote(node.attributes[name])}"`;
  if (node.classes && node.classes.length) open += ` class="${node.classes.join(" ")}"`;
  return `${open}>${node.children.map(serialize).join("")}</${node.type}>`;
}

// ---- entry point ----

// LaTeX, as a JSON string -> JSON of {mathml, symbols: [[text, x, y, width, height]]} or {error}.
// fonts is "katex" or "serif".
function renderFormula(latexJson, fonts, maxSymbols) {
  fontSet = fonts;
  let tree;
  try {
    tree = katex.__renderToDomTree(JSON.parse(latexJson), { displayMode: true, throwOnError: true });
  } catch (error) {
    return JSON.stringify({ error: String(error.message) });
  }
  const boxes = layoutFormula(tree);
  if (boxes.length > maxSymbols) return JSON.stringify({ error: "too many symbols" });
  // a sum is finite only if each of its terms is
  if (!boxes.every(({ x, y, width, height }) => Number.isFinite(x + y + width + height))) {
    return JSON.stringify({ error: "a length is too large" });
  }
  const symbols = boxes.map((b) => [b.text, b.x, b.y, b.width, b.height]);
  return JSON.stringify({ mathml: mathmlOf(tree), symbols });
}
