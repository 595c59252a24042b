"""What decides the pages of `from_pdfs`, what they may cost, and where questions go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from olmrl.mix.prices import Price
from olmrl.synth.asking.template import Template
from olmrl.synth.asking.terms import Terms
from olmrl.synth.making.extras import Extras
from olmrl.synth.pdfs.source_pages import Choice
from olmrl.synth.pdfs.stages import STAGES

_MADE_BY = 2
"""Rises when pages that were made before have to be made anew."""


@dataclass(frozen=True)
class Settings:
    """What decides the pages, and what they may cost."""

    model: str
    """Name under which the endpoint knows the model."""
    templates: str | None = None
    """Folder of the user's templates; None: olmrl's own."""
    side: int = 1024
    """Pixels of the longer side of the pictures that are sent."""
    densify: bool = False
    """Ask for twice the text."""
    most_tests: int = 40
    """Most tests of a page."""
    price: Price | None = None
    """Of the user, or None for the list price."""
    max_usd: float | None = None
    """Dollars after which nothing more is asked."""
    max_tokens: int = 16_384
    """Most tokens of an answer."""
    choice: Choice = field(default_factory=Choice)
    extras: Extras = field(default_factory=Extras)


@dataclass(frozen=True)
class Endpoint:
    """Where questions go."""

    base_url: str
    key: str
    batch: bool = False
    """Through the Batch API."""
    concurrency: int = 8
    """Pages in work at a time; not for batches."""
    tries: int = 6
    """Of each HTTP request."""
    timeout_s: float = 300.0
    """Seconds without a byte after which a request is given up."""
    poll_s: float = 30.0
    """Between looks at a batch."""


def terms_of(settings: Settings, share: float) -> Terms:
    """Terms of questions at a share of the list price.

    Raises:
        ValueError: a limit on dollars, but nobody knows the price.
    """
    terms = Terms(settings.model, settings.price, settings.max_usd, settings.max_tokens, share)
    if settings.max_usd is not None and terms.known_price is None:
        raise ValueError(
            f"--max-usd {settings.max_usd:g}: the price of {settings.model} is not known here; "
            "give it with --price IN,OUT (dollars per million tokens)"
        )
    return terms


def mark_of(settings: Settings, templates: Mapping[str, Template]) -> str:
    """What a page that was made depends on, besides its source."""
    used = (*STAGES, "densify") if settings.densify else STAGES
    told = [_MADE_BY, settings.model, settings.side, [templates[stage].digest for stage in used]]
    told += ["redacted"] if settings.extras.redact else []
    return hashlib.sha256(json.dumps(told).encode("utf-8")).hexdigest()[:16]
