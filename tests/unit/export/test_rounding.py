"""8-bit codes against a slow, obvious rounding."""

import math

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from olmrl.export import rounding
from olmrl.export.rounding import FP8


def e4m3_values():
    """All finite e4m3fn numbers from the definition: 1-4-3 bits, bias 7, no infinities."""
    values = []
    for code in range(127):
        exponent, mantissa = code >> 3, code & 7
        scale = 2.0 ** (exponent - 7) if exponent else 2.0**-6
        values.append(scale * ((1 if exponent else 0) + mantissa / 8))
    return np.array(sorted({*values, *(-v for v in values)}))


E4M3 = e4m3_values()
matrices = hnp.arrays(
    np.float32, (4, 8), elements=st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
)


@settings(max_examples=40, deadline=None)
@given(matrices)
def test_fp8_channels_take_the_nearest_code(weight):
    codes, scale = rounding.channel_codes(torch.from_numpy(weight), FP8)
    for row, s, got in zip(weight, scale[:, 0].tolist(), codes.float().numpy(), strict=True):
        assert s == pytest.approx(max(float(np.abs(row).max()) / 448, 1e-12), rel=1e-6)
        wanted = np.clip(row / np.float32(s), -448, 448)
        best = np.abs(E4M3[None] - wanted[:, None].astype(np.float64)).min(1)
        np.testing.assert_allclose(np.abs(got - wanted), best, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(matrices)
def test_int8_channels_are_within_half_a_step(weight):
    quantised = rounding.channel_codes(torch.from_numpy(weight), torch.int8)
    back = rounding.decode(quantised).numpy()
    steps = np.abs(weight).max(1, keepdims=True) / 127
    assert (np.abs(back - weight) <= steps * 0.5001 + 1e-9).all()


def test_blocks_have_a_scale_each():
    weight = torch.ones(4, 6)
    weight[:2, 4:] = 1000.0
    codes, scale = rounding.block_codes(weight, 2)
    assert scale.shape == (2, 3)
    assert scale[0, 2].item() == pytest.approx(1000 / 448)
    assert scale[1, 2].item() == pytest.approx(1 / 448)
    torch.testing.assert_close(rounding.decode(rounding.Codes(codes, scale)), weight)
    with pytest.raises(ValueError, match=r"\[4, 6\] is no multiple of 4"):
        rounding.block_codes(weight, 4)


def test_activations():
    x = torch.tensor([[1.0, -448.0, 0.3], [0.0, 0.0, 0.0]])
    row = rounding.through_fp8_rows(x)
    assert row[0].tolist() == [1.0, -448.0, 0.3125]
    assert row[1].tolist() == [0.0, 0.0, 0.0]
    grouped = rounding.through_fp8_rows(torch.tensor([[448.0, 0.3, 0.0, 0.3]]), group=2)
    assert grouped[0, 1].item() == 0.3125
    assert grouped[0, 3].item() == pytest.approx(0.3)
    ints = rounding.through_int8_rows(torch.tensor([[127.0, 1.4, -0.6]]))
    assert ints[0].tolist() == [127.0, 1.0, -1.0]
    clipped = rounding.through_scale(torch.tensor([300.0, 2.6]), 1.0, torch.int8)
    assert clipped.tolist() == [127.0, 3.0]
    assert rounding.static_scale(254.0, torch.int8) == 2.0
    assert rounding.through_fp8_rows(x.bfloat16()).dtype == torch.bfloat16


def test_relative_error():
    exact = torch.tensor([3.0, 4.0])
    assert rounding.relative_error(exact, torch.tensor([3.0, 4.5])) == pytest.approx(0.1)
    assert rounding.relative_error(torch.zeros(2), torch.zeros(2)) == 0.0
    assert not math.isnan(rounding.relative_error(torch.zeros(2), torch.ones(2)))
