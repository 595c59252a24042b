"""Gated DeltaNet over packed rows, against the recurrence as the paper writes it."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import Qwen3_5TextConfig
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet

from olmrl.models.delta_net import MAX_PADDING, PackedDeltaNet, RecurrencePlan
from olmrl.models.spans import find_spans

CONFIG = Qwen3_5TextConfig(
    hidden_size=24,
    num_hidden_layers=4,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    linear_key_head_dim=8,
    linear_value_head_dim=6,
)
TAPS = CONFIG.linear_conv_kernel_dim - 1
ROWS = {
    "alone": [(70, None)],
    "group": [(66, None), (5, 0), (1, 0), (90, 0)],
    "prompt shorter than the convolution": [(2, None), (4, 0), (1, 0)],
    "two groups and a page": [(9, None), (64, 0), (3, 0), (130, None), (1, None), (7, 4), (2, 3)],
}
"""Length of each segment and the number of its prefix."""


@pytest.fixture(scope="module")
def layer():
    """A layer of which no parameter stands at its neutral value."""
    torch.manual_seed(0)
    made = Qwen3_5GatedDeltaNet(CONFIG, 0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3)
        made.A_log.copy_(torch.linspace(-4, 0.5, 4))
    return made


def spans_of(row):
    segment = np.repeat(np.arange(len(row)), [n for n, _ in row]).astype(np.int32)
    prefix = np.asarray([-1 if p is None else p for _, p in row], np.int32)[segment]
    return find_spans(segment, prefix)


def slow(layer, hidden):
    """One sequence, token by token: arXiv 2412.06464, equation 10, behind a short convolution."""
    tail = torch.zeros(TAPS, layer.conv_dim)
    state = torch.zeros(layer.num_v_heads, layer.head_k_dim, layer.head_v_dim)
    rows = []
    for x in hidden:
        window = torch.cat([tail, layer.in_proj_qkv(x)[None]])
        tail = window[1:]
        mixed = F.silu((window * layer.conv1d.weight[:, 0].T).sum(0))
        q, k, v = mixed.split([layer.key_dim, layer.key_dim, layer.value_dim])
        q, k = (F.normalize(y.view(-1, layer.head_k_dim), dim=-1) for y in (q, k))
        q, k = (y.repeat_interleave(2, 0) for y in (q, k))
        beta = layer.in_proj_b(x).sigmoid()[:, None]
        keep = (-layer.A_log.exp() * F.softplus(layer.in_proj_a(x) + layer.dt_bias)).exp()
        state = state * keep[:, None, None]
        seen = (state * k[..., None]).sum(1)
        change = beta * (v.view(-1, layer.head_v_dim) - seen)
        state = state + k[..., None] * change[:, None]
        out = (state * q[..., None]).sum(1) * layer.head_k_dim**-0.5
        gate = layer.in_proj_z(x).view(-1, layer.head_v_dim)
        normed = out * (out.pow(2).mean(-1, keepdim=True) + layer.layer_norm_epsilon).rsqrt()
        rows.append(layer.out_proj((layer.norm.weight * normed * F.silu(gate)).flatten()))
    return torch.stack(rows)


def gradients(layer, hidden, out):
    weight = torch.linspace(-1, 1.5, out.numel()).view(out.shape)
    wanted = [hidden, *layer.parameters()]
    return torch.autograd.grad((out * weight).sum(), wanted)


@pytest.mark.parametrize("name", ROWS)
def test_packed_rows_equal_the_recurrence_token_by_token(layer, name):
    spans = spans_of(ROWS[name])
    hidden = torch.randn(sum(n for n, _ in ROWS[name]), 24, requires_grad=True)
    pieces = []
    for span in spans:
        whole = hidden[span.key_index()]
        pieces.append(slow(layer, whole)[span.prefix_length :])
    expected = torch.cat(pieces)
    packed = copy.deepcopy(layer)
    PackedDeltaNet.take_over(packed)
    found = packed(hidden[None], recurrence=RecurrencePlan(spans, TAPS))[0]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)
    named = dict(
        zip(
            ["hidden", *dict(layer.named_parameters())],
            gradients(layer, hidden, expected),
            strict=True,
        )
    )
    order = ["hidden", *(n.replace("olmrl_decay.", "") for n, _ in packed.named_parameters())]
    for parameter, gradient in zip(order, gradients(packed, hidden, found), strict=True):
        scale = named[parameter].abs().max()
        assert scale > 0 and (gradient - named[parameter]).abs().max() <= 1e-4 * scale, parameter


def test_without_a_plan_it_is_the_layer_of_transformers(layer):
    hidden = torch.randn(2, 11, 24)
    packed = copy.deepcopy(layer)
    PackedDeltaNet.take_over(packed)
    assert torch.equal(packed(hidden), layer(hidden))


def test_padding_of_batches_is_bounded():
    spans = spans_of([(50, None), (4000, 0), *[(10, 0)] * 200])
    assert RecurrencePlan(spans, TAPS).padded_tokens <= MAX_PADDING * (50 + 4000 + 2000)


def test_decay_stays_in_float32(layer):
    packed = copy.deepcopy(layer).bfloat16()
    PackedDeltaNet.take_over(packed)
    hidden = torch.randn(1, 5, 24, dtype=torch.bfloat16)
    plan = RecurrencePlan(spans_of([(3, None), (2, 0)]), TAPS)
    assert packed.olmrl_decay(packed.in_proj_a(hidden)).dtype == torch.float32
    assert packed(hidden, recurrence=plan).dtype == torch.bfloat16


NO_KERNEL_ON_A_CPU = """
import sys, types
import torch

def kernel(*_, **__):
    raise ValueError("Pointer argument (at 0) cannot be accessed from Triton (cpu tensor?)")

for path in ("fla", "fla.ops", "fla.ops.gated_delta_rule", "causal_conv1d"):
    sys.modules[path] = types.ModuleType(path)
for name in ("chunk_gated_delta_rule", "fused_recurrent_gated_delta_rule"):
    setattr(sys.modules["fla.ops.gated_delta_rule"], name, kernel)
for name in ("causal_conv1d_fn", "causal_conv1d_update"):
    setattr(sys.modules["causal_conv1d"], name, kernel)

from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig
from transformers.models.qwen3_5 import modeling_qwen3_5 as theirs

layer_types = ["linear_attention", "full_attention"]
model = Qwen3_5ForCausalLM(Qwen3_5TextConfig(
    vocab_size=32, hidden_size=24, intermediate_size=24, num_hidden_layers=2, head_dim=8,
    num_attention_heads=2, num_key_value_heads=1, linear_num_key_heads=2,
    linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=6,
    layer_types=layer_types, eos_token_id=None, bos_token_id=None, pad_token_id=0,
))
ids = torch.arange(1, 6)[None]
try:
    model(ids)
except ValueError:
    print("transformers' own fails")

from olmrl.models.delta_net import PackedDeltaNet, RecurrencePlan
from olmrl.models.spans import Span

print("generated", model.generate(ids, max_new_tokens=3, do_sample=False).shape[1])
layer = model.model.layers[0].linear_attn
PackedDeltaNet.take_over(layer)
print("packed", layer(torch.randn(1, 5, 24), RecurrencePlan([Span(0, 5, 0, 0)], 3)).shape[1])
"""


def test_installed_kernels_are_left_alone_on_a_cpu():
    done = subprocess.run(
        [sys.executable, "-c", NO_KERNEL_ON_A_CPU], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [
        "transformers' own fails",
        "generated 8",
        "packed 5",
    ], done.stderr
