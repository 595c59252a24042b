"""Batch request files -> results: upload, track, collect, retry.

For every INPUT/*.jsonl, OUTPUT gets a file of the same name with one result line per request, in
the order of the requests. Requests that expired, were rate-limited or got lost are sent again in
another batch, up to --attempts batches in all. The verb can be killed and restarted at any time: it
finds its batches on the server and never pays for one twice. New request files are picked up while
it runs. The server's error files are kept in OUTPUT/errors/.
"""

# See docs/formats.md#batch-jobs

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

from olmrl import storage
from olmrl.arguments import positive, real
from olmrl.mix import files, openai_results, prices
from olmrl.mix.api import Api, ApiError, add_api_arguments, key_from_environment
from olmrl.mix.openai_batches import ENDED, QUEUE_FULL, Account, Attempt, batch_error
from olmrl.mix.run import Outcome, Run, add_run_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("input", help="folder (local or s3://) with request *.jsonl")
    parser.add_argument("output", nargs="?", help="folder for the results (default INPUT_done)")
    parser.add_argument("--attempts", type=positive, default=3, help="maximum batches per request")
    parser.add_argument(
        "--max-gb",
        type=real(0, above=True),
        default=25.0,
        help="request gigabytes on the server at one time",
    )
    parser.add_argument("--poll", type=real(0), default=30.0, help="seconds between polls")
    parser.add_argument("--window", default="24h", help="completion window of the batches")
    parser.add_argument("--keep-remote", action="store_true", help="leave the files on the server")
    parser.add_argument(
        "--clear-files", action="store_true", help="only delete the files that olmrl uploaded"
    )
    add_api_arguments(parser)
    add_run_arguments(parser, workers=1)


def run(options: argparse.Namespace) -> int:
    """Run the batches; see the module."""
    key = key_from_environment(options.api_key_env)
    wait = min(60.0, max(options.poll, 0.05))
    with Api(options.base_url, key, attempts=options.tries, longest_wait_s=wait) as api:
        return run_with(api, options)


def run_with(api: Api, options: argparse.Namespace) -> int:
    """Run the batches on a server; the exit code is 1 if requests have no answer.

    Raises:
        ValueError: the server refuses or cannot be reached.
    """
    output = options.output or options.input.rstrip("/") + "_done"
    price = prices.parse(options.price) if options.price else None
    account = Account(api, pause_s=min(2.0, options.poll))
    try:
        if options.clear_files:
            account.forget(*account.our_files())
            return 0
        settings = {"input": options.input, "base_url": options.base_url}
        with Run("openai-run", output, settings, state=options.state) as verb:
            BatchRun(verb, account, options, price).until_done()
            return 1 if verb.counts["failed"] else 0
    except ApiError as error:
        raise ValueError(f"{options.base_url}: {error}") from error


class BatchRun:
    """All request files of a folder on their way through the server's batch queue.

    Args:
        verb: Journal and summary.
        account: The server.
        options: The verb's options.
        price: The user's price, or None for the list price.
    """

    def __init__(
        self, verb: Run, account: Account, options: argparse.Namespace, price: prices.Price | None
    ) -> None:
        self.verb = verb
        self.account = account
        self.options = options
        self.price = price
        self.budget = int(options.max_gb * 1e9)
        self.jobs: dict[str, Job] = {}
        self.bad: set[str] = set()

    def until_done(self) -> None:
        """Work until every request file has its result file."""
        while True:
            self.discover()
            moved = [job.step() for job in self.jobs.values() if not job.closed]
            if all(job.closed for job in self.jobs.values()):
                self.discover()
                if all(job.closed for job in self.jobs.values()):
                    break
            if not any(moved):
                time.sleep(self.options.poll)
        if not self.jobs and not any(self.verb.counts.values()):
            raise ValueError(f"{self.options.input}: no request files (*.jsonl) in it")

    def discover(self) -> None:
        """Pick up new request files; unusable ones are recorded once."""
        root = self.options.input
        for path in files.listing(root, ".jsonl"):
            name = files.relative(path, root).removesuffix(".jsonl")
            if "/" in name or name in self.jobs or name in self.bad or self.verb.finished(name):
                continue
            try:
                job = Job(self, name, path)
            except ValueError as error:
                self.bad.add(name)
                self.verb.record(name, Outcome("failed", str(error)))
                continue
            self.jobs[name] = job

    def in_flight(self) -> int:
        """Request bytes on the server."""
        return sum(
            job.attempt.size for job in self.jobs.values() if job.batch_id and not job.closed
        )


class Job:
    """One request file; its state follows from the journal's events."""

    def __init__(self, owner: BatchRun, name: str, path: str) -> None:
        self.owner = owner
        self.verb = owner.verb
        self.account = owner.account
        self.name = name
        self.path = path
        self.closed = False
        self.batch_id: str | None = None
        self.file_id: str | None = None
        self.used = 0
        with files.fetched(path) as local:
            self.ids = openai_results.read_ids(local, path)
            size = files.size_of(local)
            sha256 = files.sha256_of(local)
        if size > owner.budget:
            raise ValueError(
                f"{path}: {size} bytes, more than --max-gb {owner.options.max_gb:g} allows"
            )
        self.attempt = Attempt(name, 0, path, sha256, size)
        self._replay(sha256)

    def _replay(self, sha256: str) -> None:
        """Restore the state that earlier starts recorded."""
        events = self._events()
        if events and events[0]["sha256"] != sha256:
            raise ValueError(
                f"{self.path}: its content changed after it was submitted; give it a new name"
            )
        if not events:
            self._note("seen", sha256=sha256)
        for event in events:
            self._apply(event)

    def _note(self, did: str, **more: Any) -> None:
        event = {"part": self.attempt.label, "did": did, **more}
        self.verb.note_event(event)
        self._apply(event)

    def _apply(self, event: dict[str, Any]) -> None:
        did = event["did"]
        if did == "uploaded":
            self.file_id = event["file"]
        elif did == "created":
            self.batch_id = event["batch"]
        elif did == "fetched":
            self.batch_id = self.file_id = None
            self.used += event["counts"]
            self.attempt = self.attempt._replace(number=self.attempt.number + 1)

    def step(self) -> bool:
        """Advance as far as possible without waiting; returns whether anything happened."""
        if self.batch_id is not None:
            return self._poll()
        if self.attempt.number and not self._prepare_next():
            self._close()
            return True
        if self.owner.in_flight() + self.attempt.size > self.owner.budget:
            return False
        self._submit()
        return True

    def _submit(self) -> None:
        batch = self.account.find_batch(self.attempt.key)
        if batch is None:
            if self.file_id is None:
                self._note("uploaded", file=self.account.upload(self.attempt))
            assert self.file_id is not None
            batch = self.account.create(self.attempt, self.file_id, self.owner.options.window)
        self._note("created", batch=batch["id"])
        self._say(f"batch {batch['id']}, {self.attempt.size:,} bytes")

    def _poll(self) -> bool:
        batch = self.account.api.get_json(f"batches/{self.batch_id}")
        if batch.get("status") not in ENDED:
            return False
        self._fetch(batch)
        code, message = batch_error(batch) if batch["status"] == "failed" else ("", "")
        if message:
            self._say(f"batch {self.batch_id} failed: {code} {message}")
        queue_full = code == QUEUE_FULL
        remote = [batch.get(f"{kind}_file_id") for kind in ("input", "output", "error")]
        self._note("fetched", counts=0 if queue_full else 1, error=message, remote=remote)
        return not queue_full

    def _fetch(self, batch: dict[str, Any]) -> None:
        """Save the result files of an ended batch to disk before anything is deleted."""
        for kind in ("output", "error"):
            file_id = batch.get(f"{kind}_file_id")
            if not file_id:
                continue
            try:
                content = self.account.api.get_bytes(f"files/{file_id}/content")
            except ApiError as error:
                if error.status != 404:
                    raise
                self._say(f"{kind} file {file_id} of batch {self.batch_id} is gone from the server")
                continue
            files.write(self._stored(self.attempt.number, kind), content, durable=True)
            if kind == "error":
                name = f"{self.name}.attempt{self.attempt.number}.jsonl"
                files.write(storage.join(self.verb.output, "errors", name), content)

    def _stored(self, number: int, kind: str) -> str:
        return storage.join(self.verb.state, "parts", f"{self.name}.{number}.{kind}.jsonl")

    def _prepare_next(self) -> bool:
        """Write the requests that are worth another attempt; False if there are none."""
        with self._answers() as answers:
            again = {i for i in self.ids if i not in answers or answers[i].again}
        if not again or self.used >= self.owner.options.attempts:
            return False
        path = self._stored(self.attempt.number, "requests")
        with files.fetched(self.path) as source, files.staged(path) as local:
            openai_results.copy_requests(source, local, again)
        with files.fetched(path) as local:
            size, sha256 = files.size_of(local), files.sha256_of(local)
        self.attempt = self.attempt._replace(path=path, size=size, sha256=sha256)
        return True

    @contextlib.contextmanager
    def _answers(self) -> Iterator[dict[str, openai_results.Answer]]:
        """Index of all stored result lines of this job."""
        with contextlib.ExitStack() as stack:
            paths = []
            for number in range(self.attempt.number):
                for kind in ("output", "error"):
                    stored = self._stored(number, kind)
                    if storage.exists(stored):
                        paths.append(stack.enter_context(files.fetched(stored)))
            yield openai_results.index_answers(paths)

    def _close(self) -> None:
        """Merge all attempts into the result file and record the totals."""
        facts: dict[str, float] = {"requests": len(self.ids), "unanswered": 0, "refused": 0}
        reason = self._last_error() or "no attempt answered it"
        target = storage.join(self.verb.output, f"{self.name}.jsonl")
        with self._answers() as answers, files.staged(target) as local, open(local, "wb") as out:
            for custom_id in self.ids:
                answer = answers.get(custom_id)
                if answer is None:
                    facts["unanswered"] += 1
                    out.write(openai_results.unanswered(custom_id, reason))
                    continue
                line = openai_results.read_answer(answer)
                out.write(line)
                if answer.good:
                    self._add_usage(facts, line)
                else:
                    facts["unanswered" if answer.again else "refused"] += 1
        left = int(facts["unanswered"])
        text = f"{left} of {len(self.ids)} requests have no answer after {self.used} attempts: "
        outcome = Outcome("failed", text + reason, facts) if left else Outcome(facts=facts)
        self._clean_up()
        self.verb.record(self.name, outcome, durable=True)
        self.closed = True
        self._say("done" if not left else text + reason)

    def _clean_up(self) -> None:
        """Delete from the server what is safely stored here."""
        if not self.owner.options.keep_remote:
            for event in self._events():
                self.account.forget(*event.get("remote", ()))

    def _events(self) -> list[dict[str, Any]]:
        return [e for e in self.verb.events if e["part"].rpartition("#")[0] == self.name]

    def _add_usage(self, facts: dict[str, float], line: bytes) -> None:
        body = json.loads(line)["response"].get("body") or {}
        model = str(body.get("model", ""))
        usage = prices.facts(body.get("usage"), model, self.owner.price, prices.BATCH_SHARE)
        for name, value in usage.items():
            facts[name] = facts.get(name, 0) + value

    def _last_error(self) -> str:
        errors = [event.get("error") for event in self._events() if event["did"] == "fetched"]
        return str(errors[-1] or "") if errors else ""

    def _say(self, text: str) -> None:
        self.verb.progress.say(f"{self.name}: {text}")
