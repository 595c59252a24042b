"""Does the completion end with the end token?."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from olmrl.types import Completion, Page, RewardResult


@dataclass(frozen=True)
class Eos:
    """1 if the last token is the end token, else 0 (truncated at the limit, or aborted)."""

    needs_group: ClassVar[bool] = False

    end_id: int | None = None
    """Id of the end token; null: trust the engine's finish reason `stop`."""

    def missing(self, page: Page) -> str:
        """Nothing."""
        return ""

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Look at the last token of each completion."""
        return [RewardResult(float(self._ended(c))) for c in completions]

    def _ended(self, completion: Completion) -> bool:
        if len(completion.token_ids) == 0:
            if completion.text:
                raise ValueError("eos needs token ids, but the completion only has text")
            return False
        if self.end_id is None:
            return completion.finish_reason == "stop"
        return int(completion.token_ids[-1]) == self.end_id
