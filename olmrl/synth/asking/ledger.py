"""What every question was answered and what it cost, in a journal that survives kill -9."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from olmrl.mix.journal import Journal

MOST_BAD = {"refused": 2, "truncated": 2}
"""Bad answers of one kind after which a question is given up; `_MOST_BAD` of the others."""
_MOST_BAD = 3


class Ledger:
    """All answers so far, good and bad, and what they cost; safe against kill -9.

    Raises:
        ValueError: another process is working with it.
    """

    def __init__(self, folder: str) -> None:
        self._journal = Journal(folder, {"verb": "from-pdfs"})
        self.good: dict[str, str] = {}
        """Text of the good answer of each question."""
        self.bad: dict[str, list[dict[str, Any]]] = defaultdict(list)
        """Bad answers to each question, oldest first."""
        self.ids: set[str] = set()
        """Of all requests that were answered."""
        self.by_page: dict[str, Counter[str]] = defaultdict(Counter)
        """calls_made, tokens, cost_usd and seconds of each page."""
        self.calls: Counter[str] = Counter()
        """Calls by `stage: outcome`."""
        self.models: Counter[str] = Counter()
        """Answers by the model that the endpoint said it was."""
        self.models_of: dict[str, Counter[str]] = defaultdict(Counter)
        """The same of each page."""
        self.usd = 0.0
        self._lock = threading.Lock()
        for record in self._journal.records:
            self._fold(record)

    def add(self, record: dict[str, Any]) -> None:
        """Write down what became of a request, on disk before this returns."""
        with self._lock:
            self._journal.append(record, durable=True)
            self._fold(record)

    def _fold(self, record: Mapping[str, Any]) -> None:
        if record["outcome"] != "lost":
            self.ids.add(record["id"])
        self.calls[f"{record['stage']}: {record['outcome']}"] += 1
        if record["outcome"] == "good":
            self.good[record["key"]] = record["text"]
        elif record["outcome"] != "lost":
            self.bad[record["key"]].append(dict(record))
        if record.get("model"):
            self.models[record["model"]] += 1
            self.models_of[record["page"]][record["model"]] += 1
        facts = record["facts"]
        self.usd += facts.get("cost_usd", 0.0)
        self.by_page[record["page"]].update({"calls_made": 1, **facts})

    def close(self) -> None:
        """Release the journal."""
        self._journal.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def given_up(bad: Sequence[Mapping[str, Any]], max_tokens: int) -> str:
    """Why a question is not asked again; empty: it may be.

    An answer that was cut off counts only as long as no more tokens are allowed than it had.
    """
    counted = [
        record
        for record in bad
        if record["outcome"] != "truncated" or record["max_tokens"] >= max_tokens
    ]
    for kind, count in Counter(record["outcome"] for record in counted).items():
        if count >= MOST_BAD.get(kind, _MOST_BAD):
            last = next(r for r in reversed(counted) if r["outcome"] == kind)
            return f"{kind} {count} times, last: {last['reason']}" if count > 1 else last["reason"]
    return ""
