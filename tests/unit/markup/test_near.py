"""Near matches, against the fuzzysearch package and a brute-force distance."""

import random

import pytest
from fuzzysearch.levenshtein import find_near_matches_levenshtein

from olmrl.markup.near import near_range
from olmrl.markup.text import WorkLimitError


def mutated(rng, word, edits, alphabet):
    letters = list(word)
    for _ in range(edits):
        at = rng.randrange(len(letters) + 1)
        letters[at : at + rng.randrange(2)] = rng.choice(["", rng.choice(alphabet)])
    return "".join(letters)


def best_starts_of_groups(needle, text, max_diffs):
    """The starts of all best matches of each group of overlapping matches, in text order."""
    groups = []
    for match in sorted(
        find_near_matches_levenshtein(needle, text, max_diffs), key=lambda m: (m.start, m.end)
    ):
        if groups and match.start < max(m.end for m in groups[-1]):
            groups[-1].append(match)
        else:
            groups.append([match])
    tied = []
    for group in groups:
        best = min((m.dist, m.start - m.end) for m in group)
        tied.append({m.start for m in group if (m.dist, m.start - m.end) == best})
    return tied


@pytest.mark.parametrize("alphabet", ["abcdefgh ", "abcdefghijklmnopqrstuvwxyz   .,"])
def test_agrees_with_fuzzysearch(alphabet):
    rng = random.Random(1)
    for _ in range(400):
        length = rng.randrange(3, 40)
        max_diffs = rng.randrange(0, min(length // 2, 5) + 1)
        needle = "".join(rng.choice(alphabet) for _ in range(length))
        text = ""
        for _ in range(rng.randrange(4)):
            text += "".join(rng.choice(alphabet) for _ in range(rng.randrange(60)))
            text += mutated(rng, needle, rng.randrange(max_diffs + 2), alphabet)
        found = near_range(needle, text, max_diffs)
        groups = best_starts_of_groups(needle, text, max_diffs)
        if not groups:
            assert found is None, (needle, text, max_diffs)
        else:  # which of equally good overlapping matches counts is arbitrary there
            assert found is not None, (needle, text, max_diffs)
            assert found[0] in groups[0] and found[1] in groups[-1], (needle, text, max_diffs)


def test_examples():
    assert near_range("needle", "a needle and a needle", 0) == (2, 15)
    assert near_range("needle", "hay", 0) is None
    assert near_range("wonderful", "what a wonderfil day", 1) == (7, 7)
    assert near_range("wonderful", "what a day", 1) is None
    assert near_range("ab", "xx ax", 1) == (3, 3)
    assert near_range("\uc548\ub155\ud558\uc138\uc694", "\uc548\ub155\ud558\uc138\uc720", 1) == (
        0,
        0,
    )


@pytest.mark.parametrize(
    ("needle", "max_diffs"), [("a" * 50, 5), ("ab" * 10, 10), ("a" * 200, 2), ("ab" * 8, 4)]
)
def test_degenerate_text_gives_up(needle, max_diffs):
    with pytest.raises(WorkLimitError):
        near_range(needle, "ab" * 400_000 if "b" in needle else "a" * 800_000, max_diffs)
