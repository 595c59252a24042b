"""What all rewards share: every text is parsed once, and every page's truth stays cached.

`parsed`, `truth_of` and `PageTruth.read` are bounded caches of pure functions, one per process.
Rewards call them instead of passing parsed objects around; a user's own reward shares the work in
the same way.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from olmrl.bench import Case, ParsedPage, load_case
from olmrl.bench.table_case import TableCase
from olmrl.bench.text_cases import AbsentCase
from olmrl.markup.formatting import Kind, formatted_spans
from olmrl.markup.formulas import extract_formulas
from olmrl.markup.text import normalize
from olmrl.markup.visible import Seen, see, unhidden
from olmrl.rewards.claims import Claims, claims, untagged
from olmrl.rewards.integrity import Marks, Said, letters
from olmrl.rewards.lettered import Lettered
from olmrl.rewards.respelling import respelled
from olmrl.rewards.reward import UnscorablePage
from olmrl.types import Page

_KEPT_TEXTS = 64
_KEPT_TRUTHS = 32
_USUAL_HEAD = 250
"""Characters of an ordinary front matter; what is more is hidden text."""


@dataclass(frozen=True)
class ParsedText:
    """A transcription and, computed on demand, what it contains."""

    text: str
    compat: bool
    """Read as the public benchmark does: the front matter is part of the text."""

    @cached_property
    def page(self) -> ParsedPage:
        """The page as the bench parses it, shared by all tests."""
        return ParsedPage(self.text, compat=self.compat)


@lru_cache(maxsize=_KEPT_TEXTS)
def parsed(text: str, compat: bool = False) -> ParsedText:
    """Parse a transcription; cached."""
    return ParsedText(text, compat)


class Reading:
    """One transcription as training judges it: what is seen, and what of it is on the page."""

    def __init__(self, text: str, true: Reading | None = None) -> None:
        self.text = text
        self._true = true
        self._marks: dict[Kind, Marks] = {}

    @cached_property
    def body(self) -> ParsedPage:
        """All that is written, hidden or not, without front matter."""
        return ParsedPage(self.text)

    @cached_property
    def seen(self) -> Seen:
        """What a reader of the rendered page sees, formulas in the reference's spelling."""
        seen = see(self.body.text)
        if self._true is None or self._true is self:
            return seen
        return replace(seen, text=respelled(seen.text, self._true.spellings))

    @cached_property
    def spellings(self) -> tuple[str, ...]:
        """Its formulas, as they are written."""
        return tuple(dict.fromkeys(extract_formulas(self.seen.text)))

    @property
    def head(self) -> str:
        """The front matter, and the white space after it."""
        body = self.body.text
        if body == self.text:
            return ""
        return self.text.rstrip()[: -len(body)] if body else self.text

    @cached_property
    def hidden(self) -> int:
        """Letters that are written and not seen, more than in the reference."""
        more = max(0, self.seen.hidden - (self._true.seen.hidden if self._true else 0))
        return more + max(0, len(self.head) - _USUAL_HEAD)

    @cached_property
    def page(self) -> ParsedPage:
        """What is seen, parsed."""
        return ParsedPage(self.seen.text, is_body=True)

    @cached_property
    def said(self) -> Said:
        """How much of it is said."""
        return Said.of_body(self.seen.text)

    @cached_property
    def folded(self) -> str:
        """Its letters, look-alike ones as one."""
        return letters(self.seen.text)

    @cached_property
    def lettered(self) -> Lettered:
        """Its letters and their places."""
        return Lettered.of(self.seen.text)

    @cached_property
    def claims(self) -> Claims:
        """What it says of the page's reference."""
        assert self._true is not None, "the page has no reference"
        return claims(self.lettered, self._true.lettered)

    @cached_property
    def earned(self) -> ParsedPage:
        """What is seen and on the page, given in one reading only; parsed."""
        earned = self.claims.earned
        return self.page if earned == self.seen.text else ParsedPage(earned, is_body=True)

    @cached_property
    def earned_formulas(self) -> ParsedPage:
        """`said_once`, but each formula as it is or not at all; parsed."""
        return ParsedPage(self.claims.earned_formulas, is_body=True)

    @cached_property
    def earned_text(self) -> ParsedPage:
        """`earned` without what stands inside tags; parsed."""
        return self._untagged(self.earned)

    @cached_property
    def said_once_text(self) -> ParsedPage:
        """`said_once` without what stands inside tags; parsed."""
        same = self.said_once is self.earned
        return self.earned_text if same else self._untagged(self.said_once)

    @staticmethod
    def _untagged(page: ParsedPage) -> ParsedPage:
        text = untagged(page.text) if "<" in page.text else page.text
        return page if text == page.text else ParsedPage(text, is_body=True)

    @cached_property
    def foreign(self) -> ParsedPage:
        """What is seen and not on the page; parsed."""
        return ParsedPage(self.claims.foreign_text, is_body=True)

    @cached_property
    def said_once(self) -> ParsedPage:
        """`earned` without what is said twice; parsed."""
        once = self.claims.said_once
        return self.earned if once == self.earned.text else ParsedPage(once, is_body=True)

    def marks(self, kind: Kind) -> Marks:
        """Which letters are set as heading, bold or italic."""
        if kind not in self._marks:
            spans = formatted_spans(self.seen.text, kind)
            self._marks[kind] = Marks.of(self.lettered, spans)
        return self._marks[kind]


class PageTruth:
    """A page's unit tests and reference, parsed on first use, and its latest readings."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._cases: dict[str, tuple[Case, ...]] = {}
        self._readings: OrderedDict[str, Reading] = OrderedDict()
        self._meets: dict[int, bool] = {}
        self._anywhere: dict[int, AbsentCase] = {}
        self._meets_anywhere: dict[int, bool] = {}
        self._breadths: dict[int, list[int]] = {}

    def cases(self, compat: bool) -> tuple[Case, ...]:
        """The page's tests, ready to run (reference formulas rendered).

        Raises:
            UnscorablePage: a test is invalid; the page must not be scored on the others alone.
        """
        return self._loaded("compat" if compat else "default")

    def seen_cases(self) -> tuple[Case, ...]:
        """The tests, looking for what a reader sees of the texts in them.

        Raises:
            UnscorablePage: a test is invalid.
        """
        return self._loaded("seen")

    def _loaded(self, mode: str) -> tuple[Case, ...]:
        if mode not in self._cases:
            cases = load_cases(self.page, mode == "compat")
            if mode == "seen":
                cases = tuple(map(_as_seen, cases))
            self._cases[mode] = cases
        return self._cases[mode]

    @cached_property
    def reading(self) -> Reading | None:
        """The reference, read as a transcription of itself; None if there is none."""
        if self.page.reference is None:
            return None
        reading = Reading(self.page.reference)
        reading._true = reading
        return reading

    @property
    def is_blank(self) -> bool:
        """Whether there is a reference, without text."""
        return self.reading is not None and not self.reading.lettered.key

    def meets(self, case: Case) -> bool:
        """Whether the reference passes a test of `seen_cases`; False if there is none."""
        if self.reading is None:
            return False
        if id(case) not in self._meets:
            self._meets[id(case)] = case.run_parsed(self.reading.page).passed
        return self._meets[id(case)]

    def breadth(self, case: TableCase) -> list[int]:
        """How many cells each relation of a `table` test can choose from in the reference."""
        assert self.reading is not None
        if id(case) not in self._breadths:
            found = zip(*case.breadths(self.reading.page), strict=True)
            self._breadths[id(case)] = [max(sizes) for sizes in found]
        return self._breadths[id(case)]

    def anywhere(self, case: AbsentCase) -> AbsentCase:
        """An `absent` test of the whole page."""
        if id(case) not in self._anywhere:
            self._anywhere[id(case)] = replace(case, first_n=None, last_n=None)
        return self._anywhere[id(case)]

    def meets_anywhere(self, case: AbsentCase) -> bool:
        """Whether the reference has the text of an `absent` test nowhere, in its window or not."""
        if self.reading is None:
            return False
        if id(case) not in self._meets_anywhere:
            verdict = self.anywhere(case).run_parsed(self.reading.page)
            self._meets_anywhere[id(case)] = verdict.passed
        return self._meets_anywhere[id(case)]

    def read(self, text: str) -> Reading:
        """Read a transcription against the reference, if there is one; cached."""
        reading = self._readings.get(text)
        if reading is None:
            reading = self._readings[text] = Reading(text, self.reading)
            if len(self._readings) > _KEPT_TEXTS:
                self._readings.popitem(last=False)
        return reading

    @cached_property
    def known(self) -> Said:
        """What the positive tests look for."""
        return Said.of_tests(self.page.tests)

    @cached_property
    def needles(self) -> tuple[str, ...]:
        """The texts that `present` and `order` tests look for, normalised."""
        rows = [row for row in self.page.tests if row.get("type") in ("present", "order")]
        names = ("text", "before", "after")
        return tuple(normalize(str(row[n])) for row in rows for n in names if row.get(n))

    def may_have(self, text: str) -> bool:
        """Whether a positive test looks for what contains a text: then it is on the page."""
        return any(letters(text) in other for other in self._known_letters)

    @cached_property
    def _known_letters(self) -> tuple[str, ...]:
        return tuple(map(letters, self.known.texts))

    @cached_property
    def formulas(self) -> tuple[str, ...]:
        """The formulas that the tests know."""
        return tuple(str(row["math"]) for row in self.page.tests if row.get("math"))


def _as_seen(case: Case) -> Case:
    row = case.to_row()
    changed = {
        name: unhidden(value)
        for name, value in row.items()
        if isinstance(value, str) and name not in ("type", "pdf", "id", "checked", "url")
    }
    same = all(row[name] == value or not value.strip() for name, value in changed.items())
    return case if same else load_case({**row, **changed})


def load_cases(page: Page, compat: bool) -> tuple[Case, ...]:
    """Load a page's tests.

    Raises:
        UnscorablePage: a test is invalid; names file and test.
    """
    cases = []
    for row, file in zip(page.tests, page.test_files, strict=True):
        try:
            cases.append(load_case(row, compat=compat))
        except ValueError as error:
            raise UnscorablePage(f"{file}: {error}") from error
    return tuple(cases)


_truths: OrderedDict[int, PageTruth] = OrderedDict()


def truth_of(page: Page) -> PageTruth:
    """The parsed truth of a page object, cached while the page is in use.

    The cache holds the page itself, so that no other object can take over its identity.
    """
    key = id(page)
    truth = _truths.get(key)
    if truth is None:
        truth = _truths[key] = PageTruth(page)
        if len(_truths) > _KEPT_TRUTHS:
            _truths.popitem(last=False)
    _truths.move_to_end(key)
    return truth
