from __future__ import annotations

import numpy as np
import pytest

from olmrl.rollout.requests import GenerationRequest, OpenGroup, OpenGroups, too_long
from olmrl.types import EncodedPage, SamplingSpec

PAGE = EncodedPage("a::1", np.arange(9), np.zeros((4, 2), np.uint8), np.array([[1, 2, 2]]))


def group(name: str, seeds: int, wanted: tuple[int, ...] | None = None) -> OpenGroup:
    sampling = SamplingSpec(1.0, 1.0, 5)
    request = GenerationRequest(name, PAGE, sampling, tuple(range(seeds)), wanted)
    return OpenGroup(request, 5)


def test_a_completion_is_handed_out_once() -> None:
    groups = OpenGroups()
    groups.add(group("a", 2))
    assert list(groups.waiting) == [("a", 0), ("a", 1)]
    assert groups.close_completion("a", 1) is not None
    assert groups.close_completion("a", 1) is None
    assert groups.unfinished == 1
    assert groups.close_completion("a", 0) is not None
    assert not groups and groups.get("a") is None
    assert groups.close_completion("never", 0) is None


def test_a_reissued_group_owes_only_what_is_missing() -> None:
    groups = OpenGroups()
    groups.add(group("a", 4, wanted=(1, 3)))
    assert list(groups.waiting) == [("a", 1), ("a", 3)]
    assert groups.close_completion("a", 0) is None
    assert groups.unfinished == 2


def test_abort_forgets_waiting_completions_of_that_group_only() -> None:
    groups = OpenGroups()
    groups.add(group("a", 2))
    groups.add(group("b", 1))
    assert groups.abort(["a", "unknown"]) == {"a"}
    assert list(groups.waiting) == [("b", 0)]
    assert groups.get("a") is None and groups.get("b") is not None


def test_the_same_group_twice_is_an_error_until_it_is_done() -> None:
    groups = OpenGroups()
    groups.add(group("a", 1))
    with pytest.raises(ValueError, match="group a: submitted twice"):
        groups.add(group("a", 1))
    groups.close_completion("a", 0)
    groups.add(group("a", 1))


def test_too_long_names_page_length_and_limit() -> None:
    message = too_long(group("a", 1).request, -3)
    assert "a::1" in message and "9 tokens" in message and "max_model_len=6" in message
