"""A limit leaves a sample of all sources, not the first of the list."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmrl.data.draw import draw_pages, limit_note
from olmrl.data.page import PageSource

BENCH = {
    "arxiv_math.jsonl": 522, "headers_footers.jsonl": 266, "long_tiny_text.jsonl": 62,
    "multi_column.jsonl": 231, "old_scans.jsonl": 98, "old_scans_math.jsonl": 36,
    "table_tests.jsonl": 188,
}  # fmt: skip
"""Pages by file, shaped like olmOCR-bench."""


def bench(sizes=BENCH, extra=()):
    return [
        PageSource(f"{name[:-6]}/{number:04}.pdf::1", "x", 1, test_files=(name, *extra))
        for name, count in sizes.items()
        for number in range(count)
    ]


@pytest.mark.parametrize("limit", [200, 400, 7, 8, 1402])
def test_every_file_has_its_share(limit):
    sources = bench()
    drawn = draw_pages(sources, limit, seed=42)
    assert len(drawn) == limit and drawn == sorted(drawn, key=sources.index)
    found = Counter(source.test_files[0] for source in drawn)
    for name, count in BENCH.items():
        exact = limit * count / sum(BENCH.values())
        assert found[name] >= 1
        if limit >= 200:  # below that, one for each takes from the large ones
            assert abs(found[name] - exact) <= 1, name


def test_the_seed_chooses_and_a_higher_limit_adds():
    sources = bench()
    draws = {seed: draw_pages(sources, 200, seed) for seed in (1, 2)}
    assert draws[1] == draw_pages(sources, 200, 1) != draws[2]
    firsts = Counter(s.page_id for s in draws[1]) & Counter(s.page_id for s in sources[:200])
    assert sum(firsts.values()) < 150
    kept = set(draw_pages(sources, 400, 1)) & set(draws[1])
    assert len(kept) >= 198


def test_a_page_of_several_files_counts_for_the_rarest():
    sources = [
        PageSource(f"{n}.pdf::1", "x", 1, test_files=("all.jsonl", *(["rare.jsonl"] * (n < 2))))
        for n in range(100)
    ]
    drawn = draw_pages(sources, 10, seed=3)
    assert any("rare.jsonl" in source.test_files for source in drawn)


def test_pairs_are_spread_over_the_folders_below_the_root():
    sources = [PageSource(f"a/{n}.pdf::1", "x", 1) for n in range(90)]
    sources += [PageSource(f"b/deep/{n}.pdf::1", "x", 1) for n in range(9)]
    sources += [PageSource("top.pdf::1", "x", 1)]
    found = Counter(s.page_id.split("/")[0] for s in draw_pages(sources, 20, seed=0))
    assert found == {"a": 18, "b": 1, "top.pdf::1": 1}


def test_a_limit_below_the_number_of_files_takes_one_of_some():
    drawn = draw_pages(bench(), 3, seed=0)
    assert len({source.test_files for source in drawn}) == len(drawn) == 3


def test_without_a_seed_the_first_pages_stay():
    sources = bench()
    assert draw_pages(sources, 5, seed=None) == sources[:5]


@pytest.mark.parametrize("limit", [None, 10, 11, 10**9])
def test_a_limit_that_leaves_everything_changes_nothing(limit):
    sources = bench({"a.jsonl": 10})
    assert draw_pages(sources, limit, seed=1) == sources


def test_a_limit_above_what_there_is_is_said_in_a_sentence():
    said = limit_note("data.max_pages", 500, 12)
    assert said == "data.max_pages: 500 pages were asked for and there are 12; all of them are used"
    assert limit_note("data.max_pages", 12, 12) is limit_note("data.max_pages", None, 12) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 250), st.integers(0, 5))
def test_any_sizes_any_limit(sizes, limit, seed):
    sources = bench({f"{number}.jsonl": size for number, size in enumerate(sizes)})
    drawn = draw_pages(sources, limit, seed)
    assert len(drawn) == min(limit, len(sources)) and len(set(drawn)) == len(drawn)
    if limit >= len(sizes):
        assert len({source.test_files for source in drawn}) == len(sizes)
