"""Questions by the hundred through a batch API, at half the price; the same answers and limits.

    FOLDER/requests/*.jsonl   what is being asked; removed once the answers are written down
    FOLDER/answers/*.jsonl    what came back

Files, batches, retries and what happens after kill -9 are those of `mix openai-run`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmrl import storage
from olmrl.data.bad_page import BadPage
from olmrl.mix import files
from olmrl.mix.openai_results import index_answers, read_answer
from olmrl.mix.verbs import openai_run
from olmrl.synth.asking.asker import Asker, is_refusal
from olmrl.synth.asking.question import NotNow, Question, Request, Unanswered

MAX_BYTES = 150_000_000
"""Of a request file; OpenAI takes 200 MB."""
MAX_REQUESTS = 50_000


@dataclass
class BatchAsker:
    """Asks many questions at once.

    Args:
        asker: Judges and writes down each answer; its endpoint serves the batches.
        folder: For request and answer files, local.
        base_url: Of the endpoint.
        parsers: Reader of the answers of each stage (`Question.parse`).
        poll_s: Seconds between looks at a batch.
    """

    asker: Asker
    folder: str
    base_url: str
    parsers: Mapping[str, Callable[[str], Any]]
    poll_s: float = 30.0
    _stopped: str = ""
    """Why not everything was asked."""
    _unreadable: dict[str, BadPage] = field(default_factory=dict)

    def ask_all(self, questions: Sequence[Question]) -> list[Any]:
        """The answer to each question, or the `Unanswered` or `NotNow` that there is instead.

        Raises:
            ValueError: the endpoint refuses or cannot be reached.
        """
        self._finish()  # what an earlier start asked and did not see answered
        while missing := self._missing(questions):
            before = len(self.asker.ledger.ids)
            self._write(missing)
            self._finish()
            self.asker.release_all()
            if len(self.asker.ledger.ids) == before:
                break  # nothing was answered; the next call tries again
        return [self._outcome(question) for question in questions]

    def _outcome(self, question: Question) -> Any:
        if question.page in self._unreadable:
            return self._unreadable[question.page]
        try:
            answer = self.asker.known(question)
        except Unanswered as error:
            return error
        reason = self._stopped or f"{question.stage}: not answered this time"
        return NotNow(reason) if answer is None else answer

    def _missing(self, questions: Sequence[Question]) -> list[Question]:
        """Questions to be asked now, as far as the money goes."""
        found: list[Question] = []
        for question in questions:
            try:
                readable = question.page not in self._unreadable
                if readable and self.asker.known(question) is None:
                    self.asker.reserve(question)
                    found.append(question)
            except Unanswered:
                continue
            except NotNow as error:
                self._stopped = str(error)
                break
        return found

    def _write(self, questions: Sequence[Question]) -> None:
        """Write request files, and beside each what its requests are about."""
        requests = [self.asker.request(question) for question in questions]
        mark = hashlib.sha256("".join(r.id for r in requests).encode("ascii")).hexdigest()[:12]
        # a new name and new ids each time: a batch of the same content would be taken for the same
        turn = len(list(self._folder("answers").glob("*.jsonl")))
        rows: list[str] = []
        lines: list[str] = []
        size = part = 0
        for question, request in zip(questions, requests, strict=True):
            custom_id = f"{request.id}.{turn}"
            try:
                line = _line(custom_id, self.asker.dialect.speak(self.asker.body(question)))
            except BadPage as bad:
                self._unreadable[question.page] = bad
                continue
            if rows and (size + len(line) > MAX_BYTES or len(rows) == MAX_REQUESTS):
                self._write_part(f"{turn:04d}-{mark}-{part:03d}", rows, lines)
                rows, lines, size, part = [], [], 0, part + 1
            told = {name: getattr(request, name) for name in _TOLD}
            rows.append(json.dumps({"custom_id": custom_id, **told}))
            lines.append(line)
            size += len(line)
        if rows:
            self._write_part(f"{turn:04d}-{mark}-{part:03d}", rows, lines)

    def _write_part(self, name: str, rows: list[str], lines: list[str]) -> None:
        files.write_lines(str(self._folder("index") / f"{name}.jsonl"), rows)
        files.write_lines(str(self._folder("requests") / f"{name}.jsonl"), lines)

    def _finish(self) -> None:
        """Wait for everything that was asked, and write its answers down."""
        if not list(self._folder("requests").glob("*.jsonl")):
            return
        openai_run.run_with(self.asker.api, self._options())
        for path in sorted(self._folder("requests").glob("*.jsonl")):
            index, answers = (self._folder(name) / path.name for name in ("index", "answers"))
            if answers.exists():
                self._settle(str(answers), _requests(index, self.parsers))
                path.unlink()

    def _options(self) -> argparse.Namespace:
        """Of `mix openai-run`."""
        return argparse.Namespace(
            input=str(self._folder("requests")),
            output=str(self._folder("answers")),
            state=str(self._folder("state")),
            base_url=self.base_url,
            price=None,
            attempts=3,
            max_gb=25.0,
            poll=self.poll_s,
            window="24h",
            keep_remote=False,
            clear_files=False,
        )

    def _settle(self, path: str, requests: dict[str, Request]) -> None:
        """Write down each answer of a file, unless it was before."""
        for custom_id, answer in index_answers([path]).items():
            request = requests.get(custom_id)
            if request is None or request.id in self.asker.ledger.ids:
                continue
            response = json.loads(read_answer(answer)).get("response") or {}
            body = response.get("body") or {}
            if answer.good:
                self.asker.settle(request, body, 0.0)
            elif is_refusal(code := str((body.get("error") or {}).get("code") or "")):
                self.asker.refuse(request, f"HTTP {response.get('status_code')}: {code}")

    def _folder(self, name: str) -> Path:
        return Path(self.folder) / name


def _line(custom_id: str, body: dict[str, Any]) -> str:
    return json.dumps(
        {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    )


_TOLD = ("id", "key", "stage", "page", "tokens")


def _requests(index: Path, parsers: Mapping[str, Callable[[str], Any]]) -> dict[str, Request]:
    found = {}
    for _, row in storage.read_jsonl(index):
        custom_id, tokens = row.pop("custom_id"), tuple(row.pop("tokens"))
        found[custom_id] = Request(**row, tokens=tokens, parse=parsers[row["stage"]])
    return found
