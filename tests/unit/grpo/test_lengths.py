"""Groups are requested longest first where their length is known."""

from olmrl.grpo.lengths import expected_tokens, longest_first
from olmrl.types import Page


def page(reference):
    return Page("p::1", "p.pdf", 1, reference)


def test_longest_first_the_unknown_in_between_equals_as_they_came():
    assert longest_first([10.0, 40.0, None, 40.0, 20.0]) == [1, 3, 2, 4, 0]  # unknown: 27.5
    assert longest_first([None, None]) == [0, 1]
    assert longest_first([]) == []


def test_completions_of_an_earlier_epoch_count_more_than_the_truth():
    assert expected_tokens(page("x" * 100), 7.0) == 7.0
    assert expected_tokens(page("x" * 200), None) > expected_tokens(page("x" * 100), None) > 0
    assert expected_tokens(page(None), None) is None
