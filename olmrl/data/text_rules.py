"""Which pages the rules on their text will drop, known before training.

The rules are in docs/formats.md#text-rules.

A schedule needs the number of steps, hence of pages that are kept. Rules on the text need no image:
they run with the validation, in parallel under Ray Data, and their verdicts are cached by the files
of a pair and the steps that judged it. Training still drops these pages itself, at their places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from olmrl import storage
from olmrl.data.order import order
from olmrl.data.page import PageSource
from olmrl.data.render import BadPage, UnreadPage
from olmrl.data.steps import Dropped, Pipeline, StepContext
from olmrl.data.validate import Judge, load_verdicts, save_verdicts, stamp

CACHE_NAME = "text_rules.parquet"

_FORMAT = 1
"""Part of every key; raised when the same steps judge differently."""

Judged = tuple[PageSource, Pipeline]
"""A page and the pipeline of its set."""


def known_rules(pages: Sequence[Judged], cache_dir: str) -> list[str | None]:
    """What earlier runs found: `<step>: <rule>`, empty for a kept page, None for one not judged."""
    found = load_verdicts(storage.join(cache_dir, CACHE_NAME))
    return ["" if key is None else found.get(key) for key in _keys(pages)]


def drop_rules(pages: Sequence[Judged], cache_dir: str, judge: Judge) -> list[str]:
    """The rule that drops each page, as `<step>: <rule>`; empty for one that the text rules keep.

    Args:
        pages: Usable pages.
        cache_dir: Folder of the verdicts of earlier runs.
        judge: Runs the rules on the pages that are not judged yet.
    """
    path = storage.join(cache_dir, CACHE_NAME)
    found, keys = load_verdicts(path), _keys(pages)
    unknown = {
        key: page
        for key, page in zip(keys, pages, strict=True)
        if key is not None and key not in found
    }
    if unknown:
        verdicts = judge(_rule_of, list(unknown.values()))
        judged = zip(unknown, verdicts, strict=True)
        found |= {key: verdict for key, verdict in judged if verdict is not None}
        save_verdicts(path, found)
    return ["" if key is None else found.get(key, "") for key in keys]


def kept_pages(kept: Sequence[bool], epochs: float, seed: int) -> int:
    """Pages that are kept in the first epochs, the last of which may be partial.

    Args:
        kept: Whether each page of an epoch is kept, in the set's own order.
        epochs: Passes over the pages.
        seed: Seed of the order.
    """
    places = math.ceil(epochs * len(kept))
    whole, rest = divmod(places, len(kept))
    flags = np.asarray(kept, bool)
    begun = flags[order(len(kept), seed, whole)[:rest]].sum()
    return int(whole * flags.sum() + begun)


def _rule_of(page: Judged) -> str | None:
    source, pipeline = page
    context = StepContext(np.random.default_rng(0))
    try:
        result = pipeline.text_rules().run(source, context)
    except UnreadPage:
        return None  # no verdict to cache
    except BadPage:
        return ""  # dropped by no rule: training counts it as bad
    return f"{result.step}: {result.rule}" if isinstance(result, Dropped) else ""


def _keys(pages: Sequence[Judged]) -> list[str | None]:
    """Key of each page's verdict; None where the pipeline has no rule on the text."""
    rules = {id(pipeline): pipeline.text_rules() for _, pipeline in pages}
    names = {
        number: f"{_FORMAT}|{pipeline.steps!r}" if pipeline.steps else None
        for number, pipeline in rules.items()
    }
    named = [(source, names[id(pipeline)]) for source, pipeline in pages]
    return [None if name is None else f"{stamp(source)}|{name}" for source, name in named]
