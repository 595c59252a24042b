"""bfloat16 weights move as float32 weights do, however small the steps are."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from olmrl.config.schema import OptimizerConfig
from olmrl.learner.optim import build_optim
from olmrl.learner.optimizers import REST, Muon, SplitAdamW
from olmrl.learner.split_weights import join, split_
from olmrl.models.registry import FAMILIES

FAMILY = FAMILIES["qwen2_5_vl"]
NORM = FAMILY.norm_types()[0]
STEPS, RATE = 200, 2e-6


class Net(nn.Module):
    """Matrices of 0.02, norms of 1: the scales of a language model's weights."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(48, 64, bias=False), nn.Linear(64, 48)
        self.norm = NORM(64)
        for parameter in (self.first.weight, self.second.weight):
            nn.init.normal_(parameter, std=0.02)
        for parameter in self.parameters():  # both start from numbers that bfloat16 holds
            parameter.data = parameter.data.bfloat16().float()

    def forward(self, x):
        return self.second(self.norm(self.first(x)).tanh())


def train(dtype, config, steps=STEPS, model=None, optim=None, first=0):
    """Noisy regression; returns the network and its optimizers."""
    model = model or Net().to(dtype)
    optim = optim or build_optim(model, nn.Linear(1, 1), FAMILY, config, STEPS)
    draws = torch.Generator().manual_seed(1)
    teacher = torch.randn(48, 48, generator=draws)
    for step in range(steps):
        x, noise = torch.randn(2, 16, 48, generator=draws)
        if step < first:
            continue
        target = x @ teacher + noise
        error = model(x.to(dtype)).float() - target
        optim.zero_grad()
        error.square().mean().backward()
        optim.step()
    return model, optim


def exact(model, optim):
    """Weights with the bits that bfloat16 rounds away."""
    states = {p: state for o in optim.optimizers for p, state in o.state.items()}
    return {
        name: join(p.data, states[p][REST]) if p.dtype == torch.bfloat16 else p.data.clone()
        for name, p in model.named_parameters()
    }


def moved(weights):
    start = dict(Net().named_parameters())
    return {name: (weight - start[name].data).flatten() for name, weight in weights.items()}


@pytest.mark.parametrize(
    "keys",
    [
        {"lr": RATE, "schedule": "linear"},
        {"lr": RATE, "schedule": "constant", "weight_decay": 0.1},
        {"name": "muon", "lr": RATE, "muon_lr": 2e-6, "schedule": "linear"},
    ],
)
def test_two_hundred_small_steps_go_where_float32_goes(keys):
    config = OptimizerConfig(**keys)
    reference = moved(exact(*train(torch.float32, config)))
    found = moved(exact(*train(torch.bfloat16, config)))
    for name, step in reference.items():
        cosine = torch.cosine_similarity(step, found[name], dim=0).item()
        assert cosine >= 0.99, (name, cosine)
        assert found[name].norm() == pytest.approx(step.norm().item(), rel=0.05), name


def test_torchs_own_adamw_would_lose_them():
    """The control: what the test above sees where weights are rounded."""
    model = Net().bfloat16()
    plain = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    config = OptimizerConfig(lr=RATE, schedule="constant")
    reference = moved(exact(*train(torch.float32, config)))
    optim = build_optim(model, nn.Linear(1, 1), FAMILY, config, STEPS)
    optim.optimizers, optim.schedules = [plain], []
    train(torch.bfloat16, config, model=model, optim=optim)
    found = moved({name: p.data.float() for name, p in model.named_parameters()})
    assert torch.cosine_similarity(reference["norm.weight"], found["norm.weight"], dim=0) < 0.5


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_an_optimizer_saved_and_loaded_goes_on_to_the_same_bits(name):
    config = OptimizerConfig(name=name, lr=RATE, schedule="constant")
    model, optim = train(torch.bfloat16, config, steps=30)
    unbroken = exact(*train(torch.bfloat16, config, steps=60))
    other = Net().bfloat16()
    other.load_state_dict(model.state_dict())
    again = build_optim(other, nn.Linear(1, 1), FAMILY, config, STEPS)
    for mine, theirs in zip(again.optimizers, optim.optimizers, strict=True):
        mine.load_state_dict(copy.deepcopy(theirs.state_dict()))
    again.restore_schedule(optim.steps)
    train(torch.bfloat16, config, steps=60, model=other, optim=again, first=30)
    found = exact(other, again)
    for key, weight in unbroken.items():
        assert torch.equal(weight, found[key]), key


def test_a_state_without_the_lower_bits_starts_them_at_zero():
    """Checkpoints of an olmrl whose optimizer rounded the weights."""
    model = Net().bfloat16()
    old = torch.optim.AdamW(model.parameters(), lr=RATE)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    old.step()
    new = SplitAdamW(model.parameters(), lr=RATE)
    new.load_state_dict(old.state_dict())
    new.step()
    for p in model.parameters():
        assert new.state[p]["step"] == 2 and new.state[p]["exp_avg_sq"].dtype == torch.float32
        assert new.state[p][REST].dtype == torch.int16


def test_any_float32_is_its_two_halves():
    draws = np.random.default_rng(0)
    bits = draws.integers(0, 2**32, 200_000, dtype=np.uint32)
    number = torch.from_numpy(bits.view(np.float32))
    number = number[number.abs() < 3e38]  # infinities and NaN end a run
    edges = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-45, 1.00390625, -1.01171875])
    number = torch.cat([number, edges])
    weight, rest = torch.empty_like(number, dtype=torch.bfloat16), torch.empty_like(number).short()
    split_(weight, rest, number)
    assert torch.equal(join(weight, rest).view(torch.int32), number.view(torch.int32))
    spacing = (number.bfloat16().float() - number).abs()
    assert torch.all((weight.float() - number).abs() == spacing), "rounded to a nearest one"


def test_weights_of_float32_keep_torchs_own_optimizers():
    config = OptimizerConfig(name="muon", lr=1e-3, schedule="constant")
    ours, optim = train(torch.float32, config, steps=5)
    model = Net()
    matrices = [model.first.weight, model.second.weight]
    rest = [p for p in model.parameters() if all(p is not m for m in matrices)]
    muon = torch.optim.Muon(matrices, lr=1e-3, weight_decay=0.0, momentum=0.95, nesterov=True)
    adamw = torch.optim.AdamW(rest, lr=1e-3, weight_decay=0.0, fused=True)
    other = build_optim(model, nn.Linear(1, 1), FAMILY, config, STEPS)
    other.optimizers, other.schedules = [muon, adamw], []
    optim_is_ours = isinstance(optim.optimizers[0], Muon)
    assert optim_is_ours and not isinstance(optim.optimizers[1], SplitAdamW)
    if optim.precision == "bfloat16":
        train(torch.float32, config, steps=5, model=model, optim=other)
        for mine, theirs in zip(ours.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-7)


def test_newton_schulz_in_float32_goes_the_same_way(monkeypatch):
    config = OptimizerConfig(name="muon", lr=1e-3, schedule="constant")
    found = {}
    for precision in (torch.bfloat16, torch.float32):
        monkeypatch.setattr("olmrl.learner.optim.fastest_precision", lambda _, p=precision: p)
        model, optim = train(torch.float32, config, steps=5)
        assert optim.precision == str(precision).removeprefix("torch.")
        found[precision] = moved(exact(model, optim))["first.weight"]
    cosine = torch.cosine_similarity(*found.values(), dim=0)
    assert 0.99 < cosine < 1.0


def test_a_resumed_run_keeps_the_precision_it_began_with(monkeypatch):
    config = OptimizerConfig(name="muon", lr=1e-3, schedule="constant")
    monkeypatch.setattr("olmrl.learner.optim.fastest_precision", lambda _: torch.float32)
    _, optim = train(torch.float32, config, steps=1)
    saved = optim.schedule_state()
    monkeypatch.setattr("olmrl.learner.optim.fastest_precision", lambda _: torch.bfloat16)
    _, other = train(torch.float32, config, steps=1)
    assert other.precision == "bfloat16"
    other.restore(saved)
    assert other.precision == "float32"
    other.restore({"steps": 3})  # older than the choice
    assert other.precision == "bfloat16" and other.steps == 3
