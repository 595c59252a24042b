"""Which evaluation pages of an SFT run are shown."""

from __future__ import annotations

import numpy as np
import pytest

from olmrl.sft.scoring import EvaluationPage, shown
from olmrl.types import EncodedPage, Page


def read_page(title: str, number: int) -> EvaluationPage:
    name = f"{title}/{number}"
    page = Page(page_id=name, pdf_path="a.pdf", page_number=1, image=np.zeros((2, 2, 3), np.uint8))
    grid = np.zeros((0, 3), np.int64)
    prompt = EncodedPage(name, np.zeros(1, np.int64), np.zeros((0, 4), np.float32), grid)
    return EvaluationPage(title, page, prompt)


@pytest.mark.parametrize(("sets", "each"), [(1, 4), (2, 2), (3, 1), (6, 1)])
def test_pages_of_every_set_are_shown(sets: int, each: int):
    pages = [read_page(str(k), number) for k in range(sets) for number in range(7)]
    expected = [f"{k}/{number}" for k in range(sets) for number in range(each)]
    assert [page.page_id for page in shown(pages)] == expected
