// Widths and heights of characters, for the layout in layout.js.
//
// A font is {family, bold, italic}, and `inside`: the fonts that classes make of it, each made once.
// Two sets of widths exist: "katex" (advances of KaTeX's own fonts) and "serif" (a Times-like face:
// the public benchmark measures in a browser that never loads KaTeX's fonts). All widths are in em;
// heights come back in whole px, as browsers round them.
"use strict";

const UPRIGHT = { family: "Main", bold: false, italic: false, inside: {} };

// What a CSS class of KaTeX's stylesheet changes about the font.
const FONT_OF_CLASS = {
  textbf: { bold: true },
  textit: { italic: true },
  mathnormal: { family: "Math", italic: true },
  mathit: { family: "Main", italic: true },
  mathrm: { italic: false },
  mathbf: { family: "Main", bold: true },
  boldsymbol: { family: "Math", bold: true, italic: true },
  amsrm: { family: "AMS" },
  mathbb: { family: "AMS" },
  textbb: { family: "AMS" },
  mathcal: { family: "Caligraphic" },
  mathfrak: { family: "Fraktur" },
  textfrak: { family: "Fraktur" },
  mathboldfrak: { family: "Fraktur", bold: true },
  textboldfrak: { family: "Fraktur", bold: true },
  mathtt: { family: "Typewriter" },
  texttt: { family: "Typewriter" },
  mathscr: { family: "Script" },
  textscr: { family: "Script" },
  mathsf: { family: "SansSerif" },
  textsf: { family: "SansSerif" },
  mathboldsf: { family: "SansSerif", bold: true },
  textboldsf: { family: "SansSerif", bold: true },
  mathitsf: { family: "SansSerif", italic: true },
  mathsfit: { family: "SansSerif", italic: true },
  textitsf: { family: "SansSerif", italic: true },
  mainrm: { family: "Main", italic: false },
  textrm: { family: "Main" },
  "small-op": { family: "Size1" },
  "large-op": { family: "Size2" },
  "delim-size1": { family: "Size1" },
  "delim-size4": { family: "Size4" },
};

// Ascent and descent in em, by family and by B(old) and I(talic) where those differ.
const KATEX_HEIGHTS = {
  Main: [0.903, 0.272], MainB: [0.951, 0.268], MainI: [0.75, 0.25], MainBI: [0.761, 0.25],
  Math: [0.717, 0.218], MathI: [0.717, 0.218], MathBI: [0.725, 0.216],
  SansSerif: [0.75, 0.25], SansSerifB: [0.75, 0.25], SansSerifI: [0.751, 0.25],
  AMS: [1.003, 0.463], Caligraphic: [0.789, 0.143], Fraktur: [0.741, 0.257],
  Script: [0.735, 0.314], Typewriter: [0.694, 0.229],
  Size1: [0.85, 0.35], Size2: [1.36, 0.862], Size3: [1.45, 0.95], Size4: [1.75, 1.25],
};
const SERIF_HEIGHTS = [0.89, 0.216];

let fontSet = "katex"; // or "serif"
let katexWidths = {}; // font file name -> code point -> em
let serifWidths = {}; // "", "b", "i", "bi" -> character -> em

function loadWidths(katexJson, serifJson) {
  katexWidths = JSON.parse(katexJson);
  serifWidths = JSON.parse(serifJson);
}

// The font inside a node, given the font around it.
function fontInside(node, outer) {
  let font = outer;
  for (const name of node.classes || []) {
    const change = FONT_OF_CLASS[name];
    if (change) font = changed(font, name, change);
  }
  if (hasClass(node, "delimsizing")) {
    for (let size = 1; size <= 4; size++) {
      const name = "size" + size;
      if (hasClass(node, name)) font = changed(font, name, { family: "Size" + size });
    }
  }
  return font;
}

function changed(font, name, change) {
  const known = font.inside[name];
  if (known) return known;
  return (font.inside[name] = { ...font, ...change, inside: {} });
}

function fontFile(font) {
  const { family, bold, italic } = font;
  switch (family) {
    case "Math":
      return bold ? "Math-BoldItalic" : "Math-Italic";
    case "Caligraphic":
    case "Fraktur":
      return family + (bold ? "-Bold" : "-Regular");
    case "SansSerif":
      return family + (bold ? "-Bold" : italic ? "-Italic" : "-Regular");
    case "Main":
      return "Main-" + (bold ? (italic ? "BoldItalic" : "Bold") : italic ? "Italic" : "Regular");
    default:
      return family + "-Regular";
  }
}

function katexCharWidth(char, font) {
  const code = char.codePointAt(0);
  const width = katexWidths[fontFile(font)]?.[code]
    ?? katexWidths["Main-Regular"][code] ?? katexWidths["AMS-Regular"][code];
  if (width !== undefined) return width;
  if (code === 0x200b || code === 0x2061 || (code >= 0x300 && code < 0x370)) return 0;
  if (code === 0x20 || code === 0xa0) return 0.25;
  return code > 0x2e80 ? 1 : 0.5; // East Asian characters are as wide as high
}

function serifCharWidth(char, font) {
  const table = serifWidths[(font.bold ? "b" : "") + (font.italic ? "i" : "")];
  const width = table[char];
  return width === undefined ? table["?"] || 0.5 : width;
}

function textWidth(text, font) {
  const charWidth = fontSet === "serif" ? serifCharWidth : katexCharWidth;
  let width = 0;
  for (const char of text) width += charWidth(char, font);
  return width;
}

// [ascent, descent] in px.
function textHeights(px, font) {
  let heights = SERIF_HEIGHTS;
  if (fontSet === "katex") {
    const style = (font.bold ? "B" : "") + (font.italic ? "I" : "");
    heights = KATEX_HEIGHTS[font.family + style] || KATEX_HEIGHTS[font.family];
  }
  return [Math.round(heights[0] * px), Math.round(heights[1] * px)];
}
