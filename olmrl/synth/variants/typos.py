"""Typing errors in a page's source, which its truth keeps: a reader must not correct them.

Only words of running text are changed: not headings, tables, code, formulas, running heads or
marks. Each error comes with the words around it before and after, for a test that the page without
the error fails and the page with it passes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lxml.html import HtmlElement, document_fromstring, fragment_fromstring

from olmrl.markup.enclosed import Enclosed, Pair
from olmrl.synth.proof.reading import spaceless
from olmrl.synth.web.blocks import serialise

MOST_TYPOS = 5
"""Errors of a page."""
LEAST_LETTERS = 5
"""Shorter words stay: with an error in it, a short word is often another word."""

_KEPT = {
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "pre", "code", "sup", "sub", "math", "svg"),
    *("header", "footer", "script", "style", "head", "title", "kbd", "samp", "tt"),
}
_KEPT_CLASSES = {"tex", "image", "page-header", "page-footer", "page-number", "katex"}
_DELIMITED = Enclosed(
    Pair(r"\\\(", ".*?", r"\\\)"),
    Pair(r"\\\[", ".*?", r"\\\]"),
    Pair(r"\$", "[^$]*", r"\$"),
    flags=re.DOTALL,
)
_WORD = re.compile(rf"(?<![\w@./:\\-])[^\W\d_]{{{LEAST_LETTERS},24}}(?![\w@/:\\-]|\.\w)")


class Typo(NamedTuple):
    """One error."""

    before: str
    """The word and its neighbours as they were."""
    after: str
    """The same with the error."""


class _Place(NamedTuple):
    element: HtmlElement
    part: str
    start: int
    end: int


def with_typos(
    blocks: Sequence[str], rng: random.Random, count: int
) -> tuple[list[str], list[Typo]]:
    """Make errors.

    Args:
        blocks: HTML of the blocks of a page.
        rng: Draws words and errors.
        count: Most errors; each in another word.

    Returns:
        The changed blocks, and the errors in reading order.
    """
    root = fragment_fromstring(f"<div>{''.join(blocks)}</div>")
    typos = _mistype(root, rng, count)
    return [serialise(child) for child in root], typos


def page_with_typos(source: str, rng: random.Random, count: int) -> tuple[str, list[Typo]]:
    """The same for the HTML of a whole page."""
    root = document_fromstring(source)
    typos = _mistype(root, rng, count)
    return f"<!DOCTYPE html>{serialise(root)}", typos


def _mistype(root: HtmlElement, rng: random.Random, count: int) -> list[Typo]:
    """Make errors in place; returns them in reading order."""
    known = {word.lower() for word in re.findall(r"[^\W\d_]+", str(root.text_content()))}
    places = list(_places(root))
    chosen: dict[tuple[int, str], list[tuple[_Place, str]]] = {}
    used: set[str] = set()
    for place in rng.sample(places, len(places)):
        word = getattr(place.element, place.part)[place.start : place.end]
        wrong = _mistyped(word, rng)
        if word.lower() in used or wrong.lower() in known or wrong == word:
            continue
        used.add(word.lower())
        chosen.setdefault((id(place.element), place.part), []).append((place, wrong))
        if len(used) == count:
            break
    ordered = sorted(chosen.values(), key=lambda group: places.index(group[0][0]))
    return [typo for group in ordered for typo in _apply(group)]


def _places(root: HtmlElement) -> Iterator[_Place]:
    """Words that may get an error."""
    for element in root.iter():
        if not isinstance(element.tag, str):
            continue
        inside = (element, *element.iterancestors())
        if not any(_is_kept(e) for e in inside):
            yield from _words(element, "text")
        if element is not root and not any(_is_kept(e) for e in inside[1:]):
            yield from _words(element, "tail")


def _is_kept(element: HtmlElement) -> bool:
    classes = set((element.get("class") or "").split())
    return element.tag in _KEPT or bool(classes & _KEPT_CLASSES)


def _words(element: HtmlElement, part: str) -> Iterator[_Place]:
    text = getattr(element, part) or ""
    hidden = _DELIMITED.sub(lambda match: "0" * len(match[0]), text)
    for match in _WORD.finditer(hidden):
        if not spaceless(match[0]) and match[0].lower() == match[0]:
            yield _Place(element, part, *match.span())


def _mistyped(word: str, rng: random.Random) -> str:
    """A letter inside the word swapped with the next, lost, or doubled."""
    at = rng.randrange(1, len(word) - 2)
    errors = (
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
    )
    return rng.choice(errors)


def _apply(group: Sequence[tuple[_Place, str]]) -> list[Typo]:
    """Write the errors of one text; returns them with their neighbours, which have errors too."""
    group = sorted(group, key=lambda item: item[0].start)
    element, part = group[0][0].element, group[0][0].part
    text = getattr(element, part)
    pieces, at, spans = [], 0, []
    for place, wrong in group:
        pieces += [text[at : place.start], wrong]
        start = sum(map(len, pieces)) - len(wrong)
        spans.append((start, start + len(wrong), text[place.start : place.end]))
        at = place.end
    changed = "".join([*pieces, text[at:]])
    setattr(element, part, changed)
    typos = []
    for start, end, word in spans:
        left = re.search(r"(?:[^\W_]+ )?$", changed[:start])
        right = re.match(r"(?: [^\W_]+(?![\w-]))?", changed[end:])
        around = (left[0] if left else "", right[0] if right else "")
        typos.append(
            Typo(f"{around[0]}{word}{around[1]}", f"{around[0]}{changed[start:end]}{around[1]}")
        )
    return typos
