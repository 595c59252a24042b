"""The life of one request file at a batch API, safe against kill -9 and lost responses.

    seen -> uploaded -> created -> ended -> fetched      (one attempt; events in the run's journal)
                                              |-> next attempt with the requests that may still work

Creating a batch costs money, so one is only created if the account has none with the same key
(content hash and attempt number) in its metadata. This also finds a batch whose creation was not
confirmed, or not recorded because the process died.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from olmrl.mix import files
from olmrl.mix.api import Api, ApiError, json_of

ENDED = frozenset(("completed", "failed", "expired", "cancelled"))
"""Final batch states."""

QUEUE_FULL = "token_limit_exceeded"
"""Error code of a batch rejected because the queue is full; it does not use up an attempt."""


class Attempt(NamedTuple):
    """One submission of a request file."""

    name: str
    """Stem of the request file, unique in the folder."""
    number: int
    """0 for the first."""
    path: str
    """The file to upload (the original, or the remaining requests)."""
    sha256: str
    """Hash of the file's content."""
    size: int
    """Bytes."""

    @property
    def label(self) -> str:
        """Name and number: its key in the journal."""
        return f"{self.name}#{self.number}"

    @property
    def key(self) -> str:
        """Identifies this submission on the server."""
        return f"{self.sha256[:40]}-{self.number}"


class Account:
    """Our files and batches on the server; listed once per process, and again after any doubt.

    Args:
        api: The server.
        pause_s: Seconds to wait before looking up an unconfirmed creation (lists may lag).
    """

    def __init__(self, api: Api, pause_s: float = 2.0) -> None:
        self.api = api
        self.pause_s = pause_s
        self._batches: dict[str, dict[str, Any]] | None = None
        self._files: dict[str, str] | None = None

    def find_batch(self, key: str) -> dict[str, Any] | None:
        """The batch with this key that is running or has results to fetch."""
        if self._batches is None:
            self._batches = {}
            for batch in self.api.pages("batches"):
                found = (batch.get("metadata") or {}).get("olmrl_key")
                if found and batch.get("status") not in ("failed", "cancelled"):
                    self._batches.setdefault(found, batch)  # newest first
        return self._batches.get(key)

    def find_file(self, key: str) -> str | None:
        """Id of the fully uploaded request file with this key."""
        if self._files is None:
            self._files = {
                item["filename"]: item["id"]
                for item in self.api.pages("files", purpose="batch")
                if item.get("status") != "error"
            }
        return self._files.get(_file_name(key))

    def upload(self, attempt: Attempt) -> str:
        """Upload a request file exactly once and return its id."""

        def send() -> str:
            with files.fetched(attempt.path) as local, open(local, "rb") as stream:
                form = {"file": (_file_name(attempt.key), stream, "application/jsonl")}
                answer = self.api.once("POST", "files", data={"purpose": "batch"}, files=form)
            return str(json_of(answer)["id"])

        return str(self._create(send, lambda: self.find_file(attempt.key)))

    def create(self, attempt: Attempt, file_id: str, window: str) -> dict[str, Any]:
        """Create the batch of an uploaded file exactly once."""
        body = {
            "input_file_id": file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": window,
            "metadata": {"olmrl_key": attempt.key, "olmrl_part": attempt.label[:200]},
        }
        batch: dict[str, Any] = self._create(
            lambda: json_of(self.api.once("POST", "batches", json=body)),
            lambda: self.find_batch(attempt.key),
        )
        return batch

    def _create(self, make: Callable[[], Any], find: Callable[[], Any]) -> Any:
        """Create something unless it exists; after an unclear response, look before retrying."""
        for left in reversed(range(self.api.attempts)):
            found = find()
            if found is not None:
                return found
            try:
                return make()
            except ApiError as error:
                if not error.transient or not left:
                    raise
                time.sleep(error.wait_s if error.wait_s is not None else self.pause_s)
                if error.status != 429:
                    self._batches = self._files = None
        raise AssertionError("unreachable")

    def forget(self, *file_ids: str | None) -> None:
        """Delete files on the server; missing ones are ignored."""
        for file_id in file_ids:
            if file_id:
                self.api.delete(f"files/{file_id}")

    def our_files(self) -> list[str]:
        """Ids of all files that this tool uploaded and that still exist."""
        return [
            item["id"]
            for item in self.api.pages("files", purpose="batch")
            if str(item.get("filename", "")).startswith("olmrl-")
        ]


def _file_name(key: str) -> str:
    return f"olmrl-{key}.jsonl"


def batch_error(batch: dict[str, Any]) -> tuple[str, str]:
    """Code and message of a batch that failed as a whole."""
    rows = (batch.get("errors") or {}).get("data") or [{}]
    return str(rows[0].get("code") or ""), str(rows[0].get("message") or "no reason given")
