"""One transcription, parsed once for all its tests and rewards."""

from collections.abc import Callable
from functools import cached_property

from olmrl.markup import front_matter
from olmrl.markup.formatting import Kind, find_formatted
from olmrl.markup.formulas import extract_formulas
from olmrl.markup.html_tree import MarkupError
from olmrl.markup.tables import Table, parse_html_tables, parse_markdown_tables
from olmrl.markup.text import MAX_TEXT_CHARS, WorkLimitError, normalize

MAX_FORMULAS = 2000
"""Most different formulas that are rendered for one page; no real one has half as many."""


class ParsedPage:
    """What the tests ask of one transcription, each part computed at first use and then kept.

    Use one object for all cases and rewards of a completion. It is not thread-safe.

    Args:
        markdown: The transcription, with or without front matter.
        compat: Test the whole text, front matter included, with the quirks of the public parsers.
            The default strips front matter first. Cases only accept a page of their own mode.
    """

    def __init__(self, markdown: str, *, compat: bool = False) -> None:
        self.compat = compat
        """Which mode's rules parsed this page."""
        self.is_too_long = len(markdown) > MAX_TEXT_CHARS
        """True when the text is refused for its length; every test then fails."""
        text = "" if self.is_too_long else markdown
        self.text = text if compat else front_matter.strip(text)
        """The text that is tested, as written."""
        self._formulas: dict[bool, tuple[str, ...]] = {}
        self._formatted: dict[Kind, tuple[str, ...]] = {}
        self._parsed_tables: dict[str, list[Table] | WorkLimitError | MarkupError] = {}

    @cached_property
    def normal_text(self) -> str:
        """The text as the bench compares it."""
        return normalize(self.text)

    @cached_property
    def lower_text(self) -> str:
        """`normal_text` in lower case."""
        return self.normal_text.lower()

    @property
    def markdown_tables(self) -> list[Table]:
        """Its pipe tables; raises `WorkLimitError` where they are too large."""
        return self._tables("markdown", parse_markdown_tables)

    @property
    def html_tables(self) -> list[Table]:
        """Its HTML tables; raises `WorkLimitError` or `MarkupError` on hostile markup."""
        return self._tables("html", parse_html_tables)

    def _tables(self, kind: str, parse: Callable[..., list[Table]]) -> list[Table]:
        """Parses once; a refusal is kept as well, as it costs the most."""
        if kind not in self._parsed_tables:
            try:
                self._parsed_tables[kind] = parse(self.text, compat=self.compat)
            except (WorkLimitError, MarkupError) as error:
                self._parsed_tables[kind] = error
        tables = self._parsed_tables[kind]
        if isinstance(tables, Exception):
            raise tables
        return tables

    def formulas(self, *, dollars: bool = True) -> tuple[str, ...]:
        """Its LaTeX formulas, without duplicates, with or without the dollar forms.

        Raises:
            WorkLimitError: there are more than `MAX_FORMULAS`.
        """
        if dollars not in self._formulas:
            found = extract_formulas(self.text, dollars=dollars)
            self._formulas[dollars] = tuple(dict.fromkeys(found))
        formulas = self._formulas[dollars]
        if len(formulas) > MAX_FORMULAS:
            raise WorkLimitError(f"{len(formulas)} formulas, more than {MAX_FORMULAS}")
        return formulas

    def formatted(self, kind: Kind) -> tuple[str, ...]:
        """The normalised pieces that are set as heading, bold or italic, without duplicates."""
        if kind not in self._formatted:
            pieces = find_formatted(self.text, kind, compat=self.compat)
            self._formatted[kind] = tuple(dict.fromkeys(normalize(piece) for piece in pieces))
        return self._formatted[kind]
