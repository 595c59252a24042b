"""One scorer process: caches its pages and scores their completions, one call at a time."""

from __future__ import annotations

import resource
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from olmrl.config.schema import RewardConfig
from olmrl.rewards.registry import build_all
from olmrl.rewards.reward import UnscorablePage
from olmrl.rewards.scoring import Results, applicable, score_completions
from olmrl.types import Completion, Page

KEPT_PAGES = 16
"""Parsed pages (cases, rendered reference formulas) a worker keeps; groups come page by page."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's answer to one call."""

    page_id: str
    results: tuple[Results, ...]
    """One per completion of the call; empty if the page is unscorable."""
    unscorable: str
    """Why no completion of this page can be scored, or an empty string."""
    seconds: float
    """Seconds spent scoring."""


class ScorerWorker:
    """The Ray actor; `ScorerPool` starts, feeds, kills and replaces it."""

    def __init__(self, rewards: Sequence[RewardConfig], memory_bytes: int) -> None:
        self._rewards = build_all(rewards)
        self._pages: OrderedDict[Any, Page] = OrderedDict()
        limit_memory(memory_bytes)

    def ready(self) -> bool:
        """Answer once the process has started."""
        return True

    def score(self, page: Sequence[Any], completions: Sequence[Completion], group: bool) -> Reply:
        """Score completions of one page.

        Args:
            page: A sequence that holds the Page's ObjectRef: Ray does not resolve refs inside one.
            completions: A single one, or the whole group.
            group: Run the rewards that need the whole group instead of those that do not.
        """
        started = time.perf_counter()
        loaded = self._page(page[0])
        try:
            chosen = applicable(self._rewards, loaded)
            wanted = [entry for entry in chosen if entry.reward.needs_group == group]
            results = tuple(score_completions(wanted, loaded, completions))
            reason = ""
        except UnscorablePage as error:
            results, reason = (), str(error)
        return Reply(loaded.page_id, results, reason, time.perf_counter() - started)

    def _page(self, ref: Any) -> Page:
        page = self._pages.get(ref)
        if page is None:
            page = self._pages[ref] = ray.get(ref)
            if len(self._pages) > KEPT_PAGES:
                self._pages.popitem(last=False)
        self._pages.move_to_end(ref)
        return page


def limit_memory(extra_bytes: int) -> None:
    """Limit further private memory of this process; beyond it, MemoryError (Linux only).

    Shared pages (Ray's object store) do not count.
    """
    if sys.platform != "linux":
        return
    status = Path("/proc/self/status").read_text("ascii")
    now = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = now * 1024 + extra_bytes
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
