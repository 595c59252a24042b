"""Transcribes a sheet: correctly, or with the habits of an inconsistent labeller.

Silver labels of real training sets disagree with each other: some keep running heads and page
numbers, some write markdown tables, some lose headings, some read across columns, some never stop.
A policy warmed up on them imitates all of this at random; the unit tests of the truth settle it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

from olmrl.markup import front_matter
from olmrl.synth.invented.sheet import Sheet

LOOP = 36
"""Copies of the last word in an endless label; a baseline test allows 30."""


@dataclass(frozen=True)
class Habits:
    """Which mistakes a labeller makes on one page. All false gives the truth."""

    keeps_running_text: bool = False
    """Transcribes running head and page number."""
    markdown_tables: bool = False
    """Writes tables as markdown instead of HTML."""
    loses_marks: bool = False
    """Drops heading, bold and footnote marks."""
    reads_across: bool = False
    """Reads two columns line by line, across the gutter."""
    endless: bool = False
    """Ends up repeating the last word."""


HABIT_NAMES = tuple(field.name for field in fields(Habits))

RATES = {
    "keeps_running_text": 0.55,
    "markdown_tables": 0.55,
    "loses_marks": 0.5,
    "reads_across": 0.5,
    "endless": 0.12,
}
"""How often each habit appears in warm-up labels, if the page allows for it."""


def draw_habits(rng: random.Random, rates: dict[str, float]) -> Habits:
    """Decide each habit of one label independently.

    Raises:
        ValueError: An unknown habit, or a rate outside 0..1.
    """
    for name, rate in rates.items():
        if name not in HABIT_NAMES:
            raise ValueError(f"habit {name!r} is unknown, allowed: {', '.join(HABIT_NAMES)}")
        if not 0 <= rate <= 1:
            raise ValueError(f"habit {name}: rate is {rate}, must be in 0..1")
    return Habits(**{name: rng.random() < rates.get(name, 0.0) for name in HABIT_NAMES})


def write_label(sheet: Sheet, habits: Habits | None = None) -> str:
    """Write front matter and body of a sheet as a labeller with these habits would."""
    habits = habits or Habits()
    blocks = _blocks(sheet, habits)
    if habits.endless and sheet.words:
        blocks[-1] += (" " + sheet.words[-1]) * LOOP
    response = front_matter.PageResponse(
        primary_language="en",
        is_rotation_valid=True,
        rotation_correction=0,
        is_table=bool(sheet.table),
        is_diagram=False,
        natural_text="\n\n".join(blocks) or None,
    )
    return front_matter.format(response)


def _blocks(sheet: Sheet, habits: Habits) -> list[str]:
    """Return the paragraphs of the body in the order the labeller writes them."""
    blocks = []
    if habits.keeps_running_text and sheet.running_head:
        blocks.append(sheet.running_head)
    if sheet.heading:
        blocks.append(("" if habits.loses_marks else "# ") + " ".join(sheet.heading))
    if sheet.lines:
        blocks.append(_running_text(sheet, habits))
    if sheet.left and habits.reads_across:
        rows = zip(sheet.left, sheet.right, strict=True)
        blocks.append(_lines(left + right for left, right in rows))
    elif sheet.left:
        blocks += [_lines(sheet.left), _lines(sheet.right)]
    if sheet.table:
        blocks.append(_table(sheet, habits))
    if sheet.footnote:
        mark = "1 " if habits.loses_marks else "[^1]: "
        blocks.append(mark + " ".join(sheet.footnote))
    if habits.keeps_running_text and sheet.footer:
        blocks.append(sheet.footer)
    return blocks


def _lines(lines: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(" ".join(line) for line in lines)


def _running_text(sheet: Sheet, habits: Habits) -> str:
    text = _lines(sheet.lines)
    if sheet.bold and not habits.loses_marks:
        text = re.sub(rf"\b{sheet.bold}\b", f"**{sheet.bold}**", text)
    return text + "[^1]" if sheet.footnote and not habits.loses_marks else text


def _table(sheet: Sheet, habits: Habits) -> str:
    head, *rows = sheet.table
    if habits.markdown_tables:
        rule = "|" + "---|" * len(head)
        return "\n".join(
            ["| " + " | ".join(r) + " |" for r in (head,)]
            + [rule]
            + ["| " + " | ".join(r) + " |" for r in rows]
        )
    cells = ["".join(f"<th>{cell}</th>" for cell in head)]
    cells += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"
