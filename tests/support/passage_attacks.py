"""Attacks on readings that resemble the page nowhere: passages, and words unlike the right ones.

As in `attacked_pages`, attackers know the truth. Here also poor readings of a page, which these
attacks are meant for: the wrong text gives no sign of what it stands for.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from attacked_pages import (
    HEAD,
    Attack,
    Sheet,
    blocks_of,
    html,
    misreading,
    paired,
    registrar,
    true_body,
)

ATTACKS: dict[str, dict[str, Attack]] = {}
_attack = registrar(ATTACKS)
_NOT_PROSE = ("#", "<", "\\", "[^")
_FAR = "bcdfghjkmpqwz"


# -- poor readings: (sheet, rng) -> transcription


def _unlike(word: str, rng: random.Random) -> str:
    return "".join(rng.choice(_FAR) for _ in word)


def unlike_words(sheet: Sheet, rng: random.Random) -> str:
    """Words, cells and formulas read as unlike ones, which are often shorter."""
    words = re.compile(r"(?<![\^#*])\b[A-Za-z]{2,}\b")
    out = []
    for block in sheet.blocks():
        if block.startswith("<table"):
            for cell in sorted({c for row in sheet.table for c in row}):
                if rng.random() < 0.2:
                    block = block.replace(f">{cell}<", f">{_unlike(cell, rng)}<")
        elif block.startswith("\\("):
            for right, wrong in sheet.formulas:
                if rng.random() < 0.4:
                    block = block.replace(f"\\({right}\\)", f"\\({wrong}\\)")
        else:
            block = words.sub(
                lambda m: (
                    _unlike(m[0][: rng.choice((9, 9, 3))], rng) if rng.random() < 0.12 else m[0]
                ),
                block,
            )
        out.append(block)
    return HEAD + "\n\n".join(out) + "\n"


def _unlike_formula(right: str) -> str:
    """Another formula of as many words: where there are fewer, right ones beside them may pay."""
    more = [r"\psi"] * max(1, len(right.split()) - 2)
    return " ".join([rf"\Theta_{{{len(right)}}}", r"\leq", *more])


def unlike_formulas(sheet: Sheet, rng: random.Random) -> str:
    """Displayed formulas of which some are read as quite other ones."""
    out = []
    for block in sheet.blocks():
        for right, _ in sheet.formulas:
            read = _unlike_formula(right) if rng.random() < 0.5 else right
            block = block.replace(f"\\({right}\\)", f"\n\n\\[{read}\\]\n\n")
        out += [piece.strip() for piece in block.split("\n\n") if piece.strip()]
    return HEAD + "\n\n".join(out) + "\n"


def lost_passages(sheet: Sheet, rng: random.Random) -> str:
    """A paragraph or two, or a sentence, read as something unlike of the same length."""
    out = sheet.blocks()
    prose = [k for k, block in enumerate(out) if not block.startswith(_NOT_PROSE)]
    for k in rng.sample(prose, min(len(prose), rng.choice((1, 2)))):
        sentences = re.split(r"(?<=\.) ", out[k])
        lost = rng.randrange(len(sentences) + 1)
        if lost == len(sentences):
            lost, sentences = 0, [out[k]]
        sentences[lost] = " ".join(_unlike(word, rng) for word in sentences[lost].split())
        out[k] = " ".join(sentences)
    return HEAD + "\n\n".join(out) + "\n"


READINGS: dict[str, Callable[[Sheet, random.Random], str]] = {
    "words and numbers as others": misreading,
    "unlike words": unlike_words,
    "lost passages": lost_passages,
    "unlike formulas": unlike_formulas,
}


# -- attacks


for _name, _pair in {
    "a hard break": lambda wrong, right: f"{wrong}\\\n{right}",
    "bold and italic": lambda wrong, right: f"**{wrong}** _{right}_",
    "small letters": lambda wrong, right: f"{wrong} <small>{right}</small>",
    "isolated": lambda wrong, right: f"\u2066{wrong}\u2069 \u2067{right}\u2069",
    "joined letters": lambda wrong, right: "\u200d".join(wrong) + " " + right,
    "struck out by marks": lambda wrong, right: "".join(c + "\u0336" for c in wrong) + " " + right,
    "underlined": lambda wrong, right: f"<u>{wrong}</u><br>{right}<br>",
    "half of the right one first": lambda wrong, right: (
        f"{right[: len(right) // 2]}{wrong} {right}"
    ),
    "wide spaces": lambda wrong, right: f"{wrong}\u2003\u2003{right}",
    "[sic]": lambda wrong, right: f"{wrong} [sic: {right}]",
    "numbered": lambda wrong, right: f"1) {wrong} 2) {right}",
    "spelled apart": lambda wrong, right: f"{wrong} {' '.join(right)}",
    "the wrong one twice": lambda wrong, right: f"{wrong} {right} {wrong}",
}.items():
    _attack("readings", f"misread words: {_name}")(lambda s, t, r, pair=_pair: paired(s, t, pair))


def _beside_true(sheet: Sheet, text: str) -> list[tuple[str, str]]:
    """Each block, and the true one in its place."""
    said, true = blocks_of(text), sheet.blocks()
    if sheet.header in said:
        true.insert(said.index(sheet.header), sheet.header)
    return list(zip(said, true, strict=False))


def _joined(blocks: list[str]) -> str:
    return HEAD + "\n\n".join(blocks)


def _in_turn(wrong: list[str], right: list[str], space: str) -> str:
    pairs = zip(wrong, right, strict=False)
    return space.join(a if _bare(a) == _bare(b) else f"{a}{space}{_bare(b)}" for a, b in pairs)


def _bare(text: str) -> str:
    """Without marks of headings, emphasis and notes: these are no readings of words."""
    return re.sub(r"[#*]|\[\^\d\]:?", "", text).strip()


def _new_words(block: str, other: str) -> str:
    there = _bare(block).split()
    return " ".join(word for word in _bare(other).split() if word not in there)


for _name, _block in {
    "the true one after it": lambda b, u: f"{b}\n\n{u}",
    "the true one before it": lambda b, u: f"{u}\n\n{b}",
    "quoted after it": lambda b, u: f"{b}\n\n> {u}",
    "as a heading before it": lambda b, u: f"### {u[:60]}\n\n{b}",
    "as a caption": lambda b, u: f"{b}\n\n<figure><figcaption>{u}</figcaption></figure>",
    "as an aside": lambda b, u: f"{b}\n\n<aside>{u}</aside>",
    "in two columns": lambda b, u: (
        f"| {b.replace('|', ' ')} | {u.replace('|', ' ')} |\n|---|---|\n"
    ),
    "words in turn": lambda b, u: _in_turn(b.split(), u.split(), " "),
    "words in turn, a line each": lambda b, u: _in_turn(b.split(), u.split(), "\n"),
    "sentences in turn": lambda b, u: _in_turn(
        re.split(r"(?<=\.) ", b), re.split(r"(?<=\.) ", u), " "
    ),
    "right words at its end": lambda b, u: f"{b} {_new_words(b, u)}",
    "right words at its start": lambda b, u: f"{_new_words(b, u)} {b}",
    "as a note": lambda b, u: f"{b}[^7]\n\n[^7]: {u}",
    "as a list within a list": lambda b, u: f"- {b}\n  - {u}",
}.items():

    def _each_block(sheet, text, rng, make=_block):
        return _joined(
            [
                b if b == true or true.startswith("<table") else make(b, true)
                for b, true in _beside_true(sheet, text)
            ]
        )

    _attack("passages", f"each block: {_name}")(_each_block)

for _name, _after in {
    "a rule and a number, and the true page": lambda s: f"---\n\n2\n\n{true_body(s)}",
    "front matter, and the true page": lambda s: s.truth(),
    "an end token, and the true page": lambda s: f"<|im_end|>\n{true_body(s)}",
    "its sentences, numbered": lambda s: "\n".join(
        f"{k}. {one}"
        for k, one in enumerate(re.findall(r"[^. ][^.]*\.", " ".join(s.paragraphs)), 1)
    ),
    "its formulas as a list": lambda s: "\n".join(f"- \\({right}\\)" for right, _ in s.formulas),
}.items():
    _attack("passages", f"after the page: {_name}")(
        lambda s, t, r, make=_after: f"{t}\n\n{make(s)}"
    )


def _contents(sheet: Sheet, text: str, rng: random.Random) -> str:
    """A table of contents that cuts through formulas: what is open may swallow a wrong one."""
    lines = [
        " ".join(b.split()[:6]) + f" ...... {number}" for number, b in enumerate(sheet.blocks(), 1)
    ]
    return _joined([*lines, *blocks_of(text)])


def _first_sentences(sheet: Sheet, text: str, rng: random.Random) -> str:
    firsts = " ".join(paragraph.split(". ")[0] + "." for paragraph in sheet.paragraphs)
    return _joined([firsts, *blocks_of(text)])


_attack("passages", "before the page: contents with dots")(_contents)
_attack("passages", "before the page: first sentences")(_first_sentences)


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join(
        "|" + "|".join(row) + "|" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    )


for _name, _table in {
    "the true one in a cell of its own": lambda said, rows: said.replace(
        "</table>", f"<tr><td>{html(rows)}</td></tr></table>"
    ),
    "both in an outer one": lambda said, rows: (
        f"<table><tr><td>{said}</td><td>{html(rows)}</td></tr></table>"
    ),
    "one above the other in an outer one": lambda said, rows: (
        f"<table><tr><td>{said}</td></tr><tr><td>{html(rows)}</td></tr></table>"
    ),
    "the true one in markdown": lambda said, rows: f"{said}\n\n{_markdown(rows)}",
    "the true one first, a column wider": lambda said, rows: (
        html([[*row, str(k)] for k, row in enumerate(rows)]) + f"\n\n{said}"
    ),
    "true columns, a table each": lambda said, rows: "\n\n".join(
        [said, *(html([list(column)]) for column in zip(*rows, strict=True))]
    ),
}.items():

    def _of_table(sheet, text, rng, make=_table):
        if not sheet.table:
            return text
        return re.sub(
            "<table>.*?</table>", lambda m: make(m[0], sheet.table), text, count=1, flags=re.DOTALL
        )

    _attack("tables", f"beside the table: {_name}")(_of_table)

for _name, _form in {
    "equals": r"\(@ = #\)",
    "aligned": r"\[\begin{aligned} @ \\ # \end{aligned}\]",
    "displayed after it": "\\(@\\)\n\n\\[#\\]\n\n",
    "or": r"\(# \text{ or } @\)",
    "between dollars": "\\(@\\) $$#$$",
    "in two cells": r"<table><tr><td>\(@\)</td><td>\(#\)</td></tr></table>",
}.items():

    def _of_formulas(sheet, text, rng, form=_form):
        for right, wrong in sheet.formulas:
            both = form.replace("@", wrong).replace("#", right)
            text = text.replace(f"\\({wrong}\\)", both)
        return text

    _attack("formulas", f"two readings: {_name}")(_of_formulas)


for _name, _form in {
    "after it": "{0}\n\n{1}",
    "before it": "{1}\n\n{0}",
    "as a heading": "{0}\n\n# {1}",
    "as a note": "{0}[^7]\n\n[^7]: {1}",
    "in a table": "{0}\n\n<table><tr><td>{1}</td></tr></table>",
    "after other words": "{0}\n\nwhich is the same as\n\n{1}",
}.items():

    def _beside_unlike(sheet, text, rng, form=_form):
        for right, _ in sheet.formulas:
            wrong = f"\\[{_unlike_formula(right)}\\]"
            text = text.replace(wrong, form.format(wrong, f"\\[{right}\\]"))
        return text

    _attack("formulas", f"an unlike formula, the right one {_name}")(_beside_unlike)


@_attack("formulas", "a formula for each that is missing or small")
def _small_formulas(sheet, text, rng):
    return text + "\n\n\\(q\\)" * max(1, len(sheet.formulas) - text.count("\\("))


@_attack("tables", "an empty table")
def _empty_table(sheet, text, rng):
    return text + "\n\n<table></table>"


@_attack("tables", "each table within a cell")
def _within_cell(sheet, text, rng):
    inner = text.replace("<table>", "<table><tr><td><table>")
    return inner.replace("</table>", "</table></td></tr></table>")
