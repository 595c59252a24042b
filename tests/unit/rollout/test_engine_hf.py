"""The hf engine's parts that need no model."""

from __future__ import annotations

from olmrl.rollout.engine_hf import spans
from olmrl.types import PolicyVersion, VersionSpan


def test_spans_are_runs_of_equal_versions() -> None:
    a, b = PolicyVersion(1, 3), PolicyVersion(1, 4)
    assert spans([a, a, b, b, b]) == (VersionSpan(a, 0, 2), VersionSpan(b, 2, 5))
    assert spans([a]) == (VersionSpan(a, 0, 1),)
    assert spans([]) == ()
