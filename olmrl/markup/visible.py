r"""What a reader of the rendered page sees of a transcription, for rewards.

Hiding what honest text shows is the worst mistake that can be made here: then the truth itself
earns nothing. So what may be text is text, and only these are not seen:

- characters without a glyph: zero-width and bidi marks, soft hyphens, variation selectors, tag
  characters, private use, control characters (joiners stay inside scripts that need them);
- HTML comments (an unclosed one hides the rest, as in browsers and CommonMark), declarations,
  processing instructions, CDATA;
- tags of elements that HTML knows, and of others with attributes in quotes; their attributes. With
  words that are no attributes (`<n and n>`), or bare and never closed (`the <title> element`), they
  are text;
- closed elements that show nothing or only on demand (`script`, `template`, `details` that are not
  open, ...), and those hidden by an attribute: `hidden`, a style of no size or opacity, white or
  transparent ink (white ink not on a background), or moved away, clipped or overlaid;
- markdown images with their alternative text, targets of links that look like an address, with
  their titles, and definitions of such targets; `][x]` is a link if `[x]:` is defined;
- in formulas LaTeX comments, labels and macro definitions; arguments of `\phantom` and white ink.
  (Of commands like `\mathchoice` all arguments are seen.)

Code blocks and inline code show what they hold, markup included. Overprinted text (`\rlap`) and
small print are seen, and so are footnotes whose mark is missing: their text is on the page.
Character references are read. The work is linear in the text, hostile or not.

What `see` leaves as tags is what `TAG` matches in full: elements of `_KEPT`, without attributes
except `rowspan` and `colspan`. All else in angle brackets is text, and its letters are letters.
"""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

from olmrl.markup.code import code_ends
from olmrl.markup.patterns import one_of
from olmrl.markup.styles import declarations, has_background, hides, is_white

_GLYPHLESS = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\ue000-\uf8ff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\U000f0000-\U0010ffff]"
)
SOFT_BREAK = re.compile("\u00ad[ \t]*\n[ \t]*")
"""A word that is divided at the end of a line."""
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
        *("script", "style", "template", "title", "head", "noscript", "iframe", "noembed"),
        *("audio", "video", "canvas", "datalist", "noframes", "rp", "select", "option"),
        *("dialog", "details", "progress", "meter", "area"),
    )
)
_HTML = (
    _KEPT
    | _UNSEEN
    | frozenset(
        (
            *("a", "abbr", "acronym", "address", "aside", "base", "bdi", "bdo", "body", "button"),
            *("col", "colgroup", "data", "dfn", "dir", "embed", "fieldset", "font", "footer"),
            *("form", "frame", "frameset", "header", "hgroup", "html", "img", "input", "kbd"),
            *("label", "legend", "link", "main", "map", "marquee", "math", "menu", "meta", "nav"),
            *("applet", "nobr", "object", "svg", "textarea"),
            *(
                "optgroup",
                "output",
                "param",
                "picture",
                "rb",
                "rt",
                "rtc",
                "ruby",
                "samp",
                "search",
            ),
            *("slot", "source", "strike", "summary", "time", "track", "tt", "var", "wbr"),
        )
    )
)
_VOID = frozenset(
    (
        *("img", "input", "br", "hr", "wbr", "col", "meta", "link", "embed", "area", "source"),
        *("base", "param", "track", "frame"),
    )
)
_NEVER_TEXT = frozenset(("img", "wbr", "col", "colgroup"))
"""Elements that are markup even if bare and never closed."""

_SIMPLE = one_of(_KEPT)
TAG = re.compile(rf'</?{_SIMPLE}(?: rowspan="\d{{1,2}}")?(?: colspan="\d{{1,2}}")?>')
"""What is a tag in the text of `Seen`."""
_TRIGGER = re.compile(
    rf"<(?<!\\<)(?!/?{_SIMPLE}>)(?=[!?/A-Za-z])"
    r"|\[(?:(?<=^\[)|(?<=^ \[)|(?<=^  \[)|(?<=^   \[))(?=[^\]\n^]{1,200}\]:)"
    r"|!\[|\]\(|\]\[|``*|~~~|\\[(\[]|\$\$|\\(?=[hv]?phantom\{|textcolor\{)",
    re.MULTILINE,
)
_MARKUP = re.compile(r"""</?([A-Za-z][A-Za-z0-9-]*)(?=[\s/>])((?:[^"'<>]++|"[^"]*"|'[^']*')*+)>""")
_START_OR_END = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9-]*)(?=[\s/>])")
_ATTRIBUTE = re.compile(r"""([A-Za-z_:-]++)(?:\s*+=\s*+("[^"]*"|'[^']*'|[^\s"'>]+))?""")
_BARE_ATTRIBUTES = frozenset(
    (
        *("hidden", "open", "nowrap", "border", "compact", "reversed", "noshade", "disabled"),
        *("checked", "selected", "readonly", "required", "multiple", "controls", "async", "defer"),
        *("class", "style", "id", "inert", "autofocus", "alt"),
    )
)

_ADDRESS = (
    r"(?:<[^<>\n]{0,500}>|(?=(?:https?|ftp|file|mailto|data|javascript|tel|doi|urn):|www\.|\.{0,2}/|#|"
    r"[^\s()]{1,200}\.(?:png|jpe?g|gif|svg|webp|tiff?|bmp|pdf|html?|md|php)\b)"
    r"(?:[^\s()]|\([^\s()]{0,100}\)){1,2000}+)"
)
_TITLE = r"""(?:[ \t]+(?:"[^"\n]{0,2000}"|'[^'\n]{0,2000}'|\([^()\n]{0,2000}\)))"""
_TARGET = re.compile(rf"\]\([ \t]{{0,9}}(?:{_ADDRESS}{_TITLE}?)?[ \t]{{0,9}}\)", re.IGNORECASE)
_IMAGE = re.compile(r"!\[[^\]\n]{0,500}\](?:\([^)\n]{0,500}\)|\[[^\]\n]{0,200}\])")
_REFERENCE = re.compile(r"\]\[([^\]\[\n^]{1,200})\]")
_DEFINITION = re.compile(
    rf"""^ {{0,3}}\[(?!\^)([^\]\n]{{1,200}})\]:[ \t]*{_ADDRESS}({_TITLE}?)[ \t]*$""",
    re.MULTILINE | re.IGNORECASE,
)
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_MARKS = frozenset("<>|*_#`$\\[]&!()")
_COMMENT = re.compile(r"(?<!\\)%[^\n]*")
_COMMAND = re.compile(
    r"\\(?:([hv]?phantom)|(label)|(textcolor|color)|(?:[gex]?def|let)\\[A-Za-z]+"
    r"|(?:re)?newcommand\*?)(?![A-Za-z])"
)
_CHOOSING = re.compile(r"\\(?:mathchoice|TextOrMath|@(?:first|second)oftwo|@if[a-z]+)(?![A-Za-z])")
"""Commands that show one of their arguments, by style or what follows: all of them may be seen."""
_COLOUR_ARGUMENT = re.compile(r"\s{0,9}\{([^{}]{0,64})\}")
_CLOSING = {"\\(": "\\)", "\\[": "\\]", "$$": "$$"}

_LONGEST_COMMAND = 500
_USUAL_ATTRIBUTES = 30
_USUAL_STYLE = 200
"""Letters of a tag's attributes, and of its style, that count as markup, not as text."""


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
    return Seen(shown, hidden)


def _glyphless(text: str) -> int:
    """Number of characters without a glyph, character references included."""
    count = len(text) - len(strip_glyphless(text))
    if "&" in text:
        count += sum(not unhidden(match[0]) for match in ENTITY.finditer(text))
    return count


def unhidden(text: str) -> str:
    """A text without glyphless characters, character references read, NFC: also of a needle."""
    shown = strip_glyphless(text)
    if "&" in shown:
        shown = strip_glyphless(ENTITY.sub(_decoded, shown))
    return shown if shown.isascii() else unicodedata.normalize("NFC", shown)


def strip_glyphless(text: str) -> str:
    """Remove characters that show nothing; joiners stay in scripts that need them.

    A soft hyphen at the end of a line goes with the line break.
    """
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    if "\u00ad" in text:
        text = SOFT_BREAK.sub("", text)
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
        self._never: set[str] = set()
        self._stripped: set[str] = set()
        """Unknown elements whose start tag was hidden."""
        self._dark_until = 0
        """End of the elements so far that have a background."""

    def run(self) -> None:
        """Walk from trigger to trigger."""
        while (found := _TRIGGER.search(self.text, self._at)) is not None:
            passed, self._at = self._at, found.start()
            self.kept.append(self.text[passed : self._at])
            mark = self.text[self._at : self._at + 2]
            if mark[0] == "<":
                self._tag()
            elif mark in _CLOSING:
                self._formula(mark)
            elif mark[0] == "\\":
                self._command()
            elif mark[0] in "!]":
                self._markdown()
            elif mark[0] in "[~" and passed and "\n" not in self.text[passed - 1 : self._at]:
                self._keep(found.end())  # its line began in something hidden
            elif mark[0] == "[":
                self._definition()
            else:
                self._keep(self._code.get(found.start(), found.end()))
        self.kept.append(self.text[self._at :])

    def _keep(self, end: int) -> None:
        self.kept.append(self.text[self._at : end])
        self._at = end

    def _hide(self, end: int, allowed: int = 0) -> None:
        self.hidden += max(0, letters(self.text[self._at : end]) - allowed)
        self._at = end

    @cached_property
    def _code(self) -> dict[int, int]:
        return code_ends(self.text)

    # -- HTML

    def _tag(self) -> None:
        text, start = self.text, self._at
        if text.startswith("<!--", start):
            end = text.find("-->", start + 2)
            return self._hide(len(text) if end < 0 else end + 3)
        if text[start + 1] in "!?":
            return self._declaration()
        found = _MARKUP.match(text, start)
        attributes = None if found is None else _attributes(found[2])
        if found is None or attributes is None:
            return self._keep(start + 1)
        self._element(found[1].lower(), attributes, found)
        return None

    def _declaration(self) -> None:
        text, start = self.text, self._at
        mark = "]]>" if text.startswith("<![CDATA[", start) else ">"
        if not text[start + 2 : start + 3].isalpha() and mark == ">":
            return self._keep(start + 1)
        end = -1 if mark in self._never else text.find(mark, start)
        if end < 0:
            self._never.add(mark)
            return self._keep(start + 1)
        return self._hide(end + len(mark))

    def _element(self, name: str, attributes: dict[str, str], tag: re.Match[str]) -> None:
        if tag[0][1] == "/":
            return self._end_tag(name, tag)
        style = declarations(attributes)
        end = None if name in _VOID else self._element_end(tag.start())
        unseen = name in _UNSEEN and not (name in ("details", "dialog") and "open" in attributes)
        if has_background(style):
            self._dark_until = max(self._dark_until, end or len(self.text))
        on_paper = self._dark_until <= tag.start()
        if end is not None and (unseen or hides(attributes, style, on_paper)):
            return self._hide(end)
        if name in _KEPT:
            spans = _spans(attributes)
            if spans is None:
                return self._keep(tag.end())
            self.kept.append(f"<{name}{spans}>")
            usual = letters(attributes.get("style", "")) + len("style")
            return self._hide(tag.end(), _USUAL_ATTRIBUTES + min(_USUAL_STYLE, usual))
        if name in _HTML:
            bare = not attributes and end is None and name not in _NEVER_TEXT
            return self._keep(tag.end()) if bare else self._hide(tag.end())
        if not any(attributes.values()) or "=" not in tag[2] or not re.search("[\"']", tag[2]):
            return self._keep(tag.end())
        self._stripped.add(name)
        return self._hide(tag.end())

    def _end_tag(self, name: str, tag: re.Match[str]) -> None:
        if name in _KEPT:
            self.kept.append(f"</{name}>")
            return self._hide(tag.end(), _USUAL_ATTRIBUTES)
        opened = name in _NEVER_TEXT or tag.start() in self._ends
        if name in self._stripped or (name in _HTML and opened):
            return self._hide(tag.end())
        return self._keep(tag.end())

    @cached_property
    def _element_ends(self) -> dict[int, int]:
        """Where the name in the end tag ends, of each element that is closed, by its start."""
        ends: dict[int, int] = {}
        opened: dict[str, list[int]] = {}
        for found in _START_OR_END.finditer(self.text):
            stack = opened.setdefault(found[2].lower(), [])
            if not found[1]:
                stack.append(found.start())
            elif stack:
                ends[stack.pop()] = found.end()
        return ends

    @cached_property
    def _ends(self) -> frozenset[int]:
        """Where end tags of elements start."""
        starts = {m.end(): m.start() for m in _START_OR_END.finditer(self.text) if m[1]}
        return frozenset(starts[end] for end in self._element_ends.values())

    def _element_end(self, start: int) -> int | None:
        """End of the element that starts at a place; None if it never closes."""
        named = self._element_ends.get(start)
        if named is None:
            return None
        end = self.text.find(">", named, named + 1000)
        return None if end < 0 else end + 1

    # -- markdown and LaTeX

    @cached_property
    def _defined(self) -> frozenset[str]:
        """Names of link definitions, lower case."""
        return frozenset(match[1].lower() for match in _DEFINITION.finditer(self.text))

    def _markdown(self) -> None:
        text, at = self.text, self._at
        if text[at] == "!":
            closes = text.find("]", at, at + 504) >= 0
            image = _IMAGE.match(text, at) if closes else None
            inside_word = at > 0 and (text[at - 1].isalnum() or text[at - 1] in ")]}")
            return self._keep(at + 1) if image is None or inside_word else self._hide(image.end())
        if not self._is_link():
            return self._keep(at + 1)
        target = _TARGET.match(text, at)
        if target is None:
            target = _REFERENCE.match(text, at)
            if target is None or target[1].lower() not in self._defined:
                return self._keep(at + 1)
        self._keep(at + 1)
        return self._hide(target.end())

    def _definition(self) -> None:
        """Hide a link definition, unless it may be an entry of a bibliography: `[3]: www.x.org`."""
        line = self.text.rfind("\n", 0, self._at) + 1
        found = _DEFINITION.match(self.text, line)
        if found is None or (found[1].isdigit() and not found[2]):
            return self._keep(self._at + 1)
        self.kept[-1] = self.kept[-1].rstrip(" ")
        return self._hide(found.end())

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
        if any(word in shown for word in ("choice", "OrMath", "oftwo", "\\@if")):
            shown = _CHOOSING.sub(" ", shown)
        if shown != inside:
            self.hidden += letters(inside) - letters(shown)
        if shown[2:].strip() or inside == mark:
            self.kept.append(shown + closing)
        self._at = end + 2
        return None

    def _command(self) -> None:
        """Outside formulas only what has an argument in braces that is not seen."""
        line = self.text.find("\n", self._at, self._at + _LONGEST_COMMAND)
        piece = self.text[self._at : self._at + _LONGEST_COMMAND if line < 0 else line]
        found = _COMMAND.match(piece)
        stop = None if found is None else _command_end(piece, found)
        if found is None or stop is None or stop == found.end():
            return self._keep(self._at + 1)
        self.kept.append(found[0] + "{}" if found[1] else "")
        return self._hide(self._at + stop)


def _attributes(inside: str) -> dict[str, str] | None:
    """The attributes of a tag; None if words or signs are among them that are none."""
    if not inside or inside == "/":
        return {}
    if _ATTRIBUTE.sub("", inside).strip(" \t\r\n\f/"):
        return None
    found = {name.lower(): value for name, value in _ATTRIBUTE.findall(inside)}
    if any(not value and name not in _BARE_ATTRIBUTES for name, value in found.items()):
        return None
    return {name: value.strip("\"'") for name, value in found.items()}


def _spans(attributes: dict[str, str]) -> str | None:
    """The spans of a cell; None if one is no number of at most two digits."""
    named = {name: attributes.get(name, "").strip() for name in ("rowspan", "colspan")}
    given = {name: value for name, value in named.items() if value}
    if not all(re.fullmatch("[0-9]{1,2}", value) for value in given.values()):
        return None
    return "".join(f' {name}="{value}"' for name, value in given.items())


def _without_commands(formula: str) -> str:
    kept: list[str] = []
    at = 0
    while (found := _COMMAND.search(formula, at)) is not None:
        stop = _command_end(formula, found)
        if stop is None:
            break
        kept.append(formula[at : found.start()])
        if found[1]:
            kept.append(found[0] + "{}")
        elif stop == found.end():
            kept.append(found[0])
        at = stop
    return "".join(kept) + formula[at:]


def _command_end(text: str, found: re.Match[str]) -> int | None:
    """Where the unseen part of a command ends; just after its name if all of it is seen.

    None if a group is not closed: LaTeX cannot be set then, and is shown as it stands.
    """
    at: int | None = found.end()
    if found[3]:
        colour = _COLOUR_ARGUMENT.match(text, found.end())
        if colour is None or not is_white(colour[1].strip()):
            return at
        return len(text) if found[3] == "color" else _group_end(text, colour.end())
    at = _group_end(text, found.end())
    return _group_end(text, at) if "command" in found[0] and at is not None else at


def _group_end(text: str, at: int) -> int | None:
    """End of the braced group at a place, or of one character; None if the group is not closed."""
    while at < len(text) and text[at].isspace():
        at += 1
    if not text.startswith("{", at):
        return min(len(text), at + 1)
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, at):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.end()
    return None
