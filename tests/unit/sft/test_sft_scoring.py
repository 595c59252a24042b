"""Which evaluation pages of an SFT run are shown."""

from __future__ import annotations

import pytest

from olmrl.sft.scoring import EvaluationPage, shown
from olmrl.types import Page


def read_page(title: str, number: int) -> EvaluationPage:
    name = f"{title}/{number}"
    return EvaluationPage(title, Page(page_id=name, pdf_path="a.pdf", page_number=1), "a block")


@pytest.mark.parametrize(("sets", "each"), [(1, 4), (2, 2), (3, 1), (6, 1)])
def test_pages_of_every_set_are_shown(sets: int, each: int):
    pages = [read_page(str(k), number) for k in range(sets) for number in range(7)]
    expected = [f"{k}/{number}" for k in range(sets) for number in range(each)]
    assert [one.page.page_id for one in shown(pages)] == expected
