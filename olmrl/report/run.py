"""report.html of a run directory, and one page of several runs; neither needs a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from olmrl import storage
from olmrl.report.follow import RunView, run_views
from olmrl.report.html import picture
from olmrl.report.views import document
from olmrl.run.directory import RunDirectory


def write(directory: RunDirectory) -> Path:
    """Render the report of a run and write it atomically; returns its path."""
    storage.write_html(directory.report, compare([directory]))
    return directory.report


def compare(directories: Sequence[RunDirectory]) -> str:
    """One HTML page of one run, or of several beside each other."""
    views = run_views(directories)
    for view in views:
        view.update()
    return document(views, _embedded)


def _embedded(view: RunView, path: str) -> str | None:
    """A page's picture as a data URL; None if it is not there."""
    try:
        return picture(view.directory.path / path)
    except OSError:
        return None
