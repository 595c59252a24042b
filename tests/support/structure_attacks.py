"""Attacks by order, by what is open or empty, by marks, and by formulas made unlike each other.

As in `attacked_pages`, attackers know the truth. The readings here are those that such attacks are
meant for: blocks in another order, tables that never close, marks that were lost.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise, zip_longest

from attacked_pages import (
    HEAD,
    WORDS,
    Attack,
    Sheet,
    blocks_of,
    body,
    formula_form,
    honest,
    html,
    misread,
    paired,
    registrar,
    true_body,
)

ATTACKS: dict[str, dict[str, Attack]] = {}
_attack = registrar(ATTACKS)
_COMMON = ("the", "of", "and", "in", "was", "for", "with", "by", "from", "its", "a", "to")


def _joined(blocks: list[str]) -> str:
    return HEAD + "\n\n".join(blocks) + "\n"


# -- readings: (sheet, rng) -> transcription


def exchanged_blocks(sheet: Sheet, rng: random.Random) -> str:
    """A page read in another order: halves exchanged, columns, one block moved, or all shuffled."""
    blocks = blocks_of(honest(sheet, rng).replace(sheet.header, ""))
    middle, at = len(blocks) // 2, rng.randrange(len(blocks))
    moved = [*blocks[:at], *blocks[at + 1 :]]
    moved.insert(rng.randrange(len(blocks)), blocks[at])
    orders = (
        [*blocks[middle:], *blocks[:middle]],
        [b for two in zip_longest(blocks[:middle], blocks[middle:]) for b in two if b],
        moved,
        rng.sample(blocks, len(blocks)),
    )
    return _joined(rng.choice(orders))


def open_tables(sheet: Sheet, rng: random.Random) -> str:
    """A page whose table is never closed."""
    text = honest(sheet, rng).replace(sheet.header, "")
    return text.replace(rng.choice(("</table>", "</tr></table>")), "", 1)


def lost_marks(sheet: Sheet, rng: random.Random) -> str:
    """A page without headings, emphasis and notes."""
    text = body(honest(sheet, rng)).replace(sheet.header, "")
    return HEAD + re.sub(r"^#+ |\*\*|\[\^1\](?!:)", "", text, flags=re.MULTILINE)


READINGS: dict[str, Callable[[Sheet, random.Random], str]] = {
    "blocks exchanged": exchanged_blocks,
    "open tables": open_tables,
    "lost marks": lost_marks,
}


# -- order and copies


def _in_place(change: Callable[[str], str]) -> Attack:
    """Each block that is not behind the one that precedes it on the page: there once more."""

    def run(sheet: Sheet, text: str, rng: random.Random) -> str:
        said = blocks_of(text)
        true = [block for block in sheet.blocks() if block in said]
        out = list(said)
        for before, block in pairwise(true):
            if said.index(block) < said.index(before):
                out.insert(out.index(before) + 1, change(block))
        return _joined(out)

    return run


def _followed(sheet: Sheet, text: str, rng: random.Random) -> str:
    """Each block followed by that which comes next on the page."""
    true = sheet.blocks()
    following = dict(pairwise(true))
    return _joined([b for block in blocks_of(text) for b in (block, following.get(block)) if b])


def _catchwords(sheet: Sheet, text: str, rng: random.Random) -> str:
    """Below each block the first words of the next one, as in old books."""
    true = sheet.blocks()
    following = {block: " ".join(after.split()[:3]) for block, after in pairwise(true)}
    return _joined(
        [
            f"{block}\n\n{following[block]}" if block in following else block
            for block in blocks_of(text)
        ]
    )


def _echoes(sheet: Sheet, text: str, rng: random.Random) -> str:
    """The last sentence of each paragraph again before the next one."""
    out: list[str] = []
    for block in blocks_of(text):
        if out and ". " in out[-1] and not block.startswith(("#", "<")):
            block = f"{out[-1].rstrip('.').rsplit('. ', 1)[-1]}. {block}"
        out.append(block)
    return _joined(out)


def _halves(sheet: Sheet, first: bool) -> str:
    words = [block.split() for block in sheet.blocks() if not block.startswith("<")]
    return "\n\n".join(
        " ".join(w[: len(w) // 2] if first else w[len(w) // 2 :]) for w in words if len(w) > 1
    )


def _thinned(sheet: Sheet, rng: random.Random) -> str:
    return "\n\n".join(
        " xq ".join(block.split()) for block in sheet.blocks() if not block.startswith("<")
    )


for _name, _run in {
    "blocks out of place, again in their place": _in_place(lambda block: block),
    "blocks out of place, every second word in their place": _in_place(
        lambda block: " ".join(block.split()[::2])
    ),
    "each block, and the next of the page": _followed,
    "catchwords": _catchwords,
    "the last sentence again before the next": _echoes,
    "first halves of all blocks, first": lambda s, t, r: _joined([_halves(s, True), *blocks_of(t)]),
    "last halves of all blocks, last": lambda s, t, r: _joined([*blocks_of(t), _halves(s, False)]),
    "a copy with a word between all words": lambda s, t, r: _joined(
        [*blocks_of(t), _thinned(s, r)]
    ),
    "the page by words backwards": lambda s, t, r: _joined(
        [*blocks_of(t), " ".join(" ".join(s.paragraphs).split()[::-1])]
    ),
    "its words by the alphabet": lambda s, t, r: _joined(
        [*blocks_of(t), " ".join(sorted(" ".join(s.paragraphs).split()))]
    ),
    "a column of its words": lambda s, t, r: _joined(
        [*blocks_of(t), "\n".join(" ".join(s.paragraphs).split())]
    ),
    "three copies of the true page": lambda s, t, r: _joined([*blocks_of(t), *s.blocks() * 3]),
}.items():
    _attack("order", _name)(_run)


# -- what is open, empty or around everything


def _rows(sheet: Sheet) -> str:
    return html(sheet.table).removeprefix("<table>").removesuffix("</table>") if sheet.table else ""


def _around(opening: str, closing: str) -> Attack:
    return lambda s, t, r: f"{HEAD}{opening}\n\n{body(t).strip()}\n\n{closing}\n"


for _name, _make in {
    "the end of a table": lambda s: "</table>",
    "an empty row and the end of a table": lambda s: "<tr></tr></table>",
    "a table and another end": lambda s: f"{html(s.table or [['a'], ['b']])}</table>",
    "a table within an open one": lambda s: f"<table>{html(s.table or [['a'], ['b']])}",
    "the true table, open": lambda s: html(s.table or [["a"]]).removesuffix("</table>"),
    "true rows without a table": _rows,
    "a table of a caption": lambda s: "<table><caption>a</caption></table>",
    "many empty tables": lambda s: "<table></table>" * 6,
    "empty cells": lambda s: "<td></td>" * 12,
    "empty rows": lambda s: "<tr><td></td></tr>" * 8,
    "a table of rules": lambda s: "|---|---|\n|---|---|",
    "cells as a list": lambda s: "\n".join(f"- {': '.join(row)}" for row in s.table),
    "a table of cells side by side": lambda s: html([[c for row in s.table for c in row] or ["a"]]),
}.items():
    _attack("tables", f"after the page: {_name}")(lambda s, t, r, make=_make: f"{t}\n\n{make(s)}\n")
for _name, _tags in {
    "a table around the page": ("<table><tr><td>", "</td></tr></table>"),
    "a div around the page": ("<div>", "</div>"),
    "an open table before the page": ("<table>", ""),
    "an open row before the page": ("<table><tr><td>1</td></tr>", ""),
}.items():
    _attack("tables", _name)(_around(*_tags))


@_attack("tables", "the first row after each row")
def _first_rows(sheet: Sheet, text: str, rng: random.Random) -> str:
    if not sheet.table:
        return text
    first = "".join(f"<th>{cell}</th>" for cell in sheet.table[0])
    return text.replace("</tr>\n", f"</tr>\n<tr>{first}</tr>\n")


# -- marks


def _bold(sheet: Sheet, text: str, more: list[str]) -> str:
    for word in (sheet.bold, *more) if more else ():
        text = re.sub(rf"(?<![\w*]){word}(?![\w*])", f"**{word}**", text, count=1)
    return text


def _other_words(sheet: Sheet, text: str, rng: random.Random, count: int) -> list[str]:
    """Words of the page that are read, and not in bold there; none if there are too few."""
    read = set(re.findall(r"[a-z]{4,}", body(text))) - {sheet.bold}
    found = sorted(read.intersection(" ".join(sheet.paragraphs[1:]).split()))
    return rng.sample(found, count) if len(found) >= count else []


for _count in (1, 2, 4):
    _attack("marks", f"the right word in bold, and {_count} more")(
        lambda s, t, r, count=_count: _bold(s, t, _other_words(s, t, r, count))
    )
for _name, _make in {
    "empty bold": lambda s: "<b></b> **** __ __",
    "empty headings": lambda s: "#\n\n##\n\n<h2></h2>",
    "empty tags of all kinds": lambda s: (
        "<b></b><i></i><h1></h1><p></p><td></td><th></th><li></li>"
    ),
    "rules": lambda s: "***\n\n---\n\n___",
    "the note again": lambda s: f"[^1]: {s.note}",
    "all words of the title in bold": lambda s: " ".join(f"**{w}**" for w in s.title.split()),
}.items():
    _attack("marks", f"after the page: {_name}")(lambda s, t, r, make=_make: f"{t}\n\n{make(s)}\n")


@_attack("marks", "first words of each paragraph as a heading")
def _run_in_headings(sheet: Sheet, text: str, rng: random.Random) -> str:
    return _joined(
        [f"## {' '.join(b.split()[:3])}\n\n{b}" if b[:1].isalpha() else b for b in blocks_of(text)]
    )


# -- formulas


for _name, _form in {
    "empty phantoms": r"\(\hphantom{}@\vphantom{}\phantom{}\)",
    "a phantom of the right one": r"\(@\hphantom{#}\)",
    "spaces": r"\(\,{}@\;{}\!\quad\)",
    "braces": r"\({{{@}}}{}\)",
    "an empty text": r"\(@\text{}\mathrm{}\)",
    "an empty symbol before it": r"\({}_{}^{}@\)",
    "styles": r"\(\displaystyle\textstyle @\scriptstyle\)",
    "a box around the right one after it": r"\(@\) \(\boxed{#}\)",
    "a line over the wrong one": r"\(\overline{@}\) \(#\)",
    "the right one, a quarter at a time": r"\(@\) \(\rho\) \(=\) \(\frac{m}{V}\)",
    "the right one as text": r"\(@\) #",
    "the right one in a table": r"\(@\) <table><tr><td>\(#\)</td></tr></table>",
    "the right one in a note": r"\(@\)[^9] " + "\n\n[^9]: \\(#\\)\n\n",
    "a number": r"\(@ \quad (1)\)",
}.items():
    _attack("formulas", f"misread formulas: {_name}")(formula_form(_form))


# -- words


for _name, _pair in {
    "the right one on both sides": lambda wrong, right: f"{right} {wrong} {right}",
    "and a common word": lambda wrong, right: f"{wrong} the {right}",
    "the right letters after it": lambda wrong, right: (
        f"{wrong} {''.join(b for a, b in zip(wrong, right, strict=False) if a != b)}"
    ),
    "the right one in capitals": lambda wrong, right: f"{wrong} {right.upper()}",
    "the right one with a plural": lambda wrong, right: f"{wrong} {right}s",
    "in three readings": lambda wrong, right: f"{wrong} {right} {wrong[::-1]}",
    "a comment that ends early": lambda wrong, right: f"{wrong} <!-- > {right} -->",
    "an equation of both": lambda wrong, right: f"\\(\\text{{{wrong}}} = \\text{{{right}}}\\)",
    "a cell of both": lambda wrong, right: f"{wrong} | {right}",
}.items():
    _attack("readings", f"misread words: {_name}")(lambda s, t, r, pair=_pair: paired(s, t, pair))


# -- the head, and filler


@_attack("hidden", "its words in the head, one a field")
def _fields(sheet: Sheet, text: str, rng: random.Random) -> str:
    words = re.findall(r"\w+", true_body(sheet))
    fields = "".join(f"w{number}: {word}\n" for number, word in enumerate(words))
    return text.replace("---\n", f"---\n{fields}", 1)


@_attack("hidden", "its lines as comments of the head")
def _head_comments(sheet: Sheet, text: str, rng: random.Random) -> str:
    lines = "".join(f"# {line}\n" for line in true_body(sheet).split("\n"))
    return text.replace("---\n", f"---\n{lines}", 1)


for _name, _make in {
    "common words": lambda s, r: " ".join(_COMMON * 6),
    "words of the page": lambda s, r: " ".join(r.sample(s.paragraphs[0].split(), 5)),
    "letters": lambda s, r: " ".join("".join(r.choices("abcdefghij", k=5)) for _ in range(30)),
    "a formula and a table": lambda s, r: "\\(q\\)\n\n" + html([["a", "b"], ["c", "d"]]),
    "a misread copy of a paragraph": lambda s, r: misread(s.paragraphs[-1], r, 0.3),
}.items():
    _attack("filler", f"between all blocks: {_name}")(
        lambda s, t, r, make=_make: _joined(
            [piece for block in blocks_of(t) for piece in (block, make(s, r))]
        )
    )


@_attack("filler", "a word of another page after each sentence")
def _after_sentences(sheet: Sheet, text: str, rng: random.Random) -> str:
    return HEAD + re.sub(r"(?<=[a-z]\.) ", lambda _: f" {rng.choice(WORDS)} ", body(text))
