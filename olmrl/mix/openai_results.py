"""Lines of batch request and result files: requests, answers, and what to request again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from olmrl.mix.api import RETRY_STATUS

_LASTING_CODES = frozenset(("content_filter", "invalid_request_error", "content_policy_violation"))


class Answer(NamedTuple):
    """Location of one line in a result file."""

    good: bool
    """Status 200."""
    again: bool
    """Not good, but asking again may help."""
    path: str
    """The (local) file."""
    offset: int
    """Byte offset of the line."""
    length: int
    """Length of the line in bytes, newline included."""


def read_ids(path: str, shown: str) -> list[str]:
    """The custom ids of a request file, in order.

    Args:
        path: Local file.
        shown: Its name in errors.

    Raises:
        ValueError: not JSON, a missing or duplicate custom_id, or no requests at all.
    """
    ids: dict[str, int] = {}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{shown}, line {number}: not valid JSON ({error})") from error
        custom_id = row.get("custom_id") if isinstance(row, dict) else None
        if not isinstance(custom_id, str) or not custom_id:
            raise ValueError(f"{shown}, line {number}: a request needs a text custom_id")
        if custom_id in ids:
            raise ValueError(
                f"{shown}, line {number}: custom_id {custom_id!r} repeats line {ids[custom_id]}"
            )
        ids[custom_id] = number
    if not ids:
        raise ValueError(f"{shown}: has no requests")
    return list(ids)


def _lines(path: str) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        yield from stream


def index_answers(paths: list[str]) -> dict[str, Answer]:
    """Where the best line of each custom id is, over result files given oldest attempt first.

    A good answer is never replaced; among bad ones the latest counts. Lines that are not result
    rows are ignored, and their requests count as unanswered.
    """
    found: dict[str, Answer] = {}
    for path in paths:
        offset = 0
        for line in _lines(path):
            row = _row(line)
            if row is not None:
                custom_id, good, again = row
                old = found.get(custom_id)
                if old is None or not old.good:
                    found[custom_id] = Answer(good, again, path, offset, len(line))
            offset += len(line)
    return found


def _row(line: bytes) -> tuple[str, bool, bool] | None:
    try:
        row: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("custom_id"), str):
        return None
    response = row.get("response")
    status = response.get("status_code") if isinstance(response, dict) else None
    if status == 200 and not row.get("error"):
        return row["custom_id"], True, False
    code = (row.get("error") or {}).get("code") if isinstance(row.get("error"), dict) else None
    lasting = code in _LASTING_CODES or (status is not None and status not in RETRY_STATUS)
    return row["custom_id"], False, not lasting


def read_answer(answer: Answer) -> bytes:
    """The line itself."""
    with open(answer.path, "rb") as stream:
        stream.seek(answer.offset)
        return stream.read(answer.length).rstrip(b"\n") + b"\n"


def unanswered(custom_id: str, reason: str) -> bytes:
    """The result line of a request that was never answered."""
    row = {
        "id": None,
        "custom_id": custom_id,
        "response": None,
        "error": {"code": "unanswered", "message": reason},
    }
    return json.dumps(row).encode("ascii") + b"\n"


def copy_requests(source: str, target: str, wanted: set[str]) -> int:
    """Copy the request lines with these custom ids; returns how many."""
    count = 0
    with open(target, "wb") as out:
        for line in _lines(source):
            if line.strip() and json.loads(line)["custom_id"] in wanted:
                out.write(line.rstrip(b"\n") + b"\n")
                count += 1
    return count
