"""Paths and writers of the run directory (docs/design.md#the-run-directory)."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from PIL import Image

from olmrl import storage
from olmrl.metrics import iterate_rows, read_rows
from olmrl.types import Page, PromptGroup, Rollout, UInt8Array

_BAD, _DROPPED, _GROUPS = "bad_pages.jsonl", "dropped_pages.jsonl", "dropped_groups.jsonl"
_LISTINGS = (_BAD, _DROPPED, _GROUPS)
_FORMAT = 2
"""Of a run directory: what a run, once begun, must go on doing as it did. 2: limits draw pages."""


class _Listing:
    """A JSONL file that lists each thing once, across resumes; safe for many threads."""

    def __init__(self, path: Path, key: Callable[[dict[str, Any]], tuple[Any, ...]]) -> None:
        """Describe the file; nothing is read or written yet. `key` identifies what a row lists."""
        self._path = path
        self._key = key
        self._known: set[tuple[Any, ...]] | None = None
        self._lock = threading.Lock()

    def rows(self) -> list[dict[str, Any]]:
        """What is listed."""
        return read_rows(self._path) if self._path.exists() else []

    def add(self, row: dict[str, Any]) -> None:
        """List a thing unless it is listed already."""
        with self._lock:
            if self._known is None:
                rows = self.rows()
                self._known = {self._key(known) for known in rows}
                # Rewritten: a killed run may have left half a row at the end.
                storage.write_jsonl(self._path, rows)
            if self._key(row) not in self._known:
                self._known.add(self._key(row))
                _append(self._path, row)


def _is_before(row: dict[str, Any], step: int) -> bool:
    """Whether a row belongs to what a checkpoint holds; groups dropped after its step do not."""
    refilling = any(name.startswith("refill/") for name in row)
    return bool(row["step"] < step + (not refilling))


def _is_evaluation(row: dict[str, Any]) -> bool:
    """Whether a row tells of held-out pages; rows of training steps do not."""
    return any(name.startswith("eval/") for name in row)


class RunDirectory:
    """Paths and writers of one run; local folder."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.metrics = self.path / "metrics.jsonl"
        self.steps = self.path / "steps.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.found = self.path / "pages_found.json"
        self.report = self.path / "report.html"
        self._format = self.path / "format"
        self._bad = _Listing(self.path / _BAD, bad_page_place)
        self._dropped = _Listing(self.path / _DROPPED, itemgetter("path", "page", "rule"))

    def create(self, config_text: str) -> None:
        """Make the folder and write the resolved configuration.

        What a start that came to nothing has listed is removed.
        """
        if not self.has_results:
            for file in _LISTINGS:
                (self.path / file).unlink(missing_ok=True)
            for name in ("rollouts", "evaluations"):
                for written in (self.path / name).glob("step-*.json"):
                    written.unlink()
            self.path.mkdir(parents=True, exist_ok=True)
            storage.write_text(self._format, f"{_FORMAT}\n")
        for name in ("rollouts", "evaluations", "pages", "checkpoints"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        storage.write_text(self.path / "config.yaml", config_text)

    @property
    def is_older(self) -> bool:
        """Whether a run began here under an older format."""
        known = int(self._format.read_text("utf-8")) if self._format.exists() else 1
        return self.started and known < _FORMAT

    def page_seed(self, seed: int) -> int | None:
        """Seed by which limits draw pages; None in an older run, which took the first."""
        return None if self.is_older else seed

    @property
    def started(self) -> bool:
        """Whether a run has written here."""
        return (self.path / "config.yaml").exists()

    @property
    def has_results(self) -> bool:
        """Whether a run got further than its start: it measured, or saved weights."""
        measured = self.metrics.exists() and self.metrics.stat().st_size > 0
        return measured or any(self.checkpoints.glob("step-*"))

    def wandb_id(self) -> str:
        """Id of this run at W&B, the same after a resume."""
        path = self.path / "wandb_id"
        if not path.exists():
            storage.write_text(path, secrets.token_hex(4))
        return path.read_text("utf-8")

    def write_step(self, step: int, pages: Sequence[tuple[int, int, str]]) -> None:
        """Write the pages of a step: epoch, place in its order, page id."""
        _append(self.steps, {"step": step, "pages": [list(page) for page in pages]})

    def continue_from(self, step: int) -> None:
        """Remove what was written after a step, so that a resumed run records no step twice.

        Args:
            step: step of the checkpoint that the run continues from; 0: it starts over.
        """
        for path in (self.metrics, self.steps):
            if not path.exists():
                continue
            rows = iterate_rows(path)
            storage.write_jsonl(path, (row for row in rows if step and _is_before(row, step)))
        for folder in ("rollouts", "evaluations"):
            for file in (self.path / folder).glob("step-*.json"):
                if not step or int(file.name[5:11]) > step:
                    file.unlink()

    def forget_evaluation(self, step: int) -> None:
        """Remove the row of an evaluation that is about to be made again."""
        rows = read_rows(self.metrics) if self.metrics.exists() else []
        kept = [row for row in rows if row["step"] != step or not _is_evaluation(row)]
        if len(kept) < len(rows):
            storage.write_jsonl(self.metrics, kept)

    def bad_page(self, page_id: str, path: str, reason: str) -> None:
        """List a page that cannot be used, once."""
        self._bad.add({"page_id": page_id, "path": path, "reason": reason})

    def dropped_page(self, path: str, page_number: int, *, step: str, rule: str) -> None:
        """List a good page that a data step left out, once for each rule."""
        self._dropped.add({"path": path, "page": page_number, "step": step, "rule": rule})

    def dropped_group(self, group_id: str, reason: str, detail: str) -> None:
        """List a prompt group that could not be generated or scored."""
        row = {"group_id": group_id, "reason": reason, "detail": detail}
        _append(self.path / _GROUPS, row)

    def bad_pages(self) -> list[dict[str, Any]]:
        """Pages listed so far, each once."""
        return self._bad.rows()

    def pages_found(self) -> dict[str, Any]:
        """What became of the files of the run's folders; empty before that is known."""
        found: dict[str, Any] = (
            json.loads(self.found.read_text("utf-8")) if self.found.exists() else {}
        )
        return found

    def page_image(self, page_id: str, pixels: Callable[[], UInt8Array]) -> str:
        """Save a page's picture once; returns its path inside the run directory.

        Args:
            page_id: the page.
            pixels: gives its [H, W, 3] pixels, if they are not saved yet.
        """
        name = hashlib.sha1(page_id.encode()).hexdigest()[:16] + ".png"
        target = self.path / "pages" / name
        if not target.exists():
            temporary = target.with_suffix(".tmp.png")
            Image.fromarray(pixels()).save(temporary)
            os.replace(temporary, target)
        return f"pages/{name}"

    def write_group(self, step: int, group: PromptGroup, page: Page, image: str, fate: str) -> None:
        """Write one scored prompt group.

        Args:
            step: steps in the weights.
            group: the group.
            page: its truth.
            image: path of the page's picture, from `page_image`.
            fate: what became of it (ready, zero_variance, ...).
        """
        value = {
            "step": step,
            "fate": fate,
            "page_id": page.page_id,
            "image": image,
            "reference": page.reference,
            "rollouts": [rollout_row(r) for r in group.rollouts],
        }
        name = f"step-{step:06d}-{hashlib.sha1(group.group_id.encode()).hexdigest()[:8]}.json"
        storage.write_json(self.path / "rollouts" / name, value)

    def write_evaluation(self, step: int, value: dict[str, Any]) -> None:
        """Write one held-out evaluation."""
        path = self.path / "evaluations" / f"step-{step:06d}.json"
        # Not indented, as figures of every page would fill thousands of lines.
        storage.write_bytes(path, storage.json_bytes(value))

    def evaluations(self) -> list[dict[str, Any]]:
        """All evaluations, by step."""
        files = sorted((self.path / "evaluations").glob("step-*.json"))
        return [json.loads(file.read_text("utf-8")) for file in files]

    def rollout_files(self) -> list[Path]:
        """Recorded prompt groups, by step."""
        return sorted((self.path / "rollouts").glob("step-*-*.json"))

    def rollouts_by_step(self) -> Counter[int]:
        """Number of recorded prompt groups of each step."""
        return Counter(int(file.name.split("-")[1]) for file in self.rollout_files())


def bad_page_place(row: Mapping[str, Any]) -> tuple[str, int]:
    """PDF and page number of a row of bad_pages.jsonl.

    Page ids would not do: two sets may share one, and older runs wrote ids that begin with the full
    path of the PDF.
    """
    return row["path"], int(row["page_id"].rpartition("::")[2])


def _append(path: Path, row: dict[str, Any]) -> None:
    storage.append(path, storage.json_bytes(row))


def rollout_row(rollout: Rollout) -> dict[str, Any]:
    """A rollout as plain JSON: text, rewards, verdicts."""
    completion = rollout.completion
    return {
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "tokens": len(completion.token_ids),
        "version": str(completion.oldest_version),
        "total": None if math.isnan(rollout.total) else rollout.total,
        "rewards": {
            name: None if result.failed else result.value
            for name, result in rollout.rewards.items()
        },
        "errors": {n: r.error for n, r in rollout.rewards.items() if r.failed},
        "verdicts": [
            {
                "id": v.test_id,
                "type": v.type,
                "file": v.file,
                "passed": v.passed,
                "explanation": v.explanation,
            }
            for result in rollout.rewards.values()
            for v in result.verdicts
        ],
    }
