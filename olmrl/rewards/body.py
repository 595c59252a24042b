"""The body of a transcription: what rewards compare with the body of the reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from olmrl.bench import ParsedPage
from olmrl.markup.visible import see
from olmrl.rewards.parsed import parsed
from olmrl.rewards.reward import AgainstReference
from olmrl.types import Page, RewardResult


@lru_cache(maxsize=64)
def body_of(text: str) -> ParsedPage:
    """What a reader sees of the body of a transcription, without its front matter; cached."""
    return ParsedPage(see(parsed(text).page.text).text, is_body=True)


@dataclass(frozen=True)
class AgainstBody(AgainstReference):
    """Base class of rewards that only need the bodies of text and reference."""

    def missing(self, page: Page) -> str:
        """Needs a reference with something to compare."""
        lacking = super().missing(page)
        if lacking or page.reference is None:
            return lacking
        return self.lacking(page.reference)

    def lacking(self, reference: str) -> str:
        """What a reference lacks for this reward to apply; empty if it applies."""
        raise NotImplementedError

    def compare(self, page: Page, text: str, reference: str) -> RewardResult:
        """Score one text of a page."""
        return self.judge(text, reference)

    def judge(self, text: str, reference: str) -> RewardResult:
        """Score one text."""
        raise NotImplementedError
