"""Chunked log-probs against log_softmax over the whole vocabulary."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from olmrl.learner.logprobs import HeadSpec, token_logprobs

N, H, V = 37, 16, 90
BANNED = (3, 50, 89)


def _inputs(dtype=torch.float64):
    rng = torch.Generator().manual_seed(5)
    hidden = torch.randn(N, H, generator=rng, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, H, generator=rng, dtype=dtype, requires_grad=True)
    targets = torch.randint(4, 49, (N,), generator=rng)
    return hidden, weight, targets


def _slow(hidden, weight, targets, temperature, banned):
    logits = hidden @ weight.T / temperature
    logits = logits.index_fill(-1, torch.tensor(banned, dtype=torch.long), -torch.inf)
    logp = logits.log_softmax(-1)
    surprise = torch.where(logp.isinf(), torch.zeros_like(logp), logp)
    return logp.gather(-1, targets[:, None])[:, 0], -(logp.exp() * surprise).sum(-1)


@pytest.mark.parametrize("chunk", [1, 8, 37, 1000])
@pytest.mark.parametrize(("temperature", "banned"), [(1.0, ()), (0.7, BANNED)])
def test_values_and_gradients_equal_the_full_softmax(chunk, temperature, banned):
    hidden, weight, targets = _inputs(torch.float32)
    spec = HeadSpec(temperature, banned, chunk)
    found = token_logprobs(hidden, weight, targets, spec)
    exact = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    logp, entropy = _slow(*exact, targets, temperature, banned)
    torch.testing.assert_close(found.logprobs_N.double(), logp, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.entropy_N.double(), entropy, atol=1e-5, rtol=1e-5)
    a, b = torch.randn(N), torch.randn(N)
    (a * found.logprobs_N + b * found.entropy_N).sum().backward()
    (a * logp + b * entropy).sum().backward()
    for x, y in zip((hidden, weight), exact, strict=True):
        torch.testing.assert_close(x.grad.double(), y.grad, atol=1e-5, rtol=1e-4)


def test_banned_ids_have_no_probability():
    hidden, weight, _ = _inputs(torch.float32)
    spec = HeadSpec(1.0, BANNED, 8)
    allowed = [v for v in range(V) if v not in BANNED]
    mass = sum(
        token_logprobs(hidden, weight, torch.full((N,), v), spec).logprobs_N.exp() for v in allowed
    )
    torch.testing.assert_close(mass, torch.ones(N), atol=1e-5, rtol=0)
    gone = token_logprobs(hidden, weight, torch.full((N,), BANNED[0]), spec).logprobs_N
    assert (gone.exp() == 0).all()


class _Largest(TorchDispatchMode):
    """The largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for item in out if isinstance(out, tuple | list) else [out]:
            if isinstance(item, torch.Tensor):
                self.numel = max(self.numel, item.numel())
        return out


def test_the_logits_of_all_tokens_never_exist_at_once():
    hidden, weight, targets = _inputs(torch.float32)
    with _Largest() as largest:
        out = token_logprobs(hidden, weight, targets, HeadSpec(0.5, BANNED, 4))
        (out.logprobs_N.sum() + out.entropy_N.sum()).backward()
    assert largest.numel == V * H  # the weight's gradient; N x V would be 3330


def test_the_float32_head_does_not_round_logits():
    hidden, weight, targets = _inputs(torch.float32)
    low = [x.detach().bfloat16() for x in (hidden, weight)]
    expected, _ = _slow(low[0].double(), low[1].double(), targets, 1.0, ())
    exact = token_logprobs(*low, targets, HeadSpec(float32=True)).logprobs_N
    rough = token_logprobs(*low, targets, HeadSpec()).logprobs_N
    assert (exact - expected).abs().max() < 1e-5 < (rough - expected).abs().max()


def test_no_targets_give_no_logprobs():
    hidden, weight, _ = _inputs(torch.float32)
    out = token_logprobs(hidden[:0], weight, torch.zeros(0, dtype=torch.long), HeadSpec())
    assert out.logprobs_N.shape == (0,)
    out.logprobs_N.sum().backward()
    assert weight.grad.abs().max() == 0
