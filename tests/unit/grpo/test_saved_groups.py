"""Groups survive a checkpoint exactly, and cannot carry code."""

import io

import numpy as np
import pytest

from olmrl.checkpoint.manifest import CheckpointError
from olmrl.grpo.saved_groups import decode_groups, encode_groups
from olmrl.types import (
    Completion,
    PolicyVersion,
    PromptGroup,
    RewardResult,
    Rollout,
    TestVerdict,
    VersionSpan,
)


def group(name: str) -> PromptGroup:
    completion = Completion(
        group_id=name,
        index=0,
        token_ids=np.array([5, 6, 7], np.int32),
        logprobs=np.array([-0.1, -np.inf, -1e-7], np.float32),
        versions=(
            VersionSpan(PolicyVersion(1, 4), 0, 2),
            VersionSpan(PolicyVersion(2, 4), 2, 3),
        ),
        finish_reason="stop",
        text='\u00e9 "quote" \U0001f600 \x00',
        prompt_token_ids=np.arange(4, dtype=np.int32),
    )
    verdict = TestVerdict("t1", "present", "math.jsonl", False, "not found")
    reward = RewardResult(0.5, {"math": 0.5}, (verdict,))
    failed = RewardResult(float("nan"), failed=True, error="timeout")
    rollout = Rollout(completion, {"bench": reward, "eos": failed}, float("nan"))
    return PromptGroup(name, "a.pdf::1", (rollout,), page=object())


def test_round_trip():
    groups = [group("g1"), group("g2")]
    back = decode_groups(encode_groups(groups))
    assert [g.group_id for g in back] == ["g1", "g2"]
    before, after = groups[0].rollouts[0], back[0].rollouts[0]
    assert back[0].page is None
    assert after.completion.versions == before.completion.versions
    assert after.completion.text == before.completion.text
    assert after.completion.token_ids.dtype == np.int32
    np.testing.assert_array_equal(after.completion.logprobs, before.completion.logprobs)
    assert after.rewards["bench"] == before.rewards["bench"]
    assert after.rewards["eos"].failed and np.isnan(after.rewards["eos"].value)
    assert decode_groups(encode_groups([])) == []


def test_damaged_and_pickled_bytes_are_refused():
    data = encode_groups([group("g")])
    evil = io.BytesIO()
    np.savez(evil, tree=np.array([object()], dtype=object))
    for damaged in (data[: len(data) // 2], b"", b"rubbish", evil.getvalue()):
        with pytest.raises(CheckpointError, match="damaged"):
            decode_groups(damaged)
