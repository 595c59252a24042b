"""Unit tests that a page's truth suggests, each with a corruption it must catch.

Every function yields candidates for one test type; `page_tests` keeps those that pass on the truth
and fail on the corrupted truth. A candidate is only a guess until it is verified there.
"""

from __future__ import annotations

import html
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from olmrl.markup.formatting import Kind, formatted_spans
from olmrl.markup.tables import Cell, Table, parse_html_tables, parse_markdown_tables
from olmrl.markup.text import normalize
from olmrl.synth.derived.formula_damage import changed
from olmrl.synth.proof.reading import Reading, plain, spaceless, words

BLANK_MAX_LENGTH = 50
"""Maximum alphanumeric characters in the transcription of a blank page."""

_MARKER = re.compile(
    r"<sup\b[^>]*>\s*(\d{1,3}|[a-zA-Z]|[*\u2020\u2021\u00a7\u00b6])\s*</sup>|\[\^([^\]\s]{1,8})\](?!:)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d[\d.,:/%\-]*\d")
_SUBSTITUTES = "xkqzwvj7395"


@dataclass(frozen=True)
class Candidate:
    """A test that should pass on the truth, and a corrupted truth on which it must fail."""

    test: dict[str, Any]
    """Row of a test file, without pdf, page and id."""
    corrupted: str
    """The truth (body) with exactly that damaged which this test looks at."""


def present(
    page: Reading, rng: random.Random, pages_with: Mapping[str, int]
) -> Iterator[Candidate]:
    """Rare words and numbers verbatim, and short phrases with one error in twenty allowed."""
    found = [word for sentence in page.sentences for word in words(sentence) if plain(word)]
    telling = {word for word in found if _is_telling(word)}
    rare = _rarest(telling, rng, pages_with)
    numbers = {n for sentence in page.sentences for n in _NUMBER.findall(sentence) if len(n) > 2}
    figures = _rarest(numbers, rng, pages_with)
    for needle in [*rare[:5], *figures[:2], *_phrases(page, rng)[:3], *rare[5:], *figures[2:]]:
        allowed = len(needle) // 20
        test = {"type": "present", "text": needle, "max_diffs": allowed}
        yield Candidate(test, page.text.replace(needle, _garble(needle, rng)))


def _is_telling(word: str) -> bool:
    if spaceless(word):
        return True
    hangul = any("\uac00" <= char <= "\ud7a3" for char in word)
    return word.isalpha() and len(word) >= (3 if hangul else 4)


def _rarest(pool: set[str], rng: random.Random, pages_with: Mapping[str, int]) -> list[str]:
    shuffled = sorted(pool)
    rng.shuffle(shuffled)
    return sorted(shuffled, key=lambda word: (pages_with.get(word, 0), -min(len(word), 10)))


def _phrases(page: Reading, rng: random.Random) -> list[str]:
    phrases = []
    for sentence in page.sentences:
        if spaceless(sentence):
            length = min(len(sentence), rng.randint(10, 24))
            start = rng.randint(0, len(sentence) - length)
            phrases.append(sentence[start : start + length].strip())
        else:
            tokens = sentence.split(" ")
            length = min(len(tokens), rng.randint(5, 10))
            start = rng.randint(0, len(tokens) - length)
            phrases.append(" ".join(tokens[start : start + length]))
    phrases = [phrase for phrase in dict.fromkeys(phrases) if len(phrase) >= 10]
    rng.shuffle(phrases)
    return phrases


def absent(body: str, furniture: Sequence[str]) -> Iterator[Candidate]:
    """Running headers, footers and page numbers do not belong in a transcription."""
    for line in furniture:
        if plain(line) and (len(line) > 3 or any(c.isdigit() for c in line)):
            test = {
                "type": "absent",
                "text": line,
                "case_sensitive": False,
                "max_diffs": max(len(line) // 20, int(len(line) >= 6)),
            }
            yield Candidate(test, f"{line}\n\n{body}")


def order(page: Reading, rng: random.Random) -> Iterator[Candidate]:
    """Two sentences in reading order; the corruption swaps them."""
    needles = beginnings(page)
    places = list(range(len(needles)))
    rng.shuffle(places)
    for first, second in zip(places[::2], places[1::2], strict=False):
        before, after = needles[min(first, second)], needles[max(first, second)]
        yield from in_order(page, before, after)


def in_order(page: Reading, before: str, after: str) -> Iterator[Candidate]:
    """The test of two texts, each of which stands once on the page, if they stand in this order."""
    i, j = page.text.find(before), page.text.find(after)
    if i < 0 or j < i + len(before):
        return
    allowed = min(max(len(before), len(after)) // 50, len(before) // 4, len(after) // 4)
    between = page.text[i + len(before) : j]
    swapped = page.text[:i] + after + between + before + page.text[j + len(after) :]
    test = {"type": "order", "before": before, "after": after, "max_diffs": allowed}
    yield Candidate(test, swapped)


def beginnings(page: Reading) -> list[str]:
    """Beginnings of sentences that stand once on the page, in order."""
    needles = [_beginning(s) for s in page.sentences if len(s) >= (5 if spaceless(s) else 10)]
    return [needle for needle in needles if page.text.count(needle) == 1]


def _beginning(sentence: str, longest: int = 100) -> str:
    if len(sentence) <= longest:
        return sentence
    cut = sentence[:longest]
    return cut if spaceless(cut) else cut.rpartition(" ")[0] or cut


def table(body: str, page: Reading, rng: random.Random) -> Iterator[Candidate]:
    """Neighbours and headings of cells; the corruption damages one of the related cells.

    Every other test of a cell with headings is about headings alone; there the corruption swaps a
    heading with another one of its row or column, as a reader does that slips by a column.
    """
    from_html = [t for source in page.tables for t in parse_html_tables(source)]
    grids = from_html or parse_markdown_tables(body)
    for grid in grids:
        texts = [_text(cell) for cell in grid.cells]
        cells = [
            cell
            for cell, text in zip(grid.cells, texts, strict=True)
            if texts.count(text) == 1 and plain(text) and "\n" not in cell.text
        ]
        rng.shuffle(cells)
        for number, cell in enumerate(cells if grid.n_rows >= 2 and grid.n_cols >= 2 else ()):
            related = _relations(grid, cell, rng)
            headings = sorted(name for name, _ in _HEADINGS if name in related)
            by_heading = bool(headings) and number % 2 == 0
            chosen = headings if by_heading else rng.sample(sorted(related), min(2, len(related)))
            if chosen:
                test: dict[str, Any] = {"type": "table", "cell": _text(cell)}
                test |= {name: _text(related[name]) for name in chosen}
                test["ignore_markdown_tables"] = bool(from_html)
                name = rng.choice(chosen)
                other = _other_heading(grid, related[name], name, rng) if by_heading else None
                yield Candidate(test, _damaged_cell(body, related[name], other, rng))


def _other_heading(grid: Table, cell: Cell, name: str, rng: random.Random) -> Cell | None:
    """Another heading of the same row (of headings above) or column (to the left)."""
    line = "row" if name == "top_heading" else "col"
    others = [
        other
        for other in grid.cells
        if other.is_heading
        and getattr(other, line) == getattr(cell, line)
        and other.normal_text.strip() not in ("", cell.normal_text.strip())
    ]
    return rng.choice(others) if others else None


def _damaged_cell(body: str, cell: Cell, other: Cell | None, rng: random.Random) -> str:
    """The body with a cell's text garbled, or swapped with that of another cell."""
    mine = html.escape(cell.text, quote=False)
    theirs = html.escape(other.text, quote=False) if other is not None else None
    instead = {mine: _garble(mine, rng) if theirs is None else theirs}
    if theirs is not None:
        instead[theirs] = mine
    if mine not in body:  # markdown, or an author's own way of writing a sign
        garbled = _garble(cell.text, rng)
        return re.sub(_whole([cell.text]), lambda match: garbled, body)
    return re.sub(_whole(list(instead)), lambda match: instead[match[0]], body)


def _whole(texts: list[str]) -> str:
    options = "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))
    return rf"(?<=[>|\s])(?:{options})(?=[<|\s])"


_DIRECTIONS: tuple[Literal["up", "down", "left", "right"], ...] = ("up", "down", "left", "right")
_HEADINGS: tuple[tuple[str, Literal["up", "left"]], ...] = (
    ("top_heading", "up"),
    ("left_heading", "left"),
)


def _text(cell: Cell) -> str:
    """As both modes of the bench can find it."""
    return normalize(cell.text, compat=True).strip()


def _relations(grid: Table, cell: Cell, rng: random.Random) -> dict[str, Cell]:
    """For each relation, one of the related cells whose text can be tested.

    A cell beside several (one that spans columns has several below it) passes with any of them, so
    each of them makes a test; of headings, too, which may stand above each other.
    """
    found: dict[str, tuple[Cell, ...]] = {
        direction: grid.neighbors(cell, direction) for direction in _DIRECTIONS
    }
    for name, direction in _HEADINGS:
        found[name] = tuple(h for h in grid.headings(cell, direction) if h.is_heading)
    testable = {
        name: [c for c in cells if plain(_text(c)) and "\n" not in c.text]
        for name, cells in found.items()
    }
    return {name: rng.choice(cells) for name, cells in testable.items() if cells}


def math(body: str, page: Reading, rng: random.Random) -> Iterator[Candidate]:
    """Each formula; the corruption changes one letter or digit of it, or else a command.

    A formula with nothing to change is proposed too, so that it is counted among the rejected.
    """
    formulas = [formula for formula in page.formulas if len(formula) > 2]
    rng.shuffle(formulas)
    for formula in formulas:
        test = {
            "type": "math",
            "math": formula,
            "ignore_dollar_delimited": not page.dollar_math,
        }
        yield Candidate(test, body.replace(formula, changed(formula, rng)))


def format_(body: str, page: Reading, rng: random.Random) -> Iterator[Candidate]:
    """Headings, then bold, then italic text; the corruption takes the marks from this text only."""
    kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (
        ("heading", page.headings),
        ("bold", page.bold),
        ("italic", page.italic),
    )
    for kind, texts in kinds:
        for text in rng.sample(texts, len(texts)):
            if len(text) >= 3 or (spaceless(text) and len(text) >= 2):
                test = {
                    "type": "format",
                    "text": text,
                    "format": kind,
                    "max_diffs": len(text) // 20,
                }
                yield Candidate(test, _unmarked(body, kind, text))


_OPENING = re.compile(r"(?:^#{1,6}\s+|\*\*|__|\*|_|<(?:b|strong|i|em)>)\Z", re.I | re.M)
_CLOSING = re.compile(r"(?:\*\*|__|\*|_|</(?:b|strong|i|em)>)", re.I)


def _unmarked(body: str, kind: Kind, text: str) -> str:
    """The body in which a text is not marked any more, wherever it stands."""
    for start, end in sorted(formatted_spans(body, kind), reverse=True):
        if text in normalize(body[start:end]):
            before = _OPENING.sub("", body[:start])
            after = body[end:] if kind == "heading" else _CLOSING.sub("", body[end:], count=1)
            body = before + body[start:end] + after
    return body


def footnote(body: str, rng: random.Random) -> Iterator[Candidate]:
    """Footnote marks with up to three words before and after; the corruption removes the mark."""
    marks = list(_MARKER.finditer(body))
    rng.shuffle(marks)
    for match in marks:
        line_start = body.rfind("\n", 0, match.start()) + 1
        line_end = body.find("\n", match.end())
        before = _context(body[line_start : match.start()], last=True)
        after = _context(body[match.end() : line_end if line_end >= 0 else None], last=False)
        test: dict[str, Any] = {"type": "footnote", "marker": match[1] or match[2]}
        if before:
            test["appears_before_marker"] = before
        if after:
            test["appears_after_marker"] = after
        if before or after:
            yield Candidate(test, body.replace(match[0], ""))


def _context(text: str, *, last: bool) -> str:
    """Three words (eight characters if spaceless) next to a mark; empty if markup is near."""
    text = normalize(text, compat=True).strip()
    if spaceless(text):
        piece = text[-8:] if last else text[:8]
    else:
        tokens = text.split(" ")
        piece = " ".join(tokens[-3:] if last else tokens[:3])
    piece = piece.strip()
    clean = plain(piece) and not re.search(r"[<>\[\]#$]", piece)
    return piece if clean and sum(c.isalnum() for c in piece) >= 3 else ""


def baseline(body: str) -> Iterator[Candidate]:
    """There is text and it does not loop; a blank page has almost none."""
    if not any(c.isalnum() for c in body):
        yield Candidate({"type": "baseline", "max_length": BLANK_MAX_LENGTH}, "invented text " * 20)
        return
    latin = sum(c.isascii() for c in body if c.isalpha()) * 10 >= 7 * sum(map(str.isalpha, body))
    for check in (True, False) if latin else (False,):
        test = {"type": "baseline", "check_disallowed_characters": check}
        yield Candidate(test, body + " over and over" * 60)


def _garble(text: str, rng: random.Random) -> str:
    """The text with every third letter or digit replaced, and at least one."""
    spots = [i for i, char in enumerate(text) if char.isalnum()]
    letters = list(text)
    for spot in spots[rng.randrange(min(3, len(spots))) :: 3] if spots else []:
        letters[spot] = rng.choice([c for c in _SUBSTITUTES if c != letters[spot].lower()])
    return "".join(letters)
