"""A text that a model is asked, with places for what is known of a page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Template:
    """The text of one kind of question."""

    text: str
    version: str
    """As its first line says; for people."""
    digest: str
    """Of the text; decides whether a question was asked before."""

    def fill(self, values: Mapping[str, object]) -> str:
        """The prompt; what is filled in is not searched for places again."""
        return _PLACE.sub(lambda match: str(values[match[1]]), self.text)


def places_of(text: str) -> set[str]:
    """Names of the places, `{{name}}`, that a text has."""
    return set(_PLACE.findall(text))
