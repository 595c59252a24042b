r"""What a reader of the rendered page sees of a transcription, for rewards.

Not seen, each decided once:

- characters without a glyph: zero-width and bidi marks, soft hyphens, variation selectors, tag
  characters, private use, control characters (joiners stay inside scripts that need them);
- HTML comments (an unclosed one hides the rest, as in browsers and CommonMark), declarations,
  processing instructions, CDATA, attributes other than spans, tags of no known element;
- elements that show nothing or only on demand (`script`, `template`, `details` that are not open,
  ...), and those hidden by an attribute: `hidden`, a style of no size, no opacity or no contrast
  to white paper, or moved, clipped or overlaid;
- markdown images with their alternative text, link targets and titles, reference definitions;
- LaTeX comments, labels and macro definitions, and arguments of `\phantom` and of white colour.

Overprinted text (`\rlap`), code blocks and small print are seen, and so are footnotes whose mark is
missing: their text is on the page. Character references are read.
The work is linear in the text, hostile or not.
"""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass

_GLYPHLESS = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\ue000-\uf8ff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\U000f0000-\U0010ffff]"
)
_JOINERS = re.compile("[\u200c\u200d]")
_NEEDS_JOINERS = frozenset(
    (
        *("ARABIC", "SYRIAC", "MONGOLIAN", "DEVANAGARI", "BENGALI", "GURMUKHI", "GUJARATI"),
        *("ORIYA", "TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "SINHALA", "KHMER"),
    )
)

_KEPT = frozenset(
    (
        *("table", "thead", "tbody", "tfoot", "tr", "td", "th", "caption", "br", "hr", "p", "div"),
        *("b", "strong", "i", "em", "u", "s", "del", "ins", "mark", "small", "big", "sub", "sup"),
        *("h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "dl", "dt", "dd", "span", "center"),
        *("blockquote", "pre", "code", "q", "cite", "figure", "figcaption", "section", "article"),
    )
)
_UNSEEN = frozenset(
    (
        *("script", "style", "template", "title", "head", "noscript", "iframe", "object", "svg"),
        *("audio", "video", "canvas", "datalist", "noembed", "noframes", "rp", "map", "select"),
        *("textarea", "math", "dialog", "details", "progress", "meter", "option", "applet", "area"),
    )
)
_VOID = frozenset(("img", "input", "br", "hr", "wbr", "col", "meta", "link", "embed", "area"))

_SIMPLE = "|".join(sorted(_KEPT, key=len, reverse=True))
_TRIGGER = re.compile(
    rf"<(?!/?(?:{_SIMPLE})>)(?=[!?/A-Za-z])"
    r"|!\[|\]\(|\]\[|\\[(\[]|\$\$|\\(?=[a-zA-Z]*(?:phantom|color|label|def|command|let)\b)"
)
_NAME = re.compile(r"</?([A-Za-z][A-Za-z0-9-]*)(?=[\s/>])")
_ATTRIBUTE = re.compile(r"""([A-Za-z_:-]+)\s*(?:=\s*("[^"]*"|'[^']*'|[^\s"'>]+))?""")
_IMAGE = re.compile(r"!\[[^\]\n]{0,500}\](?:\([^)\n]{0,500}\)|\[[^\]\n]{0,200}\])")
_TARGET = re.compile(r"\]\([^)\n]{0,500}\)|\]\[[^\]\n^]{0,200}\]")
_DEFINITION = re.compile(
    r"""^ {0,3}\[[^\]\n^][^\]\n]{0,200}\]:[ \t]*\S+"""
    r"""(?:[ \t]+(?:"[^"\n]*"|'[^'\n]*'|\([^)\n]*\)))?[ \t]*$""",
    re.MULTILINE,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_MARKS = frozenset("<>|*_#`$\\[]&!()")
_COMMENT = re.compile(r"(?<!\\)%[^\n]*")
_COMMAND = re.compile(
    r"\\(?:([hv]?phantom)|(label)|(textcolor|colorbox|color)|(?:[gex]?def|let)\\[A-Za-z]+"
    r"|(?:re)?newcommand\*?)(?![A-Za-z])"
)
_CLOSING = {"\\(": "\\)", "\\[": "\\]", "$$": "$$"}

_NO_SIZE = re.compile(
    r"(?:font-size|width|height|max-width|max-height|line-height|opacity|zoom|font):\s*"
    r"(?:0*\.?0+\d?|[0-3](?:\.\d*)?(?:px|pt))\s*(?:px|pt|em|rem|ex|%|vw|vh)?\s*"
    r"(?:!important)?(?:[;/ ]|$)"
)
_HIDING = re.compile(
    r"display:\s*none|visibility:\s*(?:hidden|collapse)|content-visibility|clip|mask|filter|"
    r"transform|position:|z-index|overflow|mix-blend|text-indent:\s*-|(?:margin|left|top)[a-z-]*:\s*-|"
    r"color:\s*transparent|text-fill|scale|translate"
)
_COLOUR = re.compile(r"(?<!-)\bcolor:\s*([^;]+)")
_WHITE_NAMES = frozenset(
    (
        *("white", "snow", "ivory", "whitesmoke", "ghostwhite", "floralwhite", "azure", "beige"),
        *("mintcream", "seashell", "transparent", "aliceblue", "honeydew", "lightyellow", "linen"),
        *("oldlace", "lavenderblush", "cornsilk"),
    )
)
_FAINTEST = 230
_USUAL_ATTRIBUTES = 30
"""Letters of a tag's attributes that count as markup, not as text."""


@dataclass(frozen=True)
class Seen:
    """A transcription as it renders."""

    text: str
    """What is seen, with the markup that the tests read."""
    hidden: int
    """Letters and digits (and characters without a glyph) that are not seen."""


def see(text: str) -> Seen:
    """Reduce a transcription without front matter to what its reader sees."""
    shown = unhidden(text)
    hidden = _glyphless(text)
    scan = _Scan(shown)
    scan.run()
    shown = "".join(scan.kept)
    hidden += scan.hidden
    if "]:" in shown:
        before, shown = shown, _DEFINITION.sub("", shown)
        hidden += letters(before) - letters(shown)
    return Seen(shown, hidden)


def _glyphless(text: str) -> int:
    """Number of characters without a glyph, character references included."""
    count = len(text) - len(strip_glyphless(text))
    if "&" in text:
        count += sum(not unhidden(match[0]) for match in _ENTITY.finditer(text))
    return count


def unhidden(text: str) -> str:
    """A text without glyphless characters, character references read, NFC: also of a needle."""
    shown = strip_glyphless(text)
    if "&" in shown:
        shown = strip_glyphless(_ENTITY.sub(_decoded, shown))
    return shown if shown.isascii() else unicodedata.normalize("NFC", shown)


def strip_glyphless(text: str) -> str:
    """Remove characters that show nothing; joiners stay in scripts that need them."""
    if text.isascii() and text.isprintable():
        return text
    text = _GLYPHLESS.sub("", text)
    return _JOINERS.sub(_joiner, text) if "\u200c" in text or "\u200d" in text else text


def _joiner(match: re.Match[str]) -> str:
    around = match.string[max(0, match.start() - 1) : match.end() + 1]
    scripts = [unicodedata.name(char, "").split(" ")[0] for char in around if char != match[0]]
    return match[0] if len(scripts) == 2 and all(s in _NEEDS_JOINERS for s in scripts) else ""


def _decoded(match: re.Match[str]) -> str:
    char = html.unescape(match[0])
    return match[0] if set(char) & _MARKS else char


def letters(text: str) -> int:
    """Number of letters and digits."""
    return sum(map(str.isalnum, text))


class _Scan:
    """One pass over a text that keeps what is seen."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.kept: list[str] = []
        self.hidden = 0
        self._at = 0
        self._last_close = text.rfind(">")
        self._never: set[str] = set()

    def run(self) -> None:
        """Walk from trigger to trigger."""
        while (found := _TRIGGER.search(self.text, self._at)) is not None:
            self.kept.append(self.text[self._at : found.start()])
            self._at = found.start()
            mark = self.text[self._at : self._at + 2]
            if mark[0] == "<":
                self._tag()
            elif mark in _CLOSING:
                self._formula(mark)
            elif mark[0] == "\\":
                self._command()
            else:
                self._markdown()
        self.kept.append(self.text[self._at :])

    def _keep(self, end: int) -> None:
        self.kept.append(self.text[self._at : end])
        self._at = end

    def _hide(self, end: int, allowed: int = 0) -> None:
        self.hidden += max(0, letters(self.text[self._at : end]) - allowed)
        self._at = end

    # -- HTML

    def _tag(self) -> None:
        text, start = self.text, self._at
        if text.startswith("<!--", start):
            end = text.find("-->", start + 2)
            return self._hide(len(text) if end < 0 else end + 3)
        if start > self._last_close:
            return self._keep(start + 1)
        if text.startswith(("<!", "<?"), start):
            mark = "]]>" if text.startswith("<![CDATA[", start) else ">"
            end = text.find(mark, start)
            return self._hide((end if end >= 0 else text.find(">", start)) + len(mark))
        named = _NAME.match(text, start)
        if named is None:
            return self._keep(start + 1)
        end = self._tag_end(start)
        self._element(named[1].lower(), text[named.end() : end - 1], end)
        return None

    def _tag_end(self, start: int) -> int:
        end = self.text.find(">", start)
        for quote in ('"', "'"):
            if self.text.count(quote, start, end) % 2:
                closing = self.text.find(quote, end, end + 1000)
                beyond = self.text.find(">", closing) if closing >= 0 else -1
                end = beyond if beyond >= 0 else end
        return end + 1

    def _element(self, name: str, inside: str, end: int) -> None:
        closes = self.text[self._at + 1] == "/"
        attributes = {} if closes else _attributes(inside)
        unseen = name in _UNSEEN and not (name in ("details", "dialog") and "open" in attributes)
        if not closes and name not in _VOID and (unseen or _hides(attributes)):
            return self._hide(self._element_end(name, end))
        if name in _KEPT:
            spans = "".join(
                f' {key}="{attributes[key]}"' for key in ("rowspan", "colspan") if key in attributes
            )
            self.kept.append(f"</{name}>" if closes else f"<{name}{spans}>")
            return self._hide(end, _USUAL_ATTRIBUTES)
        if closes or inside.strip() or name in _VOID or name in _UNSEEN:
            return self._hide(end)
        return self._keep(end)  # <word>: more likely text than an element

    def _element_end(self, name: str, at: int) -> int:
        """End of the element whose start tag ends at `at`; the text's end if it never closes."""
        depth = 1
        for match in re.finditer(rf"<(/?){name}(?=[\s/>])", self.text[at:], re.IGNORECASE):
            depth += -1 if match[1] else 1
            if depth == 0:
                end = self.text.find(">", at + match.end())
                return len(self.text) if end < 0 else end + 1
        return len(self.text)

    # -- markdown and LaTeX

    def _markdown(self) -> None:
        closes = self.text.find("]", self._at, self._at + 504) >= 0
        image = _IMAGE.match(self.text, self._at) if closes else None
        if image:
            return self._hide(image.end())
        target = _TARGET.match(self.text, self._at)
        if target and self._is_link():
            self._keep(self._at + 1)
            return self._hide(target.end())
        return self._keep(self._at + 1)

    def _is_link(self) -> bool:
        opening = self.text.rfind("[", max(0, self._at - 500), self._at)
        return opening >= 0 and "\n\n" not in self.text[opening : self._at]

    def _formula(self, mark: str) -> None:
        closing = _CLOSING[mark]
        end = -1 if mark in self._never else self.text.find(closing, self._at + 2)
        if end < 0:
            self._never.add(mark)
            return self._keep(self._at + 2)
        inside = self.text[self._at : end]
        shown = _COMMENT.sub("", inside) if "%" in inside else inside
        if any(word in shown for word in ("phantom", "color", "label", "def", "command", "let")):
            shown = _without_commands(shown)
        if shown != inside:
            self.hidden += letters(inside) - letters(shown)
        if shown[2:].strip() or inside == mark:
            self.kept.append(shown + closing)
        self._at = end + 2
        return None

    def _command(self) -> None:
        line = self.text.find("\n", self._at)
        end = len(self.text) if line < 0 else line
        end = min(end, self._at + 2000)
        piece = self.text[self._at : end]
        found = _COMMAND.match(piece)
        if found is None:
            return self._keep(self._at + 1)
        stop = _command_end(piece, found)
        shown = piece[: found.end()] + "{}" if found[1] else ""
        self.kept.append(shown if stop > found.end() else piece[: found.end()])
        return self._hide(self._at + stop)


def _attributes(inside: str) -> dict[str, str]:
    if not inside or inside == "/":
        return {}
    found = _ATTRIBUTE.findall(inside[:2000])
    return {name.lower(): value.strip("\"'") for name, value in found}


def _hides(attributes: dict[str, str]) -> bool:
    """Whether attributes take an element's content out of sight."""
    if not attributes:
        return False
    style = re.sub(r"\s*:\s*", ":", html.unescape(attributes.get("style", "")).lower())
    style = re.sub(r"/\*.*?\*/", "", style)
    colour = _COLOUR.search(style)
    return (
        "hidden" in attributes
        or _is_white(attributes.get("color", ""))
        or attributes.get("size") == "0"
        or bool(colour and _is_white(colour[1]))
        or bool(_NO_SIZE.search(style) or _HIDING.search(style))
    )


def _is_white(colour: str) -> bool:
    """Whether a CSS or LaTeX colour can hardly be told from paper."""
    colour = colour.lower().replace("!important", "").strip(" '\"")
    if colour in _WHITE_NAMES:
        return True
    if re.fullmatch(r"#?[0-9a-f]{8}", colour) and int(colour[-2:], 16) < 40:
        return True
    if re.fullmatch(r"#?[0-9a-f]{3,4}|#?[0-9a-f]{6}|#?[0-9a-f]{8}", colour):
        digits = colour.lstrip("#")
        step = 1 if len(digits) < 6 else 2
        parts = [int(digits[i : i + step] * (3 - step), 16) for i in range(0, 3 * step, step)]
        return min(parts) >= _FAINTEST
    if colour.startswith(("rgb", "hsl")):
        numbers = [float(n) for n in re.findall(r"\d*\.?\d+", colour)]
        faint = len(numbers) > 3 and numbers[3] <= 0.2
        light = numbers[2:3] if colour.startswith("hsl") else [n / 2.55 for n in numbers[:3]]
        return faint or (bool(light) and min(light) >= _FAINTEST / 2.55)
    return False


def _without_commands(formula: str) -> str:
    kept: list[str] = []
    at = 0
    while (found := _COMMAND.search(formula, at)) is not None:
        stop = _command_end(formula, found)
        kept.append(formula[at : found.start()])
        if found[1]:
            kept.append(found[0] + "{}")
        elif stop == found.end():
            kept.append(found[0])
        at = stop
    return "".join(kept) + formula[at:]


def _command_end(text: str, found: re.Match[str]) -> int:
    """Where the unseen part of a command ends; just after its name if all of it is seen."""
    at = found.end()
    if found[3]:
        colour_end = _group_end(text, at)
        if not _is_white(text[at:colour_end].strip("{} ")):
            return at
        return len(text) if found[3] == "color" else _group_end(text, colour_end)
    end = _group_end(text, at)
    if "command" in found[0]:
        end = _group_end(text, end)
    return end


def _group_end(text: str, at: int) -> int:
    """End of the braced group at a place, or of one character; an unclosed group never ends."""
    while at < len(text) and text[at].isspace():
        at += 1
    if not text.startswith("{", at):
        return min(len(text), at + 1)
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, at):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.end()
    return len(text)
