"""A small HTML tree in document order, on the standard tokenizer, with bounded work.

The public bench reads tables from a tree without implied tags; `implied_ends=False` does the same
(``<td>a<td>b`` nests), while the default closes cells, rows, sections and tables, and opens the row
that a cell lacks, as browsers do. The tree is one flat list, so nesting of any depth needs no
recursion.
"""

import html.entities
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

from olmrl.markup.letters import raised
from olmrl.markup.text import WorkLimitError

MAX_RESCANS = 20_000_000
"""Maximum characters the tokenizer may scan in vain (tags that never close)."""

MAX_CLIMBS = 5_000_000
"""Maximum open elements to visit in search of the one that a tag closes."""

_VOID = frozenset(
    (
        *("area", "base", "basefont", "bgsound", "br", "col", "command", "embed", "frame", "hr"),
        *("image", "img", "input", "isindex", "keygen", "link", "menuitem", "meta", "nextid"),
        *("param", "source", "spacer", "track", "wbr"),
    )
)
_HIDDEN = frozenset({"script", "style", "template", "rt", "rp"})
_CELLS = frozenset({"td", "th"})
SECTIONS = frozenset({"thead", "tbody", "tfoot"})
_INTO = {
    **dict.fromkeys(_CELLS, ("tr",)),
    "tr": tuple(SECTIONS),
    **dict.fromkeys((*SECTIONS, "caption", "colgroup"), ()),
}
"""Parts of a table, and into which element of it they go, else into the table itself."""

_SPECIAL = "script|style|textarea|title|xmp|iframe|noembed|noframes|noscript|plaintext"
"""Elements whose content the tokenizer may take for something else than markup."""
_NAME = f"(?!(?:{_SPECIAL})[ >])([a-z][a-z0-9]{{0,20}})"
_PLAIN_TAG = re.compile(
    rf'<(?:/{_NAME}|{_NAME}(?: rowspan="(\d{{1,2}})")?(?: colspan="(\d{{1,2}})")?)>'
)
"""A tag as transcriptions usually have it: what the tokenizer would find, found faster."""
_FAR_REACHING = re.compile("[\"']|<[!?]")
"""What the tokenizer may read on from, past the end of the next tag."""

_MAX_DIGITS = 9
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"


class MarkupError(ValueError):
    """Markup that the public tree refuses to parse at all."""


@dataclass(eq=False)
class Element:
    """One tag. Its descendants are `nodes[index + 1 : end]` of the document."""

    name: str
    attributes: dict[str, str | None]
    parent: "Element | None"
    index: int
    end: int = 0


@dataclass
class Document:
    """Elements and text in document order."""

    nodes: list[Element | str] = field(default_factory=list)

    def descendants(self, element: Element) -> Iterator[Element]:
        """All elements inside an element."""
        for index in range(element.index + 1, element.end):
            node = self.nodes[index]
            if isinstance(node, Element):
                yield node

    def children(self, element: Element) -> Iterator[Element]:
        """The elements directly inside an element."""
        index = element.index + 1
        while index < element.end:
            node = self.nodes[index]
            if isinstance(node, Element):
                yield node
                index = node.end
            else:
                index += 1

    def text(self, element: Element, *, raise_sup: bool = False) -> str:
        """All text inside an element, with ``<br>`` as a newline; without comments and scripts.

        Args:
            element: The element.
            raise_sup: Digits and signs in ``<sup>`` become raised characters.
        """
        if not raise_sup:
            if element.end == element.index + 2:
                node = self.nodes[element.index + 1]
                if isinstance(node, str):
                    return node
            return "".join(
                node if isinstance(node, str) else "\n" if node.name == "br" else ""
                for node in self.nodes[element.index + 1 : element.end]
            )
        kept: list[str] = []
        raised_until = 0
        for index in range(element.index + 1, element.end):
            node = self.nodes[index]
            if isinstance(node, str):
                kept.append(raised(node) if index < raised_until else node)
            elif node.name == "br":
                kept.append("\n")
            elif node.name == "sup":
                raised_until = max(raised_until, node.end)
        return "".join(kept)


def parse_tree(text: str, *, implied_ends: bool = True) -> Document:
    """Parses markup of any quality.

    Args:
        text: The markup.
        implied_ends: Close cells, rows and table sections where HTML implies it, and decode
            character references as browsers do.

    Raises:
        WorkLimitError: The markup would stall the tokenizer.
        MarkupError: Without `implied_ends` only: a malformed ``<![`` declaration.
    """
    parser = _TreeParser(implied_ends)
    parser.feed(text[parser.feed_mostly_plain(text) :] if implied_ends else text)
    parser.close()
    return parser.finish()


class _TreeParser(HTMLParser):
    def __init__(self, implied_ends: bool) -> None:
        super().__init__(convert_charrefs=implied_ends)
        self._implied_ends = implied_ends
        self._document = Document()
        self._open: list[Element] = []
        self._open_names: Counter[str] = Counter()
        self._hidden_depth = 0
        self._rescanned = 0
        self._climbed = 0

    def finish(self) -> Document:
        self._close_down_to(0)
        return self._document

    def feed_mostly_plain(self, text: str) -> int:
        """Feeds plain tags and the text between them without the tokenizer, and through it what
        is between two of them, as long as it reads that without looking farther.

        Returns:
            Where the rest begins.
        """
        at = self._feed_plain(text, 0)
        while (tag := _PLAIN_TAG.search(text, at)) is not None:
            if _FAR_REACHING.search(text, at, tag.end()):
                break
            self.feed(text[at : tag.end()])
            if self.rawdata or self.cdata_elem is not None:
                return tag.end()
            at = self._feed_plain(text, tag.end())
        return at

    def _feed_plain(self, text: str, start: int) -> int:
        """Feeds plain tags and the text between them from a place on.

        Returns:
            The end of the last tag before anything else in angle brackets or a reference.
        """
        for found in _PLAIN_TAG.finditer(text, start):
            if not self._feed_text(text[start : found.start()]):
                break
            closed, opened, rows, columns = found.groups()
            if closed:
                self.handle_endtag(closed)
            else:
                spans = (("rowspan", rows), ("colspan", columns))
                self.handle_starttag(opened, [span for span in spans if span[1]])
            start = found.end()
        else:
            start = len(text) if self._feed_text(text[start:]) else start
        return start

    def _feed_text(self, data: str) -> bool:
        """Feeds text without markup; False if there is some in it."""
        if "<" in data or "&" in data:
            return False
        if data:
            self.handle_data(data)
        return True

    # Tokenizer steps that may read to the end of the text in vain, once per unclosed mark.

    def _charge(self, start: int, result: int) -> int:
        if result < 0:
            self._rescanned += len(self.rawdata) - start
            if self._rescanned > MAX_RESCANS:
                raise WorkLimitError("too many HTML tags never close")
        return result

    def parse_starttag(self, i: int) -> int:
        return self._charge(i, super().parse_starttag(i))

    def parse_endtag(self, i: int) -> int:
        return self._charge(i, super().parse_endtag(i))

    def parse_comment(self, i: int, report: bool = True) -> int:
        return self._charge(i, super().parse_comment(i, report))

    def parse_html_declaration(self, i: int) -> int:
        try:
            return self._charge(i, super().parse_html_declaration(i))
        except AssertionError as error:  # the tokenizer's error for a malformed "<![...": as text
            if not self._implied_ends:
                raise MarkupError(f"unreadable HTML declaration: {error}") from error
            self.handle_data(self.rawdata[i : i + 3])
            return i + 3

    def parse_pi(self, i: int) -> int:
        return self._charge(i, super().parse_pi(i))

    # Tree building.

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._implied_ends and (tag in _INTO or tag == "table"):
            self._make_way(tag)
        # of two attributes of a name, HTML takes the first
        self._add(tag, dict(reversed(attrs) if self._implied_ends else attrs))

    def _add(self, tag: str, attributes: dict[str, str | None]) -> None:
        nodes = self._document.nodes
        element = Element(tag, attributes, self._open[-1] if self._open else None, len(nodes))
        nodes.append(element)
        if tag in _VOID:
            element.end = len(nodes)
        else:
            self._open.append(element)
            self._open_names[tag] += 1
            self._hidden_depth += tag in _HIDDEN

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID and not self._implied_ends:
            self._close_down_to(len(self._open) - 1)

    def handle_endtag(self, tag: str) -> None:
        barrier: frozenset[str] = frozenset()
        if self._implied_ends and tag != "table":
            is_table_part = tag in _INTO
            barrier = frozenset({"table"}) if is_table_part else _CELLS | {"table"}
        if not self._open_names[tag]:
            return
        if self._open[-1].name == tag:
            self._close_down_to(len(self._open) - 1)
            return
        for depth in self._climb():
            if self._open[depth].name == tag:
                self._close_down_to(depth)
                return
            if self._open[depth].name in barrier:
                return

    def handle_data(self, data: str) -> None:
        if not self._hidden_depth:
            self._document.nodes.append(data)

    def handle_charref(self, name: str) -> None:
        self.handle_data(_character(name))

    def handle_entityref(self, name: str) -> None:
        self.handle_data(html.entities.html5.get(name + ";", "&" + name))

    def unknown_decl(self, data: str) -> None:
        if data.upper().startswith("CDATA["):
            self.handle_data(data[len("CDATA[") :])

    def _climb(self) -> Iterator[int]:
        """Depths of the open elements, innermost first."""
        for depth in range(len(self._open) - 1, -1, -1):
            self._climbed += 1
            if self._climbed > MAX_CLIMBS:
                raise WorkLimitError("HTML is nested too deeply")
            yield depth

    def _make_way(self, tag: str) -> None:
        """Closes what a part of a table cannot stand in, and opens a row for a cell without one."""
        if not self._open_names["table"] or self._is_in_place(tag):
            return
        inside = []  # depths of the elements of the innermost open table, innermost first
        table = 0
        for table in self._climb():
            if self._open[table].name == "table":
                break
            inside.append(table)
        names = [self._open[depth].name for depth in reversed(inside)]
        if tag == "table":
            if not any(name in _CELLS or name == "caption" for name in names):
                self._close_down_to(table)  # "<table>" where "</table>" was meant
            return
        into = _INTO[tag]
        wanted = next((at for at, name in enumerate(names) if name in into), None)
        if wanted is None and tag in _CELLS:
            section = next((at for at, name in enumerate(names) if name in SECTIONS), -1)
            self._close_down_to(table + section + 2)
            self._add("tr", {})
        else:
            self._close_down_to(table + (0 if wanted is None else wanted + 1) + 1)

    def _is_in_place(self, tag: str) -> bool:
        """Whether a cell or row stands where it should; closes a cell before a cell."""
        names = [element.name for element in self._open[-2:]]
        if tag in _CELLS and names[-1] in _CELLS and names[0] == "tr":
            self._close_down_to(len(self._open) - 1)
            return True
        return names[-1] == "tr" if tag in _CELLS else tag == "tr" and names[-1] in SECTIONS

    def _close_down_to(self, depth: int) -> None:
        while len(self._open) > depth:
            element = self._open.pop()
            element.end = len(self._document.nodes)
            self._open_names[element.name] -= 1
            self._hidden_depth -= element.name in _HIDDEN


def _character(name: str) -> str:
    """A numeric character reference as the public tree reads it: Windows-1252 below 256."""
    if len(name) > _MAX_DIGITS:
        return _UNREADABLE
    number = int(name[1:], 16) if name[0] in "xX" else int(name)
    if number < 256:
        return bytes([number]).decode("windows-1252", errors="ignore") or chr(number)
    is_character = number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF
    return chr(number) if is_character else _UNREADABLE
