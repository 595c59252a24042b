"""More attacks on the rewards: second readings in disguise, and second copies of rows and columns.

As in `attacked_pages`, attackers know the truth, so that one of their readings is always right.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise

from attacked_pages import (
    HEAD,
    Attack,
    Sheet,
    body,
    formula_form,
    html,
    misread,
    paired,
    placed,
    registrar,
    true_body,
)

Pair = Callable[[str, str], str]
ATTACKS: dict[str, dict[str, Attack]] = {}
attack = registrar(ATTACKS)


def _placed(kind: str, name: str, piece: Callable[[Sheet, random.Random], str]) -> None:
    for place, made in placed(piece).items():
        attack(kind, f"{name}, {place}")(made)


def _misread_pairs(sheet: Sheet, text: str) -> list[tuple[str, str]]:
    """Each word that is misread, and its true form."""
    pairs: list[tuple[str, str]] = []
    paired(sheet, text, lambda wrong, right: pairs.append((wrong, right)) or wrong)
    return pairs


def _entities(word: str) -> str:
    return "".join(f"&#{ord(char)};" for char in word)


def _shifted(start: int) -> Callable[[str], str]:
    """Letters as others of the same look, which begin at a code point."""
    return lambda word: "".join(
        chr(start + ord(char) - ord("a")) if "a" <= char <= "z" else char for char in word
    )


IN_WORDS: dict[str, Pair] = {
    "right letter first in one word": lambda wrong, right: "".join(
        a if a == b else b + a for a, b in zip(wrong, right, strict=False)
    ),
    "right letter twice, wrong once": lambda wrong, right: "".join(
        a if a == b else a + b + b for a, b in zip(wrong, right, strict=False)
    ),
    "a hyphen": lambda wrong, right: f"{wrong}-{right}",
    "a dash": lambda wrong, right: f"{wrong} - {right}",
    "a soft hyphen": lambda wrong, right: f"{wrong}\u00ad{right}",
    "a hyphen at a line's end": lambda wrong, right: f"{wrong}-\n{right}",
    "an apostrophe": lambda wrong, right: f"{wrong}'{right}",
    "a digit between": lambda wrong, right: f"{wrong}7{right}",
    "a backslash": lambda wrong, right: f"{wrong}\\{right}",
    "escaped brackets": lambda wrong, right: f"{wrong} \\[{right}\\]",
    "raised": lambda wrong, right: f"{wrong}<sup>{right}</sup>",
    "struck out": lambda wrong, right: f"<del>{wrong}</del>{right}",
    "struck out with tildes": lambda wrong, right: f"~~{wrong}~~ {right}",
    "ruby": lambda wrong, right: f"<ruby>{wrong}<rt>{right}</rt></ruby>",
    "an abbreviation": lambda wrong, right: f'<abbr title="{right}">{wrong}</abbr>',
    "bold": lambda wrong, right: f"{wrong} **{right}**",
    "inline code": lambda wrong, right: f"{wrong} `{right}`",
    "a link": lambda wrong, right: f"[{wrong}]({right})",
    "a reference link": lambda wrong, right: f"[{wrong}][{right}]",
    "a footnote of its own": lambda wrong, right: f"{wrong}^[{right}]",
    "a mark and a note": lambda wrong, right: f"{wrong}[^{right}]",
    "opened details": lambda wrong, right: (
        f"<details open><summary>{wrong}</summary>{right}</details>"
    ),
    "a task list": lambda wrong, right: f"\n- [ ] {wrong}\n- [x] {right}\n",
    "a definition list": lambda wrong, right: f"{wrong}\n: {right}\n",
    "a small formula": lambda wrong, right: f"{wrong} \\(\\scriptsize\\text{{{right}}}\\)",
    "a white formula": lambda wrong, right: f"{wrong} \\(\\color{{white}}\\text{{{right}}}\\)",
    "a formula over it": lambda wrong, right: (
        f"\\(\\overset{{\\text{{{right}}}}}{{\\text{{{wrong}}}}}\\)"
    ),
    "an href": lambda wrong, right: f"\\(\\href{{http://x}}{{\\text{{{right}}}}}\\) {wrong}",
    "character references": lambda wrong, right: f"{wrong} {_entities(right)}",
    "right to left": lambda wrong, right: f"{wrong} \u202e{right[::-1]}\u202c",
    "mathematical letters": lambda wrong, right: f"{wrong} {_shifted(0x1D41A)(right)}",
    "wide letters": lambda wrong, right: f"{wrong} {_shifted(0xFF41)(right)}",
    "letters in circles": lambda wrong, right: f"{wrong} {_shifted(0x24D0)(right)}",
    "far apart in the line": lambda wrong, right: f"{wrong}, zzz yyy xxx www vvv, {right}",
}
for _name, _form in IN_WORDS.items():
    attack("disguises", f"misread words: {_name}")(
        lambda sheet, text, rng, pair=_form: paired(sheet, text, pair)
    )

AFTERWARDS: dict[str, Callable[[list[tuple[str, str]]], str]] = {
    "as notes": lambda pairs: "\n\n".join(
        f"[^{number}]: {wrong}: read {right}" for number, (wrong, right) in enumerate(pairs, 5)
    ),
    "as errata": lambda pairs: "Errata: " + "; ".join(right for _, right in pairs),
    "as paragraphs": lambda pairs: "\n\n".join(right for _, right in pairs),
    "as captions": lambda pairs: "\n\n".join(
        f"Figure {number}. {right}" for number, (_, right) in enumerate(pairs, 1)
    ),
    "as a table": lambda pairs: html([list(pair) for pair in pairs] or [["a", "b"]]),
    "as an index": lambda pairs: "\n".join(
        f"- {right}, {number}" for number, (_, right) in enumerate(pairs, 1)
    ),
}
for _name, _list in AFTERWARDS.items():
    attack("disguises", f"misread words after the page, {_name}")(
        lambda sheet, text, rng, make=_list: f"{text}\n\n{make(_misread_pairs(sheet, text))}"
    )


@attack("disguises", "misread words after the page, with what is beside them")
def _in_context(sheet, text, rng):
    true, found = true_body(sheet), []
    for _, right in _misread_pairs(sheet, text):
        at = true.find(right)
        found.append(true[max(0, at - 12) : at + len(right) + 12].replace("\n", " "))
    return text + "\n\n" + "\n\n".join(found)


_placed("copies", "a code block", lambda s, r: f"```\n{true_body(s)}\n```")
_placed(
    "copies", "notes", lambda s, r: "\n\n".join(f"[^{k}]: {b}" for k, b in enumerate(s.blocks(), 7))
)
_placed("copies", "mathematical letters", lambda s, r: _shifted(0x1D41A)(true_body(s)))
_placed("copies", "cells", lambda s, r: html([[re.sub("<[^>]*>", " ", b)] for b in s.blocks()]))
_placed("copies", "reversed lines", lambda s, r: "\n\n".join(s.blocks()[::-1]))
_placed(
    "copies",
    "opened details",
    lambda s, r: f"<details open><summary>x</summary>\n\n{true_body(s)}\n\n</details>",
)
_placed(
    "marks", "headings with underlines", lambda s, r: "\n\n".join(f"{t}\n===" for t in s.sections)
)


@attack("marks", "candidates of each heading in a row")
def _headings(sheet, text, rng):
    out = []
    for block in body(text).split("\n\n"):
        out.append(block)
        if block.startswith("#") and len(block.split()) <= 3:
            words = block.split()[1:]
            out += ["# " + " ".join(misread(w, rng, 0.4) for w in words) for _ in range(2)]
            out += [f"## {name}" for name in sheet.sections if abs(len(name) - len(block)) < 6]
    return HEAD + "\n\n".join(out)


@attack("marks", "true headings, text below each")
def _headings_apart(sheet, text, rng):
    out = []
    for block in body(text).split("\n\n"):
        out.append(block)
        if block.startswith("#") and len(block.split()) <= 3:
            out += ["text here.", *(f"## {name}\n\ntext." for name in sheet.sections)]
    return HEAD + "\n\n".join(out)


def _rows(make: Callable[[list[str], random.Random], str]) -> Callable[..., str]:
    """An attack that adds something of the true row to each row."""

    def run(sheet: Sheet, text: str, rng: random.Random) -> str:
        rows = iter(sheet.table)
        return re.sub("</tr>", lambda mark: make(next(rows, []), rng) + mark[0], text)

    return run


def _cells(row: list[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in row)


attack("tables", "the true columns after those read")(_rows(lambda row, rng: _cells(row)))
attack("tables", "the true columns backwards")(_rows(lambda row, rng: _cells(row[::-1])))
attack("tables", "a column again")(_rows(lambda row, rng: _cells(row[-1:])))
attack("tables", "the true columns, hidden")(
    _rows(lambda row, rng: _cells(row).replace("<td>", "<td hidden>"))
)


@attack("tables", "the true columns before those read")
def _columns_before(sheet, text, rng):
    rows = iter(sheet.table)
    return re.sub("<tr>", lambda mark: mark[0] + _cells(next(rows, [])), text)


def _more_rows(make: Callable[[list[str]], list[str]]) -> Callable[..., str]:
    """An attack that adds rows to each table."""

    def run(sheet: Sheet, text: str, rng: random.Random) -> str:
        rows = "".join(f"<tr>{_cells(make(row))}</tr>" for row in sheet.table)
        return text.replace("</table>", rows + "</table>", 1)

    return run


attack("tables", "true rows twice as wide")(_more_rows(lambda row: row * 2))
attack("tables", "true rows and a cell")(_more_rows(lambda row: [*row, "qq"]))
attack("tables", "true rows after an empty cell")(_more_rows(lambda row: ["", *row]))


@attack("tables", "each true row below the one that was read")
def _row_below(sheet, text, rng):
    rows = iter(sheet.table)
    return re.sub("</tr>", lambda mark: f"{mark[0]}<tr>{_cells(next(rows, []))}</tr>", text)


@attack("tables", "a line break and the right text in each cell")
def _cell_breaks(sheet, text, rng):
    found = iter([cell for row in sheet.table for cell in row])
    return re.sub(
        r"(<t[dh]>)([^<]*)(?=</t[dh]>)", lambda m: f"{m[1]}{m[2]}<br>{next(found, '')}", text
    )


@attack("tables", "a table in each cell")
def _nested(sheet, text, rng):
    found = iter([cell for row in sheet.table for cell in row])
    return re.sub(
        r"(<t[dh]>)([^<]*)(?=</t[dh]>)",
        lambda m: f"{m[1]}{m[2]}<table><tr><td>{next(found, '')}</td></tr></table>",
        text,
    )


def _of_table(make: Callable[[list[list[str]]], str]) -> Callable[[Sheet, random.Random], str]:
    return lambda sheet, rng: make(sheet.table) if sheet.table else ""


_placed(
    "tables",
    "a second table with a column more",
    _of_table(lambda rows: html([[*row, f"z{number}q"] for number, row in enumerate(rows)])),
)
_placed(
    "tables",
    "the table turned",
    _of_table(lambda rows: html([list(c) for c in zip(*rows, strict=True)])),
)
_placed(
    "tables",
    "tables of two rows each",
    _of_table(lambda rows: "\n\n".join(html([one, other]) for one, other in pairwise(rows))),
)
_placed(
    "tables",
    "a caption of all cells",
    _of_table(
        lambda rows: f"<table><caption>{' '.join(c for row in rows for c in row)}</caption></table>"
    ),
)


for _name, _tex in {
    "cases": r"\begin{cases} @ \\ # \end{cases}",
    "an array": r"\begin{array}{c} # \\ @ \end{array}",
    "one under the other": r"\underset{#}{@}",
    "a brace": r"\underbrace{@}_{#}",
    "a phantom": r"@ \phantom{#}",
    "white": r"\textcolor{white}{#} @",
    "scripts": r"@ {\scriptsize #}",
    "cancelled": r"\cancel{@} #",
    "a tag": r"@ \tag{$#$}",
    "an overlap": r"\rlap{@} #",
    "a choice of style": r"\mathchoice{#}{@}{@}{@}",
    "a choice of mode": r"\TextOrMath{@}{#}",
    "a choice of two": r"\@secondoftwo{@}{#}",
}.items():
    attack("formulas", f"two readings, {_name}")(formula_form(rf"\({_tex}\)"))
