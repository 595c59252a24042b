"""Tests of Omni Parse Bench as tests of a bench folder, where both mean the same.

Its data set (package omni-parse-bench 0.2; tests under CC BY 4.0 and the licences of their sources)
has `pages/<page id>.pdf` and `gold/<page id>.json`. Which of its tests become which, and which have
no counterpart: docs/formats.md#omni-parse-bench.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmrl import storage
from olmrl.bench.case import CaseError
from olmrl.bench.cases import load_case

RELATIONS = ("up", "down", "left", "right", "top_heading", "left_heading")
_FILES = {
    "present": "omni_text.jsonl",
    "math": "omni_math.jsonl",
    "order": "omni_order.jsonl",
    "table": "omni_tables.jsonl",
}


class NoCounterpart(ValueError):
    """A test that no test type of a bench folder expresses; says why."""


@dataclass
class Imported:
    """What became of a data set's tests."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """By JSONL file."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Tests without a counterpart, by reason."""
    pages: set[str] = field(default_factory=set)
    """Ids of the pages with a test."""


def convert(test: Mapping[str, Any], page_id: str) -> dict[str, Any]:
    """One test of a gold file as a row of a bench file.

    Raises:
        NoCounterpart: it asks something that no test type here asks, or fails its conditions.
        CaseError: it is not a test of Omni Parse Bench.
    """
    try:
        kind, arguments, name = test["test_type"], dict(test["args"]), test["id"]
        row = {"pdf": f"{page_id}.pdf", "page": 1, "id": name, **_fields(kind, arguments)}
    except (KeyError, TypeError, AttributeError) as error:
        raise CaseError(f"{page_id}: a test without a usable field ({error!r})") from error
    try:
        return load_case(row).to_row()
    except CaseError as error:
        raise NoCounterpart("fails a condition of its type here") from error


def _fields(kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if kind == "present":
        content = arguments["content"]
        if "latex" in content:
            return {"type": "math", "math": content["latex"]}
        if "number" in content:
            raise NoCounterpart("a number, compared digit by digit")
        return {"type": "present", "case_sensitive": False, **_text(content, "text")}
    if kind == "order":
        return {
            "type": "order",
            **_text(arguments["before"], "before"),
            **_text(arguments["after"], "after"),
        }
    if kind == "table_cell":
        beyond = [role for role in arguments if role not in ("cell", *RELATIONS)]
        if beyond:
            raise NoCounterpart(f"a cell with {', '.join(sorted(beyond))}")
        fields: dict[str, Any] = {"type": "table"}
        for role, content in arguments.items():
            fields |= _text(content, role)
        return fields
    raise NoCounterpart(f"test type {kind}")


def _text(content: Mapping[str, Any], role: str) -> dict[str, Any]:
    return {role: content["text"], "max_diffs": content["max_diffs"]}


def read(dataset: Path) -> Imported:
    """Convert all tests of a data set.

    Raises:
        ValueError: not such a data set, or a gold file that cannot be read; names it.
    """
    files = sorted((dataset / "gold").glob("*.json"))
    if not files:
        raise ValueError(f"{dataset}: not a data set of Omni Parse Bench, it has no gold/*.json")
    imported = Imported()
    for file in files:
        _read_page(dataset, file, imported)
    return imported


def _read_page(dataset: Path, file: Path, imported: Imported) -> None:
    try:
        tests = json.loads(file.read_text("utf-8"))["tests"]
        if not isinstance(tests, list):
            raise TypeError("tests is not a list")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: must be a JSON object with a list of tests") from error
    page_id = file.stem
    if not (dataset / "pages" / f"{page_id}.pdf").is_file():
        imported.left_out["a page that is not a PDF"] += len(tests)
        return
    for test in tests:
        try:
            row = convert(test, page_id)
        except NoCounterpart as error:
            imported.left_out[str(error)] += 1
        except CaseError as error:
            raise ValueError(f"{file}: {error}") from error
        else:
            imported.rows[_FILES[row["type"]]].append(row)
            imported.pages.add(page_id)


def write(dataset: Path, folder: Path) -> Imported:
    """Make a bench folder of a data set: its PDFs that have a test, and the tests.

    Raises:
        ValueError: see `read`; or the folder exists and is not empty.
    """
    if folder.exists() and any(path.name != "pdfs" for path in folder.iterdir()):
        raise ValueError(f"{folder}: is not empty")
    imported = read(dataset)
    # a call that broke off left some of these, and no test
    pdfs = {f"{page_id}.pdf" for page_id in imported.pages}
    if (folder / "pdfs").exists() and not {p.name for p in (folder / "pdfs").iterdir()} <= pdfs:
        raise ValueError(f"{folder}: is not empty")
    for name in sorted(pdfs):
        storage.write_bytes(folder / "pdfs" / name, (dataset / "pages" / name).read_bytes())
    for name, rows in imported.rows.items():
        storage.write_jsonl(folder / name, rows)
    return imported


def summary(imported: Imported) -> str:
    """How many tests became what, and why others were left out; one line each."""
    kept = {file: len(rows) for file, rows in sorted(imported.rows.items())}
    lines = [f"{sum(kept.values())} tests on {len(imported.pages)} pages"]
    lines += [f"  {file}: {count}" for file, count in kept.items()]
    lines.append(f"{imported.left_out.total()} tests left out")
    lines += [f"  {reason}: {count}" for reason, count in imported.left_out.most_common()]
    return "\n".join(lines)
