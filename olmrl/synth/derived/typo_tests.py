"""Tests of typing errors that a page keeps (`variants.typos`)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from olmrl.bench import load_case
from olmrl.suffixes import cut_suffix
from olmrl.synth.proof.layer import TextLayer
from olmrl.synth.proof.objections import test_objection


def typo_tests(
    pdf: str, path: str, typos: Sequence[Sequence[str]], without: str, with_: str
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """One test for each error that tells the page with it from the page without.

    Args:
        pdf: The page with the errors, below pdfs/.
        path: The file.
        typos: Each error as words before and after.
        without: Truth of the page without errors.
        with_: Truth of the page with them.

    Returns:
        The tests; why there are none of the other errors.
    """
    layer = TextLayer.of(path)
    kept, refused = [], Counter[str]()
    for _, after in typos:
        digest = hashlib.sha256(f"{pdf}\n{after}".encode()).hexdigest()[:8]
        stem = cut_suffix(pdf, ".pdf").replace("/", "_")
        test = {
            **{"pdf": pdf, "page": 1, "id": f"{stem}_typo_{digest}", "type": "present"},
            **{"text": after, "max_diffs": 0},
        }
        case = load_case(test)
        if case.run(without).passed:
            refused["passes without the error"] += 1
        elif not case.run(with_).passed:
            refused["fails on the truth"] += 1
        elif reason := test_objection(layer, test):
            refused[reason] += 1
        else:
            kept.append(test)
    return kept, refused
