"""Packed attention against a plain masked softmax, for every kernel that runs here."""

import numpy as np
import pytest
import torch

from olmrl.learner.attention import (
    BLOCK,
    FlashPlan,
    FlexPlan,
    SdpaPlan,
    VisionSegments,
    block_visibility,
    resolve_kernel,
)
from olmrl.models.spans import find_spans

ROWS = {
    "one": ([0] * 7, [-1] * 7),
    "group": ([0] * 6 + [1] * 3 + [2] * 9 + [3], [-1] * 6 + [0] * 13),
    "two groups and a page": (
        [4] * 5 + [1] * 2 + [0] * 8 + [9] * 11 + [2] * 3,
        [-1] * 5 + [4] * 2 + [-1] * 8 + [-1] * 11 + [0] * 3,
    ),
}


def _row(name):
    segment, prefix = (np.asarray(x, np.int32) for x in ROWS[name])
    rng = torch.Generator().manual_seed(3)
    shape = (len(segment), 8)
    q = torch.randn(1, 4, *shape, generator=rng, requires_grad=True)
    k = torch.randn(1, 2, *shape, generator=rng, requires_grad=True)
    v = torch.randn(1, 2, *shape, generator=rng, requires_grad=True)
    return segment, prefix, q, k, v


def _masked(segment, prefix, q, k, v, scaling):
    """The definition, token pair by token pair."""
    total = len(segment)
    mask = torch.zeros(total, total, dtype=torch.bool)
    for t in range(total):
        for s in range(t + 1):
            mask[t, s] = bool(segment[s] == segment[t] or segment[s] == prefix[t])
    scores = q @ k.repeat_interleave(2, 1).transpose(-1, -2) * scaling
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return (weights @ v.repeat_interleave(2, 1)).transpose(1, 2)


def _slow_varlen(q, k, v, cu_q, cu_k, max_q, max_k, softmax_scale, causal):
    """What flash-attn's variable-length kernel computes, causality aligned at the last key."""
    assert causal and max_q == max(torch.diff(cu_q)) and max_k == max(torch.diff(cu_k))
    out = []
    for i in range(len(cu_q) - 1):
        a, b = q[cu_q[i] : cu_q[i + 1]], slice(cu_k[i], cu_k[i + 1])
        keys, values = k[b].repeat_interleave(2, 1), v[b].repeat_interleave(2, 1)
        scores = torch.einsum("qhd,khd->hqk", a, keys) * softmax_scale
        hidden = torch.ones(len(a), len(keys)).triu(len(keys) - len(a) + 1).bool()
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        out.append(torch.einsum("hqk,khd->qhd", weights, values))
    return torch.cat(out)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("kernel", ["sdpa", "flash", "flex"])
def test_kernels_agree_with_the_definition(name, kernel):
    segment, prefix, q, k, v = _row(name)
    spans = find_spans(segment, prefix)
    plan = {
        "sdpa": lambda: SdpaPlan(spans),
        "flash": lambda: FlashPlan(spans, "cpu", kernel=_slow_varlen),
        "flex": lambda: FlexPlan(spans, "cpu"),
    }[kernel]()
    expected = _masked(segment, prefix, q, k, v, 0.3)
    # torch has FlexAttention's gradients on GPUs only
    q, k, v = (x.detach() if kernel == "flex" else x for x in (q, k, v))
    found = plan.attend(q, k, v, 0.3)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    if kernel == "flex":
        return
    weight = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), (q, k, v)),
        torch.autograd.grad((expected * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("row", "key_heads"),
    [("completions behind a prompt", 4), ("segments alone", 2)],
)
def test_flex_repeats_keys_where_a_prompt_is_shared_and_never_decodes(row, key_heads):
    prefixes = [-1, 0, 0] if key_heads == 4 else [-1, -1, -1]
    lengths = [40, 30, 7]  # fewer than the 128 for which torch would take its decoding kernel
    segment = np.repeat(np.arange(3), lengths).astype(np.int32)
    plan = FlexPlan(find_spans(segment, np.repeat(prefixes, lengths).astype(np.int32)), "cpu")
    taken = {}

    def kernel(query, key, value, **options):
        taken.update(options, heads=(query.shape[1], key.shape[1], value.shape[1]))
        return query

    plan.kernel = kernel
    query, pair = torch.randn(1, 4, 77, 8), torch.randn(2, 1, 2, 77, 8)
    plan.attend(query, *pair, 0.3)
    assert taken["heads"] == (4, key_heads, key_heads)
    assert taken["kernel_options"] == {"BACKEND": "TRITON"}


BLOCKS = {
    "edges inside blocks": [(300, None), (130, 0), (1, 0), (513, 0), (70, None), (200, 4)],
    "edges between blocks": [(256, None), (128, 0), (128, 0), (384, None)],
    "short ones": [(3, None), *[(5, 0)] * 60],
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_marked_as_the_mask_of_all_pairs_says(name):
    row = BLOCKS[name]
    segment = np.repeat(np.arange(len(row)), [n for n, _ in row]).astype(np.int32)
    prefix = np.asarray([-1 if p is None else p for _, p in row], np.int32)[segment]
    sees = (segment[:, None] == segment) | (segment == prefix[:, None])
    sees &= np.arange(len(segment)) <= np.arange(len(segment))[:, None]
    number = -(-len(segment) // BLOCK)
    padded = np.zeros((number * BLOCK, number * BLOCK), bool)
    padded[: len(segment), : len(segment)] = sees
    tiles = padded.reshape(number, BLOCK, number, BLOCK)
    some, every = block_visibility(find_spans(segment, prefix))
    assert np.array_equal(some, tiles.any((1, 3)))
    # the last block may be cut: it is not called whole, which costs nothing but a mask
    whole = tiles.all((1, 3))
    assert not (every & ~whole).any() and np.array_equal(every[:-1], whole[:-1])


def test_padding_of_tiles_is_bounded():
    """One very long segment among short ones must not blow all of them up to its length."""
    lengths = [4000, *[10] * 200]
    segment = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    spans = find_spans(segment, np.full(len(segment), -1, np.int32))
    exact = sum(s.length * s.keys for s in spans)
    tiles = SdpaPlan(spans).tiles
    padded = sum(len(t.query_index) * len(t.key_index) // t.rows for t in tiles)
    assert exact <= padded <= 1.5 * exact


@pytest.mark.parametrize(
    ("segment", "prefix", "message"),
    [
        ([], [], "no tokens"),
        ([0, 1, 0], [-1, -1, -1], "not one run"),
        ([0, 0, 1], [-1, -1, 5], "earlier segment"),
        ([1, 0], [0, -1], "earlier segment"),
        ([0, 1, 2], [-1, 0, 1], "without a prefix"),
        ([0, 1, 1], [-1, 0, -1], "more than one prefix"),
    ],
)
def test_malformed_rows_are_refused(segment, prefix, message):
    with pytest.raises(ValueError, match=message):
        find_spans(np.asarray(segment, np.int32), np.asarray(prefix, np.int32))


def test_patches_attend_inside_their_own_run():
    lengths = [4, 9, 4, 1]
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, sum(lengths), 8) for _ in range(3))
    found = VisionSegments(lengths, "cpu").attend(q, k, v, 0.5)
    start = 0
    for length in lengths:
        part = slice(start, start + length)
        weights = (q[:, :, part] @ k[:, :, part].transpose(-1, -2) * 0.5).softmax(-1)
        expected = (weights @ v[:, :, part]).transpose(1, 2)
        torch.testing.assert_close(found[:, part], expected)
        start += length


def test_a_kernel_that_cannot_run_is_refused():
    assert resolve_kernel("auto", "cpu", "bfloat16") == "sdpa"
    assert resolve_kernel("auto", "cuda", "float32") == "flex"
    with pytest.raises(ValueError, match="half precision"):
        resolve_kernel("flash", "cuda", "float32")
    with pytest.raises(ValueError, match=r"model\.attention: flash needs a CUDA device"):
        resolve_kernel("flash", "cpu", "bfloat16")
    with pytest.raises(ValueError, match=r"model\.attention: flex needs a CUDA device"):
        resolve_kernel("flex", "cpu", "bfloat16")
