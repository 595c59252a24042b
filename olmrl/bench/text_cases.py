"""The text tests: present, absent, order, format, footnote, baseline.

Their pass rules: docs/formats.md#pass-rules.
"""

import re
from dataclasses import dataclass
from functools import cached_property

from olmrl.bench.case import Case, Verdict
from olmrl.bench.document import ParsedPage
from olmrl.markup.formatting import KINDS, Kind
from olmrl.markup.near import near_range
from olmrl.markup.text import MAX_TEXT_CHARS, best_ratio, collapse_spaces, normalize

LEAST_RATIO = 0.5
"""In the default mode, lower bound of a similarity threshold for any `max_diffs`."""


def _threshold(max_diffs: int, text: str, compat: bool) -> float:
    threshold = 1.0 - min(max_diffs, MAX_TEXT_CHARS) / len(text)
    return threshold if compat else max(threshold, LEAST_RATIO)


@dataclass(frozen=True, kw_only=True)
class _Occurrence(Case):
    """Whether a text occurs on the page, or in its first or last characters."""

    text: str
    """What to look for."""
    case_sensitive: bool = True
    """Whether case matters."""
    first_n: int | None = None
    """Look only at the first N characters of the normalised page; 0 or null for all."""
    last_n: int | None = None
    """Look only at the last N characters; with `first_n`, at both ends joined."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.required_text("text")
        for name in ("first_n", "last_n"):
            if not self.compat and (getattr(self, name) or 0) < 0:
                raise self.error(name, f"is {getattr(self, name)}, must be >= 0 or null")

    @cached_property
    def _needle(self) -> str:
        text = self.required_text("text")
        return text if self.case_sensitive else text.lower()

    def _window(self, page: ParsedPage) -> str:
        text = page.normal_text if self.case_sensitive else page.lower_text
        if self.first_n and self.last_n:
            return text[: self.first_n] + text[-self.last_n :]
        if self.first_n:
            return text[: self.first_n]
        return text[-self.last_n :] if self.last_n else text

    def _occurs(self, page: ParsedPage) -> bool:
        window = self._window(page)
        if not self.compat and len(window) < len(self._needle):
            # the ratio is symmetric: a window inside the needle would count as a full match
            asked = (self.first_n or 0) + (self.last_n or 0)
            if not asked or len(window) < min(asked, len(self._needle)):
                return False
        threshold = _threshold(self.max_diffs, self._needle, self.compat)
        return best_ratio(self._needle, window, threshold) >= threshold


@dataclass(frozen=True, kw_only=True)
class PresentCase(_Occurrence):
    """Passes if the text occurs."""

    type = "present"

    def _judge(self, page: ParsedPage) -> Verdict:
        if self._occurs(page):
            return Verdict(True, "")
        return Verdict(False, f"{self._needle[:80]!r} is missing")


@dataclass(frozen=True, kw_only=True)
class AbsentCase(_Occurrence):
    """Passes if the text does not occur."""

    type = "absent"

    def _judge(self, page: ParsedPage) -> Verdict:
        if not self._occurs(page):
            return Verdict(True, "")
        return Verdict(False, f"{self._needle[:80]!r} is present but should not be")


@dataclass(frozen=True, kw_only=True)
class OrderCase(Case):
    """Passes if some near match of one text starts before some near match of another."""

    type = "order"

    before: str
    """The text that comes first."""
    after: str
    """The text that comes later."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("before", "after"):
            most = len(self.required_text(name)) // 2
            if self.max_diffs > most:
                raise self.error("max_diffs", f"is {self.max_diffs}, {name} allows up to {most}")

    @cached_property
    def _before(self) -> str:
        return self.required_text("before")

    @cached_property
    def _after(self) -> str:
        return self.required_text("after")

    def _judge(self, page: ParsedPage) -> Verdict:
        text = page.normal_text
        if not self.compat and len(text) < max(len(self._before), len(self._after)):
            return Verdict(False, "the page is shorter than the text to find")
        before = near_range(self._before, text, self.max_diffs)
        if before is None:
            return Verdict(False, f"{self._before[:80]!r} is missing")
        after = near_range(self._after, text, self.max_diffs)
        if after is None:
            return Verdict(False, f"{self._after[:80]!r} is missing")
        if before[0] < after[1]:
            return Verdict(True, "")
        return Verdict(False, f"{self._before[:80]!r} does not come before {self._after[:80]!r}")


@dataclass(frozen=True, kw_only=True)
class FormatCase(Case):
    """Passes if the text is set as a heading, bold or italic."""

    type = "format"

    text: str
    """What to look for."""
    format: str
    """heading, bold or italic."""
    case_sensitive: bool = True
    """Whether case matters."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.required_text("text")
        if self.format not in KINDS:
            raise self.error("format", f"is {self.format!r}, must be one of {KINDS}")

    @cached_property
    def _needle(self) -> str:
        text = self.required_text("text")
        return text if self.case_sensitive else text.lower()

    def _judge(self, page: ParsedPage) -> Verdict:
        threshold = _threshold(self.max_diffs, self._needle, self.compat)
        kind: Kind = next(kind for kind in KINDS if kind == self.format)
        for piece in page.formatted(kind):
            piece = piece if self.case_sensitive else piece.lower()
            if not self.compat and len(piece) < len(self._needle):
                continue
            if best_ratio(self._needle, piece, threshold) >= threshold:
                return Verdict(True, "")
        return Verdict(False, f"no {self.format} contains {self._needle[:80]!r}")


_SUPERSCRIPTS = str.maketrans(
    "0123456789", "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
)
_ANY_SUPERSCRIPT = "[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]"
CONTEXT_CHARS = 200
"""Number of characters considered on each side of a footnote mark."""


@dataclass(frozen=True, kw_only=True)
class FootnoteCase(Case):
    """Passes if a footnote mark occurs in the text, next to the given words."""

    type = "footnote"

    marker: str
    """The mark without its markup: `1`, `*`, `a`."""
    appears_before_marker: str | None = None
    """Words directly before some occurrence of the mark."""
    appears_after_marker: str | None = None
    """Words directly after some occurrence of the mark."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.marker or " " in self.marker:
            raise self.error("marker", f"is {self.marker!r}, must be text without spaces")
        for name in ("appears_before_marker", "appears_after_marker"):
            if getattr(self, name) is not None:
                self.required_text(name)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        mark = re.escape(self.marker)
        forms = [
            rf"\[\^{mark}\](?!:)",
            rf"(?i:<sup[^<>]{{0,200}}>{mark}</sup>)",
        ]
        if self.marker.isascii() and self.marker.isdigit():
            digits = self.marker.translate(_SUPERSCRIPTS)
            if not self.compat:
                digits = f"(?<!{_ANY_SUPERSCRIPT}){digits}(?!{_ANY_SUPERSCRIPT})"
            forms.append(digits)
        return re.compile("|".join(forms))

    def marks(self, page: ParsedPage) -> list[tuple[int, int]]:
        """Start and end of every occurrence of the mark."""
        return [match.span() for match in self._pattern.finditer(page.text)]

    def _judge(self, page: ParsedPage) -> Verdict:
        marks = self.marks(page)
        if not marks:
            return Verdict(False, f"no footnote mark {self.marker!r}")
        if self.appears_before_marker is not None:
            contexts = [page.text[max(0, start - CONTEXT_CHARS) : start] for start, _ in marks]
            if not self._is_near(self.appears_before_marker, contexts, at_end=True):
                return Verdict(False, f"no mark follows {self.appears_before_marker[:80]!r}")
        if self.appears_after_marker is not None:
            contexts = [page.text[end : end + CONTEXT_CHARS] for _, end in marks]
            if not self._is_near(self.appears_after_marker, contexts, at_end=False):
                return Verdict(False, f"no mark precedes {self.appears_after_marker[:80]!r}")
        return Verdict(True, "")

    def _is_near(self, words: str, contexts: list[str], *, at_end: bool) -> bool:
        threshold = _threshold(self.max_diffs, normalize(words, compat=self.compat), self.compat)
        target = _letters(words, self.compat)
        for context in contexts:
            letters = _letters(context, self.compat)
            window = letters[-2 * len(target) :] if at_end else letters[: 2 * len(target)]
            if not window or (not self.compat and len(window) < len(target)):
                continue
            if best_ratio(target, window, threshold) >= threshold:
                return True
        return False


def _letters(text: str, compat: bool) -> str:
    """The letters and digits of a text in lower case; any script."""
    return "".join(char for char in normalize(text, compat=compat) if char.isalnum()).lower()


_DISALLOWED = re.compile(
    "[\u4e00-\u9fff\u3040-\u309f\u30a0-\u30ff\U0001f600-\U0001f64f\U0001f300-\U0001f5ff"
    "\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff]"
)
LONGEST_PERIOD = 5
"""Longest string whose repetition at the end of a page the public benchmark detects."""
LONGEST_PERIOD_DEFAULT = 100
"""The same for the default mode, so that longer loops do not pass."""


@dataclass(frozen=True, kw_only=True)
class BaselineCase(Case):
    """Passes if the page has text that does not end in a loop or, with a limit, little text."""

    type = "baseline"

    max_length: int | None = None
    """If set, the only condition: at most this many letters and digits on the page."""
    max_length_skips_image_alt_tags: bool = False
    """Do not count markdown images for `max_length`."""
    max_repeats: int = 30
    """How often the end of the page may repeat a short string."""
    check_disallowed_characters: bool = True
    """Reject Chinese, Japanese and emoji characters (for pages known to be English)."""

    def _judge(self, page: ParsedPage) -> Verdict:
        text = page.text
        if self.max_length_skips_image_alt_tags:
            text = _without_images(text)
        if self.max_length is not None:
            count = sum(map(str.isalnum, text))
            passed = count <= self.max_length
            return Verdict(passed, "" if passed else f"{count} letters and digits on the page")
        if not any(map(str.isalnum, text)):
            return Verdict(False, "the page has no text")
        period = self._looping_period(page)
        if period:
            return Verdict(False, f"the page ends in more than {self.max_repeats} repeats")
        if self.check_disallowed_characters and not page.text.isascii():
            found = _DISALLOWED.search(page.text)
            if found:
                return Verdict(False, f"the page has the character {found[0]!r}")
        return Verdict(True, "")

    def _looping_period(self, page: ParsedPage) -> int:
        """Length of the string that the page repeats too often at its end; 0 if none."""
        text = collapse_spaces(page.text)
        longest = LONGEST_PERIOD if self.compat else LONGEST_PERIOD_DEFAULT
        if self.max_repeats >= len(text):
            return 0  # so many copies of anything are longer than the page
        for period in range(1, min(longest, len(text)) + 1):
            # the text ends in more than max_repeats copies of its last `period` characters
            unit = text[-period:]
            if self.max_repeats < 1 or (
                text[-2 * period : -period] == unit and text.endswith(unit * (self.max_repeats + 1))
            ):
                return period
        return 0


def _without_images(text: str) -> str:
    """The text without markdown images (those within one line)."""
    kept = []
    for line in text.split("\n"):
        position = 0
        while (start := line.find("![", position)) >= 0:
            middle = line.find("](", start + 2)
            end = line.find(")", middle + 2) if middle >= 0 else -1
            if end < 0:
                break
            kept.append(line[position:start])
            position = end + 1
        kept.append(line[position:] + "\n")
    return "".join(kept)
