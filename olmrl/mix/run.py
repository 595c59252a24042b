"""The pattern that all verbs share: items with stable keys, each done once, recorded and counted.

    with Run("loc", output, settings, state=None) as run:
        process(run, items, work, workers=8)

`work(item)` writes its output atomically and returns an `Outcome`; it raises `Skip` for an item
that can never work (an encrypted PDF) and `Fail` for one that may work next time (a server is
down). A restart leaves out items that are done or skipped and retries failed ones. Any other
exception stops the verb; what is recorded stays recorded.
"""

from __future__ import annotations

import argparse
import collections
import errno
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeVar

from olmrl import storage
from olmrl.arguments import positive
from olmrl.data.bad_page import BadPage, UnreadPage
from olmrl.errors import is_of_machine, sentence
from olmrl.mix import files
from olmrl.mix.journal import Journal
from olmrl.mix.progress import ProgressDisplay, describe
from olmrl.suffixes import TWIN

_REASONS = 3
"""Reasons shown at the end."""
_FIGURES = re.compile(r"'[^']*'|\S*[/\d]\S*")
"""What differs between items with the same problem: figures, quoted words, paths."""
_NO_FILE = frozenset(("no such file", os.strerror(errno.ELOOP)))
T = TypeVar("T")
R = TypeVar("R")
Status = Literal["done", "skipped", "failed"]


class Skip(Exception):
    """This item can never be done; the argument is the reason."""


class Fail(Exception):
    """This item could not be done now; the argument is the reason. The next start retries it."""


class Outcome(NamedTuple):
    """What became of one item."""

    status: Status = "done"
    """`done`, `skipped` (never retried) or `failed` (retried at the next start)."""
    reason: str | None = None
    """Why it was skipped or failed, in one sentence."""
    facts: dict[str, float] = {}  # noqa: RUF012 - never mutated, NamedTuple default
    """Numbers for the summary to add up: pages, bytes, tokens, cost_usd, ..."""
    note: Any = None
    """What the verb must know about the item later, also after a restart (`Run.noted`)."""


class Run:
    """Journal, progress and summary of one verb in one output folder.

    Args:
        verb: Name of the verb.
        output: Output folder, local or URL.
        settings: Everything that shapes the output; a restart with other settings is refused.
        state: Folder for journal and summary; default `<output>/.mix/<verb>`.
        total: Number of items if known, for the progress display.
        lasting: Whether the folder stays; nobody is sent to one that does not.

    Raises:
        ValueError: another process is working here, the settings differ from the first start, or
            the folder cannot be written.
    """

    def __init__(
        self,
        verb: str,
        output: str,
        settings: dict[str, Any],
        *,
        state: str | None = None,
        total: int | None = None,
        lasting: bool = True,
    ) -> None:
        for folder in (output, state):
            if folder is not None:
                storage.check_target(folder)
        self.verb = verb
        self.output = output
        self.settings = settings
        self.lasting = lasting
        self.state = state or storage.join(output, ".mix", verb)
        self.journal = Journal(self.state, {"verb": verb, **settings})
        self.counts: collections.Counter[str] = collections.Counter()
        self.facts: collections.Counter[str] = collections.Counter()
        self.problems: dict[str, tuple[Status, str, dict[str, float]]] = {}
        self.noted: dict[str, Any] = {}
        """Notes of the items that are done, by key."""
        self.notes: dict[str, Any] = {}
        """Further keys of summary.json, set by the verb."""
        self.finished_keys: set[str] = set()
        """Keys of the items that are done or skipped."""
        self.events: list[dict[str, Any]] = []
        """All events since the first start, oldest first."""
        self._started = time.monotonic()
        self._lock = threading.Lock()
        for record in self.journal.records:
            self._fold(record)
        self.progress = ProgressDisplay(verb, total)
        self.progress.show(self.counts, self.facts)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, *_: object
    ) -> None:
        self.progress.close()
        full = isinstance(error, OSError) and error.errno in files.FATAL
        if not full:  # on a full disk, a second error would hide the first
            text = json.dumps(self.summary(kind), indent=2) + "\n"
            files.write_text(storage.join(self.state, "summary.json"), text)
            self.journal.close()
            if kind is None:
                self._tell()

    def _tell(self) -> None:
        """Say what became of the items, why some were left out, and where all of it stands."""
        self.progress.say(describe(self.counts, self.facts))
        grouped = alike(reason for _, reason, _ in self.problems.values())
        for reason, count in grouped[:_REASONS]:
            self.progress.say(f"  {count} x {reason}")
        if self.problems and self.lasting:
            self.progress.say(f"all reasons: {storage.join(self.state, 'summary.json')}")

    def end(self, source: str, wanted: str) -> int:
        """The verb's exit code, once it is closed: 1 as long as there are failed items.

        Args:
            source: What was read, as the user called it.
            wanted: What was looked for in it.

        Raises:
            ValueError: not one page came of it, and no other try would change that.
        """
        if self.counts["failed"]:
            return 1
        if not self.facts["pages"]:
            raise self.useless(source, wanted)
        return 0

    def useless(self, source: str, wanted: str) -> ValueError:
        """What to raise if nothing in the source is of use; see `end`."""
        reasons = [reason for _, reason, _ in self.problems.values()]
        why = f"; the first of {len(reasons)}: {reasons[0]}" if reasons else ""
        return ValueError(f"{source}: no usable {wanted} in it{why}")

    def finished(self, key: str) -> bool:
        """Whether an item needs no more work (done or skipped)."""
        return key in self.finished_keys

    def record(self, key: str, outcome: Outcome, *, durable: bool = False) -> None:
        """Record what became of an item."""
        row: dict[str, Any] = {"key": key, "status": outcome.status}
        if outcome.reason is not None:
            row["reason"] = outcome.reason
        if outcome.facts:
            row["facts"] = outcome.facts
        if outcome.note is not None:
            row["note"] = outcome.note
        with self._lock:
            self.journal.append(row, durable=durable)
            self._fold(row)
            self.progress.show(self.counts, self.facts)

    def leave_twins(self, names: Iterable[str]) -> None:
        """Record files as skipped whose name differs from another's in the suffix's case alone."""
        for name in names:
            if not self.finished(name):
                self.record(name, Outcome("skipped", TWIN))

    def tell_beside(self, found: int, beside: Mapping[str, Sequence[str]]) -> None:
        """Note how many items the source has, and say which of its files are none.

        Args:
            found: items, those included that this call leaves for later.
            beside: names of other files by what they are.
        """
        self.notes |= {"found": found, "beside": {kind: list(p) for kind, p in beside.items() if p}}
        if self.notes["beside"]:
            told = (f"{len(p)} {kind}, as {p[0]}" for kind, p in self.notes["beside"].items())
            self.progress.say(f"not taken: {'; '.join(told)}")

    def note_event(self, event: dict[str, Any]) -> None:
        """Record a step within an item, on disk before this returns (see `events`)."""
        with self._lock:
            self.journal.append({"event": event}, durable=True)
            self.events.append(event)

    def _fold(self, row: dict[str, Any]) -> None:
        if "event" in row:
            self.events.append(row["event"])
            return
        key, status, facts = row["key"], row["status"], row.get("facts", {})
        old = self.problems.pop(key, None)
        if old is not None:
            self.counts[old[0]] -= 1
            self.facts.subtract(old[2])
        elif key in self.finished_keys:
            return
        self.counts[status] += 1
        self.facts.update(facts)
        if status != "done":
            self.problems[key] = (status, row.get("reason", ""), facts)
        if row.get("note") is not None:
            self.noted[key] = row["note"]
        if status != "failed":
            self.finished_keys.add(key)

    def summary(self, stopped_by: type[BaseException] | None = None) -> dict[str, Any]:
        """The content of `summary.json`: totals since the first start, and all problems."""
        return {
            "verb": self.verb,
            "output": self.output,
            "complete": stopped_by is None and not self.counts["failed"],
            "stopped_by": stopped_by.__name__ if stopped_by else None,
            "settings": self.settings,
            "counts": {name: self.counts[name] for name in ("done", "skipped", "failed")},
            "facts": {name: _tidy(value) for name, value in sorted(self.facts.items())},
            **self.notes,
            "problems": [
                {"key": key, "status": status, "reason": reason}
                for key, (status, reason, _) in sorted(self.problems.items())
            ],
            "seconds_this_start": round(time.monotonic() - self._started, 1),
        }


def alike(reasons: Iterable[str]) -> list[tuple[str, int]]:
    """Reasons and how often they occur, the most frequent first.

    Those that differ in figures or names only are counted together, under the first of them.
    """
    first: dict[str, str] = {}
    counts: collections.Counter[str] = collections.Counter()
    for reason in reasons:
        kind = _FIGURES.sub("#", reason)
        first.setdefault(kind, reason)
        counts[kind] += 1
    return [(first[kind], count) for kind, count in counts.most_common()]


def _tidy(value: float) -> float:
    return int(value) if float(value).is_integer() else round(value, 6)


def unencodable(error: UnicodeEncodeError) -> str:
    """Why a text cannot be written."""
    found = error.object[error.start : error.start + 1]
    return f"its text is not valid Unicode (lone surrogate {found!a} at {error.start})"


def lost(bad: BadPage) -> Outcome:
    """What a page that cannot be used means for its item: one that cannot be read now may be later.

    A file that is not there is as good as none.
    """
    later = isinstance(bad, UnreadPage) and bad.reason not in _NO_FILE
    return Outcome("failed" if later else "skipped", bad.reason)


@contextmanager
def reading() -> Iterator[None]:
    """Let a file of the input that cannot be read fail its item, unless all others would too."""
    try:
        yield
    except OSError as error:
        if is_of_machine(error):
            raise
        raise Fail(sentence(error)) from error


def _guarded(work: Callable[[], Outcome]) -> Outcome:
    try:
        return work()
    except Skip as skip:
        return Outcome("skipped", str(skip))
    except Fail as fail:
        return Outcome("failed", str(fail))
    except BadPage as bad:
        return lost(bad)
    except files.UnsafeName as error:
        return Outcome("skipped", str(error))
    except UnicodeEncodeError as error:
        return Outcome("failed", unencodable(error))


def process(
    run: Run, items: Iterable[tuple[str, T]], work: Callable[[T], Outcome], *, workers: int
) -> None:
    """Do all unfinished items, `workers` at a time, in threads.

    Args:
        run: Records the outcomes.
        items: (key, item) pairs; read only as far ahead as the workers need.
        work: Does one item; may raise `Skip` or `Fail`.
        workers: Threads.
    """
    pending = ((key, item) for key, item in items if not run.finished(key))
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running: dict[Future[Outcome], str] = {}
        try:
            for key, item in pending:
                running[pool.submit(_guarded, lambda item=item: work(item))] = key  # type: ignore[misc]
                if len(running) >= 2 * workers:
                    _collect(run, running)
            while running:
                _collect(run, running)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _collect(run: Run, running: dict[Future[Outcome], str]) -> None:
    ready, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in ready:
        run.record(running.pop(future), future.result())


def in_order(work: Callable[[T], R], items: Iterable[T], *, workers: int) -> Iterator[R]:
    """Map in threads, with results in the order of the items and at most 2 x workers in flight."""
    source = iter(items)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        window = collections.deque(pool.submit(work, x) for x in islice(source, 2 * workers))
        try:
            while window:
                yield window.popleft().result()
                window.extend(pool.submit(work, x) for x in islice(source, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def add_run_arguments(parser: argparse.ArgumentParser, *, workers: int) -> None:
    """Add the options that all verbs share."""
    parser.add_argument(
        "--workers", type=positive, default=workers, help="parallel workers (default %(default)s)"
    )
    parser.add_argument(
        "--state", help="folder for journal and summary.json (default OUTPUT/.mix/VERB)"
    )
