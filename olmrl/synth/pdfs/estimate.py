"""What pages will cost, before anything is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from olmrl.mix.prices import BATCH_SHARE
from olmrl.synth.asking.template import Template
from olmrl.synth.pdfs.settings import Settings, terms_of
from olmrl.synth.pdfs.source_pages import Chosen, choose_pages, kind_of
from olmrl.synth.pdfs.stages import STAGES, expected_tokens
from olmrl.synth.pdfs.template_files import load_templates

_SHOWN = 8
"""Kinds of reasons that are told."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take, if nothing is asked twice."""

    pages: int
    calls: int
    tokens_in: int
    tokens_out: int
    usd: float | None
    """None: nobody knows the price."""

    def __str__(self) -> str:
        cost = "an unknown cost (give --price IN,OUT)" if self.usd is None else f"${self.usd:.2f}"
        return (
            f"estimate: {self.pages} pages, {self.calls} calls, {self.tokens_in:,} tokens in, "
            f"{self.tokens_out:,} out: {cost}"
        )


def estimate(
    pages: int, settings: Settings, templates: Mapping[str, Template], share: float
) -> Estimate:
    """What so many pages will take; answers of an earlier call cost nothing again."""
    terms = terms_of(settings, share)
    stages = (*STAGES, "densify") if settings.densify else STAGES
    tokens = [expected_tokens(stage, templates[stage], settings.side) for stage in stages]
    asked, said = (pages * sum(column) for column in zip(*tokens, strict=True))
    usd = terms.expected_usd((asked, said)) if terms.known_price else None
    return Estimate(pages, pages * len(stages), asked, said, usd)


def dry_run(
    source: str, out: str, settings: Settings, batch: bool, folder: str, workers: int
) -> str:
    """Choose pages (into a folder that is thrown away) and say what they would cost."""
    templates = load_templates(settings.templates)
    terms_of(settings, BATCH_SHARE if batch else 1.0)
    chosen = choose_pages(source, folder, settings.choice, workers, out, lasting=False)
    share = BATCH_SHARE if batch else 1.0
    lines = [str(estimate(len(chosen.pages), settings, templates, share))]
    lines += _left_lines(chosen)
    return "\n".join(lines)


def _left_lines(chosen: Chosen) -> list[str]:
    first = {kind_of(reason): name for name, reason in reversed(chosen.left.items())}
    counts = Counter(map(kind_of, chosen.left.values())).most_common(_SHOWN)
    return [
        f"  {chosen.documents} PDFs, {len(chosen.pages)} pages chosen",
        *(f"  left out: {count} x {kind}, the first {first[kind]}" for kind, count in counts),
    ]
