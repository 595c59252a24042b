"""A question about a page, one try at it, and why it may have no answer.

A question is known by its content: model, template, and what the template was filled with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from olmrl.synth.asking.template import Template


class Unanswered(Exception):
    """A question whose answers were all bad; the argument says so for people."""


class NotNow(Exception):
    """A question that was not answered this time; the next call asks again."""


@dataclass(frozen=True)
class Question:
    """What is asked about a page."""

    stage: str
    page: str
    template: Template
    content: Mapping[str, Any]
    """What decides the answer besides model and template; JSON."""
    values: Mapping[str, Any]
    """Fills the template."""
    pictures: Callable[[], Sequence[bytes]]
    """PNGs; drawn if the question is asked."""
    response_format: Mapping[str, Any]
    parse: Callable[[str], Any]
    """Makes a value of an answer's text; raises `BadAnswer`."""
    tokens: tuple[int, int]
    """Expected tokens of request and answer."""

    def key(self, model: str) -> str:
        """Identity of the question."""
        told = [model, self.stage, self.template.digest, self.content]
        text = json.dumps(told, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


@dataclass(frozen=True)
class Request:
    """One try at a question."""

    id: str
    """Identifies it, also to the server."""
    key: str
    stage: str
    page: str
    parse: Callable[[str], Any]
    tokens: tuple[int, int]
