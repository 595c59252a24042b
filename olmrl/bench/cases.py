"""`load_case`: turns a row of a bench JSONL file into the case of its type.

Rows: docs/formats.md#bench-tests.
"""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from typing import Any

from olmrl.bench.case import Case, CaseError, Verdict, row_fields
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

__all__ = ["TYPES", "Case", "CaseError", "Verdict", "load_case"]

TYPES: dict[str, type[Case]] = {
    case_type.type: case_type
    for case_type in (
        PresentCase,
        AbsentCase,
        OrderCase,
        FormatCase,
        TableCase,
        MathCase,
        FootnoteCase,
        BaselineCase,
    )
}
"""The class of each type of test."""


def load_case(test: Mapping[str, Any] | str, *, compat: bool = False) -> Case:
    """Builds the case of one test.

    Args:
        test: The row of a bench JSONL file, parsed or as text.
        compat: Validate and judge exactly as the public benchmark does.

    Raises:
        CaseError: Not a JSON object; an unknown type; a missing, unknown or invalid field.
    """
    parsed = _read_json(test) if isinstance(test, str) else test
    if not isinstance(parsed, Mapping):
        raise CaseError(f"not a JSON object: got {type(parsed).__name__}")
    row = dict(parsed)
    label = f"test {row['id']!r}" if "id" in row else "a test without an id"
    name = row.pop("type", None)
    if not isinstance(name, str) or name not in TYPES:
        raise CaseError(f"{label}: type is {name!r}, must be one of {sorted(TYPES)}")
    case_type = TYPES[name]
    known = row_fields(case_type)
    for key in row:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {sorted(known)}"
            raise CaseError(f"{label} ({name}): unknown field {key!r}, {hint}")
    for item in dataclasses.fields(case_type):
        if item.default is dataclasses.MISSING and item.name not in row:
            raise CaseError(f"{label} ({name}): the field {item.name!r} is missing")
    return case_type(**row, compat=compat)


def _read_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CaseError(f"not a JSON object: {error}") from error
