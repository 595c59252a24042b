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
"""Maximum distinct formulas to render for one page; no real page has half as many."""


class ParsedPage:
    """What the tests need of one transcription; each part is computed on first use and kept.

    Use one object for all cases and rewards of a completion. It is not thread-safe.

    Args:
        markdown: The transcription, with or without front matter.
        compat: Use the whole text, front matter included, with the quirks of the public parsers.
            The default strips front matter first. Cases only accept a page of their own mode.
        is_body: The text has no front matter: nothing is stripped.
    """

    def __init__(self, markdown: str, *, compat: bool = False, is_body: bool = False) -> None:
        self.compat = compat
        """Mode in which this page is parsed."""
        self.is_too_long = len(markdown) > MAX_TEXT_CHARS
        """True if the text is too long to be tested; every test then fails."""
        text = "" if self.is_too_long else markdown
        self.text = text if compat or is_body else front_matter.strip(text)
        """The text to be tested, unnormalised."""
        self._formulas: dict[bool, tuple[str, ...]] = {}
        self._formatted: dict[Kind, tuple[str, ...]] = {}
        self._parsed_tables: dict[str, list[Table] | WorkLimitError | MarkupError] = {}

    @cached_property
    def normal_text(self) -> str:
        """The text as the bench compares it."""
        return normalize(self.text, compat=self.compat)

    @cached_property
    def lower_text(self) -> str:
        """`normal_text` in lower case."""
        return self.normal_text.lower()

    @property
    def markdown_tables(self) -> list[Table]:
        """Its pipe tables; raises `WorkLimitError` if they are too large."""
        return self._tables("markdown", parse_markdown_tables)

    @property
    def html_tables(self) -> list[Table]:
        """Its HTML tables; raises `WorkLimitError` or `MarkupError` on hostile markup."""
        return self._tables("html", parse_html_tables)

    def _tables(self, kind: str, parse: Callable[..., list[Table]]) -> list[Table]:
        """Parses once; an error is kept as well, as those cost the most."""
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
        """Its LaTeX formulas without duplicates, with or without the dollar forms.

        Raises:
            WorkLimitError: there are more than `MAX_FORMULAS`.
        """
        if dollars not in self._formulas:
            found = extract_formulas(self.text, dollars=dollars, compat=self.compat)
            self._formulas[dollars] = tuple(dict.fromkeys(found))
        formulas = self._formulas[dollars]
        if len(formulas) > MAX_FORMULAS:
            raise WorkLimitError(f"{len(formulas)} formulas, more than {MAX_FORMULAS}")
        return formulas

    def formatted(self, kind: Kind) -> tuple[str, ...]:
        """The normalised pieces set as heading, bold or italic, without duplicates."""
        if kind not in self._formatted:
            pieces = find_formatted(self.text, kind, compat=self.compat)
            normal = (normalize(piece, compat=self.compat) for piece in pieces)
            self._formatted[kind] = tuple(dict.fromkeys(normal))
        return self._formatted[kind]
