"""What is asked of an engine, and which completions of which group it still owes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from olmrl.types import Completion, EncodedPage, SamplingSpec


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """G completions of one page, over one prefill."""

    group_id: str
    """Unique among the requests that are alive."""
    page: EncodedPage
    """Prompt ids and patches of one image, for all completions."""
    sampling: SamplingSpec
    """Temperature, top_p, length, greedy."""
    seeds: tuple[int, ...]
    """[G] one sampling seed per completion; `seeds[i]` belongs to `Completion.index == i`."""
    wanted: tuple[int, ...] | None = None
    """Indices to deliver; None: all G. A re-issued group names only those still missing."""

    @property
    def indices(self) -> tuple[int, ...]:
        """The completion indices this request delivers."""
        return tuple(range(len(self.seeds))) if self.wanted is None else self.wanted


@dataclass(frozen=True, slots=True)
class GenerationFailure:
    """A group that cannot be generated (a page that does not fit, say): dropped, never silent."""

    group_id: str
    reason: str
    """One sentence for `bad_pages.jsonl` and the log."""


Generated: TypeAlias = Completion | GenerationFailure


@dataclass(slots=True)
class OpenGroup:
    """A request with what is left of it."""

    request: GenerationRequest
    max_tokens: int
    """Completion tokens that fit into the model's window."""
    image: Any = None
    """The image in the engine's own form, if it has one."""
    open: set[int] = field(default_factory=set)
    """Indices not delivered yet."""


class OpenGroups:
    """All unfinished groups of one engine, oldest first. Touched by the engine thread only."""

    def __init__(self) -> None:
        self._groups: dict[str, OpenGroup] = {}
        self.waiting: deque[tuple[str, int]] = deque()
        """(group, index) not yet started."""

    def add(self, group: OpenGroup) -> None:
        """Queue a group's completions.

        Raises:
            ValueError: a group of that id is still open.
        """
        group_id = group.request.group_id
        if group_id in self._groups:
            raise ValueError(f"group {group_id}: submitted twice")
        group.open = set(group.request.indices)
        self._groups[group_id] = group
        self.waiting.extend((group_id, index) for index in group.request.indices)

    def get(self, group_id: str) -> OpenGroup | None:
        """The group, unless it was aborted or finished."""
        return self._groups.get(group_id)

    def close_completion(self, group_id: str, index: int) -> OpenGroup | None:
        """Note that a completion is done; None if nobody wants it any more."""
        group = self._groups.get(group_id)
        if group is None or index not in group.open:
            return None
        group.open.discard(index)
        if not group.open:
            del self._groups[group_id]
        return group

    def abort(self, group_ids: Iterable[str]) -> set[str]:
        """Forget groups; returns those that were open."""
        gone = {g for g in group_ids if self._groups.pop(g, None) is not None}
        if gone:
            self.waiting = deque(item for item in self.waiting if item[0] not in gone)
        return gone

    @property
    def unfinished(self) -> int:
        """Completions still owed."""
        # Asked from other threads, while the dict may change: the list is made in one go.
        return sum(len(group.open) for group in list(self._groups.values()))

    def __bool__(self) -> bool:
        return bool(self._groups)


def too_long(request: GenerationRequest, room: int) -> str:
    """Why a page cannot be generated."""
    length = len(request.page.prompt_ids)
    return (
        f"{request.page.page_id}: its prompt has {length} tokens, which leaves {room} of "
        f"rollout.max_model_len={length + room} for the completion"
    )
