"""The verdict of one unit test in training: passed, and earned (see `integrity`)."""

from __future__ import annotations

import re
from typing import cast

from olmrl.bench.cases import Case, Verdict
from olmrl.bench.document import ParsedPage
from olmrl.bench.math_case import MathCase
from olmrl.bench.table_case import TableCase
from olmrl.bench.text_cases import (
    AbsentCase,
    BaselineCase,
    FootnoteCase,
    FormatCase,
    OrderCase,
    PresentCase,
)
from olmrl.markup.formatting import Kind
from olmrl.markup.html_tree import MarkupError
from olmrl.markup.text import WorkLimitError
from olmrl.rewards import element_hedges, hedges, integrity, mark_hedges
from olmrl.rewards.parsed import PageTruth, Reading
from olmrl.rewards.word_lists import is_list, is_listed

_MARK = (
    r"(?:\[\^[^\]\s]{1,20}\](?!:)|<sup>[^<>]{1,20}</sup>|[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+)"
)
_TWO_MARKS = re.compile(rf"{_MARK}[\s,;]{{0,3}}(?={_MARK})")
"""Footnote marks side by side: one of them may be another reading of the other."""

_UNREAD = Verdict(False, "the page was not read, so absence shows nothing")
_RUNS_ON = Verdict(False, "the transcription repeats itself or continues past the end of the page")
_HEDGED = Verdict(False, "the transcription offers more than one reading")


def earned(truth: PageTruth, reading: Reading, case: Case) -> Verdict:
    """Judge one test of `PageTruth.seen_cases`."""
    if isinstance(case, BaselineCase):
        return _baseline(truth, reading, case)
    if isinstance(case, AbsentCase):
        return _absent(truth, reading, case)
    if truth.meets(case):
        return _positive(truth, reading, case)
    verdict = case.run_parsed(reading.page)
    return _HEDGED if verdict.passed and _hedged(truth, reading, case) else verdict


def _baseline(truth: PageTruth, reading: Reading, case: BaselineCase) -> Verdict:
    if case.max_length is not None:
        return case.run_parsed(reading.body)
    if truth.is_blank:
        said = any(map(str.isalnum, reading.seen.text))
        return Verdict(not said, "the page is blank" if said else "")
    verdict = case.run_parsed(reading.page)
    if not verdict.passed:
        return verdict
    if truth.reading is None:
        looping = reading.said.repeats and integrity.loops(reading.said.texts[0])
        return _RUNS_ON if looping or reading.said.repeats else verdict
    if not integrity.has_read(reading.claims):
        return Verdict(False, "the page was not read")
    if integrity.runs_on(reading.claims, reading.hidden):
        return _RUNS_ON
    looping = integrity.loops(integrity.key(reading.claims.foreign_text))
    return _RUNS_ON if looping else verdict


def _absent(truth: PageTruth, reading: Reading, case: AbsentCase) -> Verdict:
    if truth.reading is None:
        if not integrity.has_read_some(reading.said, truth.known) or is_list(reading.page.text):
            return _UNREAD
        if not truth.may_have(case.text) and integrity.spells_out(case.text, reading.folded):
            return Verdict(False, f"{case.text[:80]!r} is present but should not be")
        return hedges.near_end(case, reading.page, truth.needles).run_parsed(reading.page)
    if not integrity.has_read(reading.claims):
        return _UNREAD
    if not truth.meets(case):
        return case.run_parsed(reading.page)
    anywhere, foreign = truth.anywhere(case), reading.foreign
    if not anywhere.run_parsed(foreign).passed or integrity.foreign_has(case.text, reading.claims):
        return Verdict(False, f"{case.text[:80]!r} is present but should not be")
    return anywhere.run_parsed(reading.page) if truth.meets_anywhere(case) else Verdict(True, "")


def _positive(truth: PageTruth, reading: Reading, case: Case) -> Verdict:
    """A test that the reference passes: only what was earned counts."""
    if isinstance(case, OrderCase) and integrity.runs_on(reading.claims, reading.hidden):
        return _RUNS_ON
    # an equal copy can be in another place, or marked in another way, but not be another reading
    if isinstance(case, PresentCase):
        page = reading.earned if "<" in case.text else reading.earned_text
    elif isinstance(case, OrderCase):
        page = reading.said_once if "<" in case.before + case.after else reading.said_once_text
    elif isinstance(case, MathCase):
        page = reading.earned_formulas
    else:
        page = reading.said_once
    if isinstance(case, TableCase):
        return _table(truth, page, case)
    verdict = case.run_parsed(page)
    return _HEDGED if verdict.passed and _overdone(truth, reading, case) else verdict


def _table(truth: PageTruth, page: ParsedPage, case: TableCase) -> Verdict:
    """A cell passes if it has no more to choose its neighbours and headings from than the truth."""
    allowed = truth.breadth(case)
    passed = False
    try:
        for sizes in case.breadths(page):
            passed = True
            if all(mine <= most for mine, most in zip(sizes, allowed, strict=True)):
                return Verdict(True, "")
    except (WorkLimitError, MarkupError):
        passed = False
    return _HEDGED if passed else case.run_parsed(page)


def _overdone(truth: PageTruth, reading: Reading, case: Case) -> bool:
    """Whether a pass rests on more marks than the reference has."""
    reference = truth.reading
    assert reference is not None
    if isinstance(case, FormatCase):
        kind = cast("Kind", case.format)
        marks = reading.marks(kind), reference.marks(kind)
        return integrity.marks_too_much(*marks, case.text, reading.claims)
    if isinstance(case, FootnoteCase):
        return len(case.marks(reading.page)) > len(case.marks(reference.page)) or (
            len(_TWO_MARKS.findall(reading.seen.text))
            > len(_TWO_MARKS.findall(reference.seen.text))
        )
    return False


def _hedged(truth: PageTruth, reading: Reading, case: Case) -> bool:
    """Whether a pass without a reference looks like one of several readings."""
    page = reading.page
    if isinstance(case, OrderCase):
        return (
            reading.said.repeats
            or hedges.says_again(case, page)
            or any(is_listed(n, page.text, truth.needles) for n in (case.before, case.after))
            or any(hedges.has_more_inside(n, page) for n in (case.before, case.after))
            or any(hedges.has_other_reading(n, page) for n in (case.before, case.after))
        )
    if isinstance(case, PresentCase):
        return (
            is_listed(case.text, page.text, truth.needles)
            or hedges.several_readings(case.text, page, truth.needles)
            or hedges.only_glued(case.text, page.normal_text)
        )
    if isinstance(case, FormatCase):
        pieces = page.formatted(cast("Kind", case.format))
        most = integrity.MOST_MARKED[case.format == "heading"]
        return (
            integrity.marks_most(pieces, reading.said, most)
            or mark_hedges.repeats_mark(case, page)
            or is_listed(case.text, page.text, truth.needles)
            or hedges.several_readings(case.text, page, truth.needles)
        )
    if isinstance(case, FootnoteCase):
        words = [case.appears_before_marker, case.appears_after_marker]
        return (
            mark_hedges.many_marks(case, page)
            or mark_hedges.marks_a_copy(case, page)
            or any(hedges.several_readings(w, page, truth.needles) for w in words if w)
            or mark_hedges.only_glued_at_marks(case, page)
        )
    if isinstance(case, TableCase):
        return element_hedges.repeats_tables(case, page)
    if isinstance(case, MathCase):
        return element_hedges.several_formulas(case, page, truth.formulas)
    return False
