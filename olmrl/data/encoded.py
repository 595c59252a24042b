"""A transcribed page as token ids: what SFT learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from olmrl.types import EncodedPage, Int64Array

IGNORED: Final = -100
"""Label of a token that is not learnt."""


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """A page with its transcription, ready to be learnt."""

    page: EncodedPage
    response_ids: Int64Array
    """[R] ids the model reads, the end token last."""
    labels: Int64Array
    """[R] ids the model must predict at their place; `IGNORED` where nothing is learnt."""

    @property
    def num_tokens(self) -> int:
        """P + R."""
        return len(self.page.prompt_ids) + len(self.response_ids)
