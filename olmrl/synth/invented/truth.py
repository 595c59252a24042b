"""A sheet's truth as olmOCR-bench unit tests (docs/formats.md#bench-tests).

Every test passes on the true transcription by construction: the words of a page are distinct, and
running heads and page numbers share no word with the body.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from olmrl.suffixes import cut_suffix
from olmrl.synth.invented.sheet import Sheet

TestRow = dict[str, Any]
"""One line of a test file."""

FILES = {
    "present": "text_present.jsonl",
    "absent": "headers_footers.jsonl",
    "order": "reading_order.jsonl",
    "table": "table_tests.jsonl",
    "format": "formatting.jsonl",
    "footnote": "footnotes.jsonl",
    "baseline": "baseline.jsonl",
}
"""The test file (scoring category) of each type."""


_LEAST_WORDS = 3
"""Words of a passage to look for, if its block has as many."""

Line = tuple[str, ...]


def make_tests(
    sheet: Sheet, pdf: str, rng: random.Random, *, whole_lines: bool = False
) -> list[TestRow]:
    """Express the truth of a sheet as tests.

    Args:
        sheet: The page.
        pdf: The PDF's path below `pdfs/`.
        rng: Chooses the words to test for.
        whole_lines: `present` and `order` ask for whole lines, which nobody passes by listing
            likely words; otherwise for two words and for one, which a poor reader passes sooner.

    Returns:
        Test rows with ids unique within the data set, ready to be written as JSONL.
    """
    rows = [
        *(_present_lines(sheet) if whole_lines else _present(sheet, rng)),
        *_absent(sheet),
        *_order(sheet, rng, whole_lines),
        *_table(sheet),
        *_format(sheet),
        *_footnote(sheet),
        {"type": "baseline", "max_repeats": 30},
    ]
    stem = cut_suffix(pdf, ".pdf").replace("/", "_")
    counts: dict[str, int] = {}
    tests = []
    for row in rows:
        kind = row["type"]
        counts[kind] = counts.get(kind, 0) + 1
        tests.append({"pdf": pdf, "page": 1, "id": f"{stem}_{kind}_{counts[kind]:02d}", **row})
    return tests


def _present(sheet: Sheet, rng: random.Random) -> list[TestRow]:
    """One pair of neighbouring words from each line of running text."""
    tests: list[TestRow] = []
    for line in (*sheet.lines, *sheet.left, *sheet.right):
        if len(line) >= 2:
            start = rng.randrange(len(line) - 1)
            text = " ".join(line[start : start + 2])
            tests.append({"type": "present", "text": text, "max_diffs": 0})
    return tests


def _present_lines(sheet: Sheet) -> list[TestRow]:
    """All running text, in passages of whole lines."""
    blocks = (sheet.lines, sheet.left, sheet.right)
    return [
        {"type": "present", "text": " ".join(passage), "max_diffs": 0}
        for block in blocks
        for passage in _passages(block)
    ]


def _passages(block: Sequence[Line]) -> list[Line]:
    """The lines of a block, short ones joined to the next or, at its end, to the one before."""
    passages: list[Line] = []
    for line in block:
        if passages and len(passages[-1]) < _LEAST_WORDS:
            passages[-1] += line
        else:
            passages.append(line)
    if len(passages) > 1 and len(passages[-1]) < _LEAST_WORDS:
        *passages, before, last = passages
        passages.append(before + last)
    return passages


def _absent(sheet: Sheet) -> list[TestRow]:
    """Running heads and page numbers do not belong in a transcription.

    A few differences are allowed, so that a misread running head does not count as absent.
    """
    tests: list[TestRow] = []
    if sheet.running_head:
        tests.append({"type": "absent", "text": sheet.running_head, "max_diffs": 4})
    if sheet.footer:
        tests.append({"type": "absent", "text": sheet.footer, "max_diffs": 3})
    return tests


def _order(sheet: Sheet, rng: random.Random, whole_lines: bool) -> list[TestRow]:
    """The heading before the text, earlier lines before later ones, the left column first."""
    blocks = [block for block in (sheet.heading, *sheet.lines) if block]
    pairs = list(pairwise(blocks))
    if sheet.left:
        pairs.append((sheet.left[-1], sheet.right[0]))
    pick = " ".join if whole_lines else rng.choice
    return [
        {"type": "order", "before": pick(before), "after": pick(after), "max_diffs": 0}
        for before, after in pairs
    ]


def _table(sheet: Sheet) -> list[TestRow]:
    """Neighbours of cells, in an HTML table."""
    if not sheet.table:
        return []
    head, first, last = sheet.table[0], sheet.table[1], sheet.table[-1]
    relations: list[TestRow] = [
        {"cell": head[0], "right": head[1]},
        {"cell": last[0], "top_heading": head[0]},
        {"cell": first[1], "up": head[1]},
    ]
    return [{"type": "table", **row, "ignore_markdown_tables": True} for row in relations]


def _format(sheet: Sheet) -> list[TestRow]:
    tests: list[TestRow] = []
    if sheet.heading:
        tests.append({"type": "format", "text": " ".join(sheet.heading), "format": "heading"})
    if sheet.bold:
        tests.append({"type": "format", "text": sheet.bold, "format": "bold"})
    return tests


def _footnote(sheet: Sheet) -> list[TestRow]:
    if not sheet.footnote:
        return []
    return [{"type": "footnote", "marker": "1", "appears_before_marker": sheet.lines[-1][-1]}]
