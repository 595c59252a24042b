"""What all rewards share: every text is parsed once, and every page's truth stays cached.

`parsed` and `truth_of` are bounded caches of pure functions, one per process. Rewards call them
instead of passing parsed objects around; a user's own reward shares the work in the same way.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property, lru_cache

from olmrl.bench import Case, ParsedPage, load_case
from olmrl.markup.formatting import Kind
from olmrl.rewards.integrity import Said, marked_share
from olmrl.rewards.reward import UnscorablePage
from olmrl.types import Page

_KEPT_TEXTS = 64
_KEPT_TRUTHS = 32


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

    @cached_property
    def said(self) -> Said:
        """How much the body says."""
        return Said.of_body(self.page.text)

    def marked_share(self, kind: Kind) -> float:
        """Share of the body that is set as heading, bold or italic, 0..1."""
        return marked_share(self.page.formatted(kind), self.said)


@lru_cache(maxsize=_KEPT_TEXTS)
def parsed(text: str, compat: bool = False) -> ParsedText:
    """Parse a transcription; cached."""
    return ParsedText(text, compat)


class PageTruth:
    """A page's unit tests and reference, parsed on first use."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._cases: dict[bool, tuple[Case, ...]] = {}

    def cases(self, compat: bool) -> tuple[Case, ...]:
        """The page's tests, ready to run (reference formulas rendered).

        Raises:
            UnscorablePage: a test is invalid; the page must not be scored on the others alone.
        """
        if compat not in self._cases:
            self._cases[compat] = load_cases(self.page, compat)
        return self._cases[compat]

    @cached_property
    def reference(self) -> ParsedText | None:
        """The reference transcription."""
        return None if self.page.reference is None else ParsedText(self.page.reference, False)

    @cached_property
    def said(self) -> Said:
        """What the truth says: the reference, or without one what the positive tests look for."""
        if self.reference is not None:
            return self.reference.said
        return Said.of_tests(self.page.tests)

    def marked_share(self, kind: Kind) -> float:
        """Share of the reference that is set as heading, bold or italic; 0 if unknown."""
        return 0.0 if self.reference is None else self.reference.marked_share(kind)


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
