from __future__ import annotations

import pytest
import torch

from olmrl.models.registry import FAMILIES
from olmrl.weight_sync import checksum

FAMILY = FAMILIES["qwen2_5_vl"]


def matrix(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_transposed_and_padded_weights_keep_their_sum(dtype: torch.dtype) -> None:
    q, k, v = (matrix(s, 6, 4, dtype=dtype) for s in (1, 2, 3))
    prefix = "model.language_model.layers.0.self_attn."
    learner = checksum.checksums(
        [(f"{prefix}{part}_proj.weight", t) for part, t in zip("qkv", (q, k, v), strict=True)],
        FAMILY,
    )
    fused = torch.cat([q, k, v, torch.zeros(2, 4, dtype=dtype)]).T.contiguous()
    name = "language_model.model.layers.0.self_attn.qkv_proj.weight"
    assert list(learner) == [name]
    assert learner[name] == (checksum.tensor_hash(fused), 3 * 24)


def test_any_changed_bit_and_any_swapped_weight_show() -> None:
    weights = matrix(0, 50, 50)
    before = checksum.tensor_hash(weights)
    for place in [(0, 0), (17, 31), (49, 49)]:
        changed = weights.clone()
        changed[place] = torch.nextafter(changed[place], torch.tensor(10.0))
        assert checksum.tensor_hash(changed) != before
    assert checksum.tensor_hash(-weights) != before
    assert checksum.tensor_hash(2 * weights) != before


def test_zeros_count_nothing_whatever_their_sign() -> None:
    assert checksum.tensor_hash(torch.zeros(9)) == 0
    assert checksum.tensor_hash(torch.tensor([-0.0, 1.0])) == checksum.tensor_hash(torch.ones(1))


def test_chunks_do_not_change_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = matrix(3, 1000)
    whole = checksum.tensor_hash(weights)
    monkeypatch.setattr(checksum, "_CHUNK", 7)
    assert checksum.tensor_hash(weights) == whole


@pytest.mark.parametrize(
    ("learner", "engine"),
    [
        ("model.language_model.embed_tokens.weight", "language_model.model.embed_tokens.weight"),
        (
            "model.layers.3.mlp.up_proj.weight",
            "language_model.model.layers.3.mlp.gate_up_proj.weight",
        ),
        ("model.visual.blocks.1.attn.qkv.bias", "visual.blocks.1.attn.qkv.bias"),
        ("visual.merger.mlp.0.weight", "visual.merger.mlp.0.weight"),
        ("lm_head.weight", "language_model.lm_head.weight"),
        (
            "model.language_model.layers.11.self_attn.o_proj.weight",
            "language_model.model.layers.11.self_attn.o_proj.weight",
        ),
    ],
)
def test_names_are_vllms(learner: str, engine: str) -> None:
    assert FAMILY.engine_name(learner) == engine


def summed(tensor: torch.Tensor) -> tuple[int, int]:
    return checksum.tensor_hash(tensor), tensor.numel()


@pytest.mark.parametrize("whole", [matrix(1, 8, 4), torch.ones(8, 4)], ids=["random", "ones"])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_shards_add_up_and_copies_count_once(whole: torch.Tensor, ranks: int) -> None:
    """`dt_bias` of a fresh model is all ones: its shards look alike, and are shards."""
    learner = {"sharded": summed(whole), "copied": summed(whole)}
    engine = [{"sharded": summed(s), "copied": summed(whole)} for s in whole.chunk(ranks)]
    assert checksum.differences(learner, engine, FAMILY) == []


@pytest.mark.parametrize("whole", [matrix(1, 8, 4), torch.ones(8, 4)], ids=["random", "ones"])
@pytest.mark.parametrize("name", ["sharded", "copied"])
def test_one_rank_with_other_weights_shows(whole: torch.Tensor, name: str) -> None:
    engine = [{"sharded": summed(s), "copied": summed(whole)} for s in whole.chunk(2)]
    stale = whole.clone()
    stale[-1, -1] += 0.25
    engine[1] = {"sharded": summed(stale[4:]), "copied": summed(stale)} | {
        other: engine[1][other] for other in engine[1] if other != name
    }
    learner = {"sharded": summed(whole), "copied": summed(whole)}
    assert checksum.differences(learner, engine, FAMILY) == [name]


def test_a_padded_embedding_is_still_a_sharded_one() -> None:
    whole = torch.ones(300, 4)
    shards = torch.cat([whole, torch.zeros(20, 4)]).chunk(2)
    learner = {"embed": summed(whole)}
    assert checksum.differences(learner, [{"embed": summed(s)} for s in shards], FAMILY) == []
    late = [{"embed": summed(torch.zeros(160, 4))}, {"embed": summed(shards[1])}]
    assert checksum.differences(learner, late, FAMILY) == ["embed"]


def test_differences_name_stale_missing_and_forgive_a_shared_head() -> None:
    learner = {"a": (1, 4), "b": (2, 4), "c": (3, 4), "language_model.lm_head.weight": (9, 4)}

    def differences(engine: dict[str, tuple[int, int]], *further: dict[str, tuple[int, int]]):
        return checksum.differences(learner, [engine, *further], FAMILY)

    equal = {"a": (1, 4), "b": (2, 4), "c": (3, 4)}
    assert differences({"a": (1, 4), "b": (7, 4), "extra": (0, 1)}) == ["b", "c"]
    assert differences(equal) == []
    assert differences({**equal, "language_model.lm_head.weight": (8, 4)}) == [
        "language_model.lm_head.weight"
    ]
    assert differences(equal, {"a": (1, 4), "b": (2, 4)}) == ["c"]
