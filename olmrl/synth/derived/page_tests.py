"""The unit tests of one page: candidates that its truth bears out, and the page itself if asked.

A test is kept if it passes on the page's truth and fails on a seeded corruption of it.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import PurePosixPath
from typing import Any

from olmrl.bench import load_case
from olmrl.synth.derived import candidates
from olmrl.synth.derived.candidates import Candidate
from olmrl.synth.derived.categories import file_of
from olmrl.synth.derived.column_order import across_columns
from olmrl.synth.derived.furniture import furniture
from olmrl.synth.derived.true_pages import TruePage
from olmrl.synth.proof.layer import TextLayer
from olmrl.synth.proof.objections import page_objection, test_objection
from olmrl.synth.proof.reading import Reading, read
from olmrl.synth.proof.tables import table_objection

MOST_PER_PAGE = {
    "present": 10,
    "absent": 6,
    "order": 6,
    "table": 10,
    "math": 10,
    "format": 5,
    "footnote": 4,
    "baseline": 1,
}
"""Maximum tests of one type on one page."""

_ACROSS = 3
"""Most order candidates of a page that go from one column to the next."""
_TRIED_PER_TEST = 4
"""Candidates tried for each test that may be kept."""


@dataclass
class Derived:
    """What one page yielded."""

    name: str
    tests: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """The test file of each test, by its id."""
    rejected: Counter[str] = field(default_factory=Counter)
    """How many candidates were rejected, by `type: reason`."""


def derive_page(
    page: TruePage,
    *,
    seed: int,
    most: int,
    pages_with: Mapping[str, int],
    repeats: Mapping[str, int],
    prove: bool = False,
) -> Derived:
    """Derive the tests of one page.

    Args:
        page: The page.
        seed: Seed of the run; the page's own stream also depends on its name.
        most: Maximum number of tests to keep.
        pages_with: On how many pages of the set each word occurs.
        repeats: On how many pages of the set each margin line occurs.
        prove: Keep only what the PDF itself shows (`proof`); for pages set from their truth.
    """
    rng = random.Random(f"{seed}/{page.name}")
    derived = Derived(page.name)
    layer = TextLayer.of(page.pdf_path) if prove else None
    if layer is not None:
        reason = page_objection(layer, page.truth, page.furniture)
        if reason := reason or table_objection(layer, page.body):
            derived.rejected[f"page: {reason}"] += 1
            return derived
    kept: dict[str, list[dict[str, Any]]] = {}
    for kind, proposals in _propose(page, rng, pages_with, repeats, layer).items():
        kept[kind] = list(_verified(kind, proposals, page, derived, layer))
    rounds = max(map(len, kept.values()), default=0)
    spread = [kept[kind][i] for i in range(rounds) for kind in kept if i < len(kept[kind])]
    derived.tests = spread[:most]
    derived.files = {test["id"]: file_of(test, layer) for test in derived.tests}
    if len(spread) > most:
        derived.rejected["all: over the limit of tests per page"] += len(spread) - most
    return derived


def _propose(
    page: TruePage,
    rng: random.Random,
    pages_with: Mapping[str, int],
    repeats: Mapping[str, int],
    layer: TextLayer | None,
) -> dict[str, Iterator[Candidate]]:
    body = page.body
    reading: Reading = read(body)
    lines = page.furniture or furniture(page.margins, body, repeats)
    stream = partial(random.Random, rng.random())
    return {
        "baseline": candidates.baseline(body),
        "present": candidates.present(reading, stream(), pages_with),
        "absent": candidates.absent(body, lines),
        "order": chain(
            islice(across_columns(reading, layer, stream()) if layer else (), _ACROSS),
            candidates.order(reading, stream()),
        ),
        "table": candidates.table(body, reading, stream()),
        "math": candidates.math(body, reading, stream()),
        "format": candidates.format_(body, reading, stream()),
        "footnote": candidates.footnote(body, stream()),
    }


def _verified(
    kind: str,
    proposals: Iterator[Candidate],
    page: TruePage,
    derived: Derived,
    layer: TextLayer | None,
) -> Iterator[dict[str, Any]]:
    """Keep candidates that pass on the truth, fail on its corruption and are not duplicates."""
    most, seen = MOST_PER_PAGE[kind], set()
    kept = 0
    for candidate in islice(proposals, most * _TRIED_PER_TEST):
        if kept == most:
            return
        content = json.dumps(candidate.test, sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(f"{page.name}\n{content}".encode()).hexdigest()[:8]
        test = {
            "pdf": f"{pdf_name(page.name)}.pdf",
            "page": 1,
            "id": f"{pdf_name(page.name).replace('/', '_')}_{kind}_{digest}",
            **candidate.test,
        }
        reason = "duplicate" if content in seen else _objection(test, candidate, page.body)
        if not reason and layer is not None:
            reason = test_objection(layer, test)
        seen.add(content)
        if reason:
            derived.rejected[f"{kind}: {reason}"] += 1
            continue
        kept += 1
        yield test


def _objection(test: dict[str, Any], candidate: Candidate, body: str) -> str:
    try:
        case = load_case(test)
    except ValueError:
        return "not a valid test (e.g. a formula that does not render)"
    if not case.run(body).passed:
        return "fails on the truth"
    if case.run(candidate.corrupted).passed:
        return "passes on the corruption"
    return ""


def pdf_name(name: str) -> str:
    """Path below pdfs/: in a sub-folder, without `_page`, where reference lookup would split."""
    path = PurePosixPath(name)
    parent = path.parent if path.parent.name else PurePosixPath("pages")
    return str(parent / re.sub(r"_page(?=\d)", "-page", path.name))
