"""The table reward: hand-computed values, a slow independent tree distance, hedging."""

import itertools
import random
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_pages import group, page
from test_reward_values import value_of

from olmrl.markup.tables import parse_html_tables
from olmrl.rewards import score
from olmrl.rewards.assignment import best_assignment
from olmrl.rewards.table_tree import (
    PUBLISHED,
    STRICT,
    TableTree,
    content_costs,
    tree_distance,
)


def html(rows):
    """A table from rows of texts."""
    body = "".join("<tr>" + "".join(f"<td>{t}</td>" for t in row) + "</tr>" for row in rows)
    return f"<table>{body}</table>"


def markdown(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


ROWS = [["region", "wheat"], ["north", "1812"], ["south", "4075"]]
TRUTH = f"Text.\n\n{html(ROWS)}\n\nMore text."
# 1 table, 3 rows, 6 cells: 10 nodes


def teds(*texts, reference=TRUTH, **options):
    return [r.value for r in value_of("teds", page(reference), group(*texts), **options)]


def test_by_hand():
    typo = html([["region", "wheat"], ["north", "1813"], ["south", "4075"]])
    other = html([["region", "wheat"], ["north", "rye"], ["south", "4075"]])
    assert teds(html(ROWS), markdown(ROWS), "", "no table", typo, other) == pytest.approx(
        [1.0, 1.0, 0.0, 0.0, 1 - 0.25 / 10, 1 - 3 / 10]
    )
    assert teds(typo, other, compat=True) == pytest.approx([1 - 0.25 / 10, 1 - 1 / 10])


def test_missing_and_invented_parts_by_hand():
    lost_row = html(ROWS[:2])  # a row and two cells missing: 3 of 10
    more = html([*ROWS, ["west", "9"]])  # a row and two cells too many: 1 + 2 x 3
    assert teds(lost_row, more) == pytest.approx([1 - 3 / 10, 1 - 7 / 10])
    assert teds(lost_row, more, compat=True) == pytest.approx([1 - 3 / 10, 1 - 3 / 13])
    # a second copy: 1 + 3 + 3 x 6 too many, of 10 nodes; published: 10 too many, of 20
    assert teds(html(ROWS) * 2) == [0.0]
    assert teds(html(ROWS) * 2, compat=True) == pytest.approx([1 - 10 / 20])


def test_spans_count_and_structure_is_a_part():
    spanned = "<table><tr><td colspan=2>a</td></tr><tr><td>b</td><td>c</td></tr></table>"
    flat = "<table><tr><td>a</td></tr><tr><td>b</td><td>x</td></tr></table>"
    [result] = value_of("teds", page(spanned), group(flat))
    assert result.value == pytest.approx(1 - (1 + 3) / 6)  # span of a; x is not c
    assert result.parts == {"structure": pytest.approx(1 - 1 / 6), "tables": 1.0}


def test_each_table_stands_for_one_of_the_reference():
    first, second = html(ROWS), html([["x", "y"], ["p", "q"]])
    reference = f"{first}\n\n{second}"
    assert teds(f"{second}\n\n{first}", reference=reference) == [1.0]
    assert teds(first, second, reference=reference) == pytest.approx([1 - 7 / 17, 1 - 10 / 17])


def test_left_out_without_a_table_or_a_reference():
    with pytest.raises(ValueError, match="the reference has no table"):
        score("teds", ["x"], references=["text only"])
    with pytest.raises(ValueError, match="the page has no reference text"):
        score("teds", ["x"])
    assert score("teds", ["x"], compat=True) == [0.0]


def test_tables_too_large_to_compare_count_as_invented():
    wide = html([["1"] * 250])
    other = html([["1"] * 249 + ["9"]])
    assert teds(wide, other, html(ROWS), reference=wide) == [1.0, 0.0, 0.0]
    assert teds(wide, html(ROWS) + html([["x"]]) * 20, "<table>" * 400) == [0.0, 0.0, 0.0]
    assert teds("<table>" + "<tr><td rowspan=900000000>" * 40) == [0.0]


def test_unknown_option_is_refused():
    with pytest.raises(ValueError, match=r"reward teds: unknown option 'strict'.*compat"):
        score("teds", ["x"], references=["y"], options={"strict": True})


def wrong_cells(rows, share, rng):
    """Some cells read as others."""
    return [[f"{rng.randrange(10**6)}" if rng.random() < share else c for c in r] for r in rows]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([0.2, 0.5, 0.8, 1.0]), st.integers())
def test_the_right_reading_beside_the_wrong_one_does_not_pay(n_rows, n_cols, share, seed):
    rng = random.Random(seed)
    true = [[f"{rng.randrange(10**6)}" for _ in range(n_cols)] for _ in range(n_rows)]
    said = wrong_cells(true, share, rng)
    pairs = list(zip(said, true, strict=True))
    honest, *hedged = teds(
        html(said),
        html(said) + html(true),
        html(true) + markdown(said),
        html([row for pair in pairs for row in pair]),
        html([*said, *true]),
        html([[*mine, *other] for mine, other in pairs]),
        html([[c for pair in zip(a, b, strict=True) for c in pair] for a, b in pairs]),
        html([[f"{x} {y}" for x, y in zip(a, b, strict=True)] for a, b in pairs]),
        reference=html(true),
    )
    assert max(hedged) <= honest + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_a_table_of_other_cells_is_no_better_than_none(n_rows, n_cols, rows, cols):
    true = [[f"north{i}x{j}" for j in range(n_cols)] for i in range(n_rows)]
    junk = [[f"{7**9 + i}{j}" for j in range(cols)] for i in range(rows)]
    reference = html(ROWS) + html(true)
    honest, *filled = teds(
        html(ROWS), html(ROWS) + html(junk), html([*ROWS, *junk]), reference=reference
    )
    assert max(filled) <= honest


# -- a slow, independent distance: the recursive definition on forests of any shape


def slow_distance(mine, true, costs):
    """Tree edit distance by the recursion on rightmost roots (Zhang and Shasha, lemma 3)."""

    def forest(tree):
        cells = iter(zip(tree.texts, tree.spans, strict=True))
        rows = tuple(
            ("tr", tuple(("td", (), *next(cells)) for _ in range(n))) for n in tree.row_lengths
        )
        return (("table", rows),)

    def levenshtein(a, b):
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            last, row[0] = row[0], i
            for j, y in enumerate(b, 1):
                last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
        return row[-1] / max(len(a), len(b), 1)

    def rename(a, b):
        if a[0] != b[0]:
            return 1 if costs.published else np.inf
        if a[0] != "td":
            return 0
        distance = levenshtein(a[2], b[2])
        if distance > costs.most_different:
            return costs.invented_cell
        return distance if a[3] == b[3] else 1

    @lru_cache(None)
    def distance(a, b):
        if not a and not b:
            return 0
        options = []
        if a:
            price = costs.invented_cell if a[-1][0] == "td" else 1
            options.append(distance(a[:-1] + a[-1][1], b) + price)
        if b:
            options.append(distance(a, b[:-1] + b[-1][1]) + 1)
        if a and b:
            inner = distance(a[-1][1], b[-1][1]) + rename(a[-1], b[-1])
            options.append(distance(a[:-1], b[:-1]) + inner)
        return min(options)

    return distance(forest(mine), forest(true))


cell = st.sampled_from(["", "a", "ab", "abcd", "abce", "xyz", "12.50"])
tables = st.lists(st.lists(cell, min_size=1, max_size=4), min_size=1, max_size=4)


def tree(rows, spans=()):
    text = html(rows)
    for number in spans:
        text = text.replace("<td>", f"<td colspan={number}>", number)
    return TableTree(parse_html_tables(text)[0])


@pytest.mark.parametrize("costs", [PUBLISHED, STRICT])
@settings(max_examples=150, deadline=None)
@given(tables, tables, st.sampled_from([(), (2,)]))
def test_fast_and_slow_distance_agree(costs, mine, true, spans):
    a, b = tree(mine, spans), tree(true)
    fast = tree_distance(a, b, content_costs(a, b, costs), costs)
    assert fast == pytest.approx(slow_distance(a, b, costs))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.randoms(use_true_random=False))
def test_assignment_is_the_best_of_all(n_rows, n_cols, random):
    gain = np.asarray([[random.choice([0, 1, 2, 5]) for _ in range(n_cols)] for _ in range(n_rows)])
    padded = np.zeros((max(n_rows, n_cols),) * 2)
    padded[:n_rows, :n_cols] = gain
    ways = itertools.permutations(range(len(padded)))
    best = max(sum(padded[i, j] for i, j in enumerate(way)) for way in ways)
    pairs = best_assignment(gain.astype(float))
    assert sum(gain[pair] for pair in pairs) == best
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
