"""What all tests of the bench share: common fields, their validation, and running.

Fields and types: docs/formats.md#bench-tests.
"""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from olmrl.bench.document import ParsedPage
from olmrl.markup.html_tree import MarkupError
from olmrl.markup.text import MAX_TEXT_CHARS, WorkLimitError, normalize
from olmrl.types import REJECTED

CHECKED = (None, "verified", REJECTED)
"""Allowed values of `checked`."""


class CaseError(ValueError):
    """A test that cannot be used; the message names the test, the field and what is allowed."""


class Verdict(NamedTuple):
    """The outcome of one test on one transcription."""

    passed: bool
    explanation: str
    """Human-readable reason; empty if there is nothing to add."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One test: the fields that all types share."""

    type: ClassVar[str] = ""
    """Its name in the JSONL row."""

    pdf: str
    """PDF of the page, relative to the folder's `pdfs/`."""
    page: int
    """1-based page in the PDF."""
    id: str
    """Unique in its JSONL file."""
    max_diffs: int = 0
    """Characters that may differ."""
    checked: str | None = None
    """`verified` or `rejected` by a person, or None."""
    url: str | None = None
    """Where the PDF came from."""
    compat: bool = field(default=False, metadata={"row": False})
    """Judge as the public benchmark does, quirks included."""

    def __post_init__(self) -> None:
        self._check_types()
        for name in ("pdf", "id"):
            if not getattr(self, name):
                raise self.error(name, "must not be empty")
        if self.max_diffs < 0:
            raise self.error("max_diffs", f"is {self.max_diffs}, must be >= 0")
        if not self.compat:
            if self.page < 1:
                raise self.error("page", f"is {self.page}, pages count from 1")
            if self.checked not in CHECKED:
                raise self.error("checked", f"is {self.checked!r}, must be one of {CHECKED}")

    def run(self, markdown: str) -> Verdict:
        """Judges one transcription. Never raises on its content, and its work is bounded."""
        return self.run_parsed(ParsedPage(markdown, compat=self.compat))

    def run_parsed(self, page: ParsedPage) -> Verdict:
        """Judges a parsed transcription; share the page between its tests."""
        assert page.compat == self.compat, "the page was parsed in the other mode"
        if page.is_too_long:
            return Verdict(False, f"the text is longer than {MAX_TEXT_CHARS} characters")
        try:
            return self._judge(page)
        except (WorkLimitError, MarkupError) as error:
            return Verdict(False, f"gave up: {error}")

    def _judge(self, page: ParsedPage) -> Verdict:
        """The pass rule of the type; may raise `WorkLimitError` or `MarkupError`."""
        raise NotImplementedError

    def to_row(self) -> dict[str, Any]:
        """The JSONL row: the type and all fields, nulls included."""
        values = {name: getattr(self, name) for name in row_fields(type(self))}
        return {"type": self.type, **values}

    def error(self, field_name: str, problem: str) -> CaseError:
        """A `CaseError` that names this test and one of its fields."""
        return CaseError(f"test {self.id!r} ({self.type}): {field_name} {problem}")

    def required_text(self, field_name: str) -> str:
        """The normalised value of a text field that must not be blank."""
        text = normalize(getattr(self, field_name), compat=self.compat)
        # marks around nothing are no text in either mode
        marks = not any(map(str.isalnum, text)) and not normalize(text, compat=True).strip()
        if marks or not text.strip():
            raise self.error(field_name, f"is {getattr(self, field_name)!r}, must not be blank")
        return text

    def _check_types(self) -> None:
        for name, hint in row_fields(type(self)).items():
            value = getattr(self, name)
            allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
            is_bool_for_int = isinstance(value, bool) and bool not in allowed
            if self.compat and (name in _UNCHECKED_IN_COMPAT or is_bool_for_int):
                continue
            if is_bool_for_int or not isinstance(value, hint):
                names = " or ".join("null" if t is type(None) else t.__name__ for t in allowed)
                raise self.error(name, f"is {value!r}, must be {names}")


_UNCHECKED_IN_COMPAT = ("page", "checked", "url")


def row_fields(case_type: type[Case]) -> dict[str, Any]:
    """Name and type of each field that a JSONL row may hold, besides `type`."""
    if case_type not in _FIELDS:
        hints = typing.get_type_hints(case_type)
        names = (f.name for f in dataclasses.fields(case_type) if f.metadata.get("row", True))
        _FIELDS[case_type] = {name: hints[name] for name in names}
    return _FIELDS[case_type]


_FIELDS: dict[type[Case], dict[str, Any]] = {}
