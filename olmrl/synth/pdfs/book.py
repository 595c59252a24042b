"""What became of each page; those that were made are kept over restarts."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from olmrl.data.bad_page import BadPage
from olmrl.mix import files
from olmrl.mix.progress import ProgressDisplay
from olmrl.synth.asking.ledger import Ledger
from olmrl.synth.asking.question import NotNow, Unanswered
from olmrl.synth.pdfs.model_html import read_model_html, truth_html
from olmrl.synth.pdfs.typo_pages import printed_html
from olmrl.synth.pdfs.writing import Dropped, Made, SourcePage
from olmrl.synth.proof.html_truth import read_html


class Book:
    """What became of each page; those that were made are kept over restarts.

    Args:
        work: Working folder.
        mark: What pages depend on; those made with another are made anew.
        pages: All pages.
        ledger: Answers and costs.
        progress: Display.
    """

    def __init__(
        self,
        work: Path,
        mark: str,
        pages: Sequence[SourcePage],
        ledger: Ledger,
        progress: ProgressDisplay,
    ) -> None:
        self.work = work
        self.mark = mark
        self.pages = {page.name: page for page in pages}
        self.ledger = ledger
        self.progress = progress
        self.made: dict[str, dict[str, Any]] = {}
        """Records of the pages that were made, by name."""
        self.dropped: dict[str, str] = {}
        """Why pages cannot be made."""
        self.postponed: dict[str, str] = {}
        """Why pages were not made this time."""
        self._lock = threading.Lock()
        for name in self.pages:
            path = self._path(name, ".json")
            if path.exists():
                record = json.loads(path.read_text("utf-8"))
                if record["mark"] == mark:
                    self.made[name] = record
        self._show()

    @property
    def missing(self) -> list[SourcePage]:
        """Pages that have to be made."""
        return [page for name, page in self.pages.items() if name not in self.made]

    def settle(self, page: SourcePage, outcome: Made | Exception) -> None:
        """Note what became of a page.

        Raises:
            Exception: the outcome, if it is not about this page.
        """
        if isinstance(outcome, Made):
            record = self._write(page, outcome)
            with self._lock:
                self.made[page.name] = record
        elif isinstance(outcome, NotNow):
            with self._lock:
                self.postponed[page.name] = str(outcome)
        elif isinstance(outcome, Dropped | Unanswered | BadPage):
            reason = outcome.reason if isinstance(outcome, BadPage) else str(outcome)
            with self._lock:
                self.dropped[page.name] = reason
        else:
            raise outcome
        self._show()

    def _write(self, page: SourcePage, made: Made) -> dict[str, Any]:
        """Write a page's files, and its record last."""
        truth = truth_html(read_model_html(made.html))
        os.makedirs(self.work / "pages", exist_ok=True)
        os.replace(made.pdf, self._path(page.name, ".pdf"))
        files.write_text(str(self._path(page.name, ".md")), read_html(truth).markdown)
        files.write_text(str(self._path(page.name, ".html")), truth)
        files.write(str(self._path(page.name, ".jpg")), made.source_picture)
        files.write_text(str(printed_html(self.work / "pages", page.name)), made.html)
        record = {
            "mark": self.mark,
            "turned": made.turn,
            "paper": [made.width, made.height],
            "scale": made.scale,
            "language": made.language,
            "columns": made.columns,
            "stages": made.stages,
            "left": dict(made.left),
            "likeness": asdict(made.likeness),
            "likeness_told": made.likeness.sentence,
        }
        files.write_json(str(self._path(page.name, ".json")), record)
        return record

    def _path(self, name: str, suffix: str) -> Path:
        return self.work / "pages" / f"{name}{suffix}"

    def _show(self) -> None:
        counts = {
            "done": len(self.made), "skipped": len(self.dropped), "failed": len(self.postponed)
        }  # fmt: skip
        self.progress.show(counts, {"cost_usd": self.ledger.usd})
