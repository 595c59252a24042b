"""The words of a transcription, without its markup: what text rewards compare."""

from __future__ import annotations

import re
from functools import lru_cache

from olmrl.markup.patterns import one_of
from olmrl.markup.text import normalize

_NAMES = (
    *("a", "b", "blockquote", "br", "caption", "center", "code", "col", "colgroup", "del", "div"),
    *("em", "figcaption", "figure", "font", "h[1-6]", "hr", "i", "img", "ins", "li", "mark", "ol"),
    *("p", "pre", "s", "small", "span", "strong", "sub", "sup", "table", "tbody", "td", "tfoot"),
    *("th", "thead", "tr", "u", "ul"),
)
TAG = re.compile(rf"<(/?)({one_of(_NAMES)})(?![\w-])([^<>]{{0,2000}})>", re.IGNORECASE)
"""An HTML tag: its slash, its name, its attributes. Anything else in `<>` is text."""
_INLINE = frozenset({"a", "b", "em", "font", "i", "mark", "s", "small", "span", "strong"}) | {
    *("code", "del", "ins", "sub", "sup", "u")
}
_HEADING = re.compile(r"^[ \t]*#{1,6}[ \t]+", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*[|:-][ \t|:-]*$", re.MULTILINE)
_PIPED_LINE = re.compile(r"^[ \t]*\|.*$", re.MULTILINE)
_PIPE = re.compile(r"(?<!\\)\|")
_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_WIDE}]|[^\s{_WIDE}]+")


def plain_text(body: str) -> str:
    """A body without HTML tags, heading marks, and the pipes and rules of markdown tables.

    The rest is in the form in which the bench compares text (docs/formats.md#normalised-text),
    stripped at both ends.
    """
    text = TAG.sub(lambda tag: "" if tag[2].lower() in _INLINE else " ", body)
    text = _RULE.sub(" ", _HEADING.sub("", text))
    text = _PIPED_LINE.sub(lambda line: _PIPE.sub(" ", line[0]), text)
    return normalize(text).strip()


@lru_cache(maxsize=256)
def words_of(body: str) -> tuple[str, ...]:
    """The words of a body: what stands between spaces; each kanji, hanzi or kana is one."""
    return tuple(_WORD.findall(plain_text(body)))
