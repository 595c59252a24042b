"""Scores transcriptions of evaluation pages in guarded scorer processes.

Model output cannot stop a run here: a transcription that cannot be made or scored passes no test,
and is listed and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray

from olmrl.evaluation import figures
from olmrl.rewards.pool import ScorerPool, ScoringFailure
from olmrl.types import Completion, Page, Rollout


@dataclass(frozen=True, slots=True)
class Judged:
    """A transcription with its scores."""

    name: Any
    """The name it was submitted under."""
    rollout: Rollout
    failure: str = ""
    """Why it could not be made or scored."""
    text: str = ""
    """The text that could not be scored."""


class Judge:
    """Scores transcriptions as they come, each a group of its own.

    Args:
        scorers: Run `figures.REWARDS` on groups of one.
    """

    def __init__(self, scorers: ScorerPool) -> None:
        self._scorers = scorers
        self._open: dict[str, tuple[Any, Any, Completion]] = {}
        """Name, page and completion by group id."""

    def __len__(self) -> int:
        """Number not scored yet."""
        return len(self._open)

    @property
    def awaited(self) -> list[Any]:
        """Refs that resolve when there is something to poll."""
        return self._scorers.awaited

    def submit(self, name: Any, page: Any, completion: Completion) -> None:
        """Have a transcription scored.

        Args:
            name: Chosen by the caller.
            page: ObjectRef of its Page.
            completion: Has a group id of its own.
        """
        self._open[completion.group_id] = (name, page, completion)
        self._scorers.submit(completion.group_id, page, completion)

    def poll(self, timeout_s: float) -> list[Judged]:
        """Those scored since the last call; waits up to `timeout_s` for the first."""
        found = []
        for item in self._scorers.poll(timeout_s):
            opened = self._open.pop(item.group_id, None)
            if opened is None:
                continue  # forgotten
            if isinstance(item, ScoringFailure):
                found.append(fail(*opened, item.reason))
            else:
                found.append(Judged(opened[0], item.rollouts[0]))
        return found

    def forget(self) -> None:
        """Give up what is not scored yet."""
        for group_id in self._open:
            self._scorers.forget(group_id)
        self._open = {}


def fail(name: Any, page: Any, completion: Completion, reason: str) -> Judged:
    """The judgement of a text that could not be made or scored; arguments as in `Judge.submit`."""
    found: Page = ray.get(page)
    rollout = figures.failed_rollout(found, completion, reason)
    return Judged(name, rollout, reason, completion.text)
