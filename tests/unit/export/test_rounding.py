"""8-bit codes against a slow, obvious rounding."""

import math

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import fake_quantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams, compute_dynamic_scales_and_zp
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
    with pytest.raises(ValueError, match=r"\[4, 6\] is not a multiple of 4"):
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


@pytest.mark.parametrize("strategy", ["channel", "block"])
def test_fp8_codes_are_those_of_the_library_that_owns_the_format(strategy):
    weight = torch.randn(256, 384, generator=torch.Generator().manual_seed(0)) * 0.02
    kind = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False}
    if strategy == "channel":
        arguments = QuantizationArgs(**kind, strategy="channel")
        ours = rounding.channel_codes(weight, FP8)
        low, high = weight.aminmax(dim=1, keepdim=True)
    else:
        arguments = QuantizationArgs(**kind, strategy="block", block_structure=[128, 128])
        ours = rounding.block_codes(weight, 128)
        blocks = weight.reshape(2, 128, 3, 128)
        low, high = blocks.amin((1, 3)), blocks.amax((1, 3))
    scale, zero = calculate_qparams(low, high, arguments)
    torch.testing.assert_close(ours.scale, scale, rtol=0, atol=0)
    theirs = quantize(weight, scale, zero, arguments, dtype=FP8)
    assert torch.equal(ours.codes.view(torch.uint8), theirs.view(torch.uint8))


@pytest.mark.parametrize(("strategy", "group"), [("token", None), ("group", 128)])
def test_fp8_activations_are_those_of_the_library_that_owns_the_format(strategy, group):
    x = torch.randn(2, 7, 384, generator=torch.Generator().manual_seed(1))
    x[0, 0], x[0, 1, 5] = 0, 80
    arguments = QuantizationArgs(
        num_bits=8, type="float", symmetric=True, dynamic=True, strategy=strategy, group_size=group
    )
    scale, zero = compute_dynamic_scales_and_zp(x, arguments, torch.nn.Identity())
    assert torch.equal(
        rounding.through_fp8_rows(x, group), fake_quantize(x, scale, zero, arguments)
    )
