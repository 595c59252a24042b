"""Losses against a slow implementation in plain Python loops."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from olmrl.config.schema import AlgorithmConfig, CorrectionConfig
from olmrl.learner.loss import (
    LossInputs,
    StepCounts,
    grpo_loss,
    kl_estimate,
    sft_loss,
    to_measurements,
)

TRL = json.loads(Path(__file__).with_name("trl_losses.json").read_text("utf-8"))
"""What TRL's GRPOTrainer answered, recorded by benchmarks/trl_losses.py."""
LENGTHS = [3, 1, 6, 4]
MAX_TOKENS = 11


def _columns(masked=()):
    rng = np.random.default_rng(11)
    count = sum(LENGTHS)
    sequence = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    new = -rng.random(count) * 3
    columns = {
        "sequence": sequence,
        "new": new,
        "old": new + rng.normal(size=count) * 0.4,
        "behaviour": new + rng.normal(size=count) * 0.4,
        "reference": new + rng.normal(size=count) * 0.5,
        "entropy": rng.random(count),
        "advantage": rng.normal(size=len(LENGTHS))[sequence],
        "weight": np.where(np.isin(sequence, masked), 0.0, 1.0),
    }
    return columns


def _inputs(c):
    def t(name):
        return torch.tensor(c[name], dtype=torch.float64)

    return LossInputs(
        sequence_N=torch.tensor(c["sequence"]),
        sequences=len(LENGTHS),
        weight_N=t("weight"),
        advantage_N=t("advantage"),
        behaviour_N=t("behaviour"),
        old_N=t("old"),
        reference_N=t("reference"),
    )


def _bounded(weight, correction):
    """Cut to floor and cap, or zero outside; written out from the table of modes."""
    if correction.level == "none":
        return weight
    mask = correction.mode == "mask"
    floor = correction.floor
    if floor is None:
        floor = 1 / correction.cap if mask else 0.0
    if weight > correction.cap:
        return 0.0 if mask else correction.cap
    if weight < floor:
        return 0.0 if mask else floor
    return weight


def _slow(c, a: AlgorithmConfig):
    """The papers' formulas, one token at a time; returns the loss and its clip fraction."""
    tokens = [[i for i, s in enumerate(c["sequence"]) if s == k] for k in range(len(LENGTHS))]
    per_token, clipped, kept_tokens = {}, 0, 0
    for members in tokens:
        live = [i for i in members if c["weight"][i] > 0]
        for i in members:
            ratio = math.exp(c["new"][i] - c["old"][i])
            if a.importance_level == "sequence":
                gaps = [c["new"][j] - c["old"][j] for j in live]
                ratio = math.exp(sum(gaps) / max(len(gaps), 1))
            adv = c["advantage"][i]
            if a.loss == "cispo":
                value = -min(ratio, 1 + a.clip_high) * adv * c["new"][i]
                was_clipped = ratio > 1 + a.clip_high and adv > 0
            else:
                bounded = min(max(ratio, 1 - a.clip_low), 1 + a.clip_high)
                objective = min(ratio * adv, bounded * adv)
                was_clipped = bounded * adv < ratio * adv
                if a.clip_dual is not None and adv < 0 and objective < a.clip_dual * adv:
                    objective, was_clipped = a.clip_dual * adv, True
                value = -objective
            gap = c["old"][i] - c["behaviour"][i]
            if a.correction.level == "sequence":
                gap = sum(c["old"][j] - c["behaviour"][j] for j in live)
            weight = math.exp(gap) if a.correction.level != "none" else 1.0
            weight = _bounded(weight, a.correction)
            value *= weight
            if a.kl_beta:
                d = c["reference"][i] - c["new"][i]
                kl = {"k1": -d, "k2": d * d / 2, "k3": math.exp(d) - d - 1}[a.kl_estimator]
                value += a.kl_beta * kl
            per_token[i] = value - a.entropy_bonus * c["entropy"][i]
            if c["weight"][i]:
                clipped += was_clipped
                kept_tokens += 1
    live = [[i for i in m if c["weight"][i] > 0] for m in tokens]
    sums = [sum(per_token[i] for i in m) for m in live if m]
    if a.loss == "grpo":
        means = [sum(per_token[i] for i in m) / len(m) for m in live if m]
        return sum(means) / len(means), clipped / kept_tokens
    if a.loss == "dr_grpo":
        return sum(sums) / (len(sums) * MAX_TOKENS), clipped / kept_tokens
    return sum(sums) / kept_tokens, clipped / kept_tokens


def _counts(c):
    live = {s for s, w in zip(c["sequence"], c["weight"], strict=True) if w > 0}
    return StepCounts(float(c["weight"].sum()), float(len(live)))


def _run(c, a, counts=None):
    loss_fn = grpo_loss(a, counts or _counts(c), max_tokens=MAX_TOKENS, outlier_gap=0.5)
    new = torch.tensor(c["new"], requires_grad=True)
    out = loss_fn(new, torch.tensor(c["entropy"]), _inputs(c))
    return out, new


VARIANTS = list(
    itertools.product(
        ["grpo", "bnpo", "dr_grpo", "dapo", "cispo"],
        ["token", "sequence"],
        [
            ("none", "mask"),
            ("token", "truncate"),
            ("token", "mask"),
            ("sequence", "truncate"),
            ("sequence", "mask"),
        ],
    )
)


@pytest.mark.parametrize("masked", [(), (2,)])
@pytest.mark.parametrize(("loss", "level", "correction"), VARIANTS)
def test_every_variant_equals_the_slow_one(loss, level, correction, masked):
    c = _columns(masked)
    a = AlgorithmConfig(
        loss=loss,
        importance_level=level,
        clip_low=0.15,
        clip_high=0.3,
        kl_beta=0.05,
        entropy_bonus=0.02,
        correction=CorrectionConfig(level=correction[0], mode=correction[1], cap=1.3),
    )
    out, _ = _run(c, a)
    expected, clip_fraction = _slow(c, a)
    assert out.loss.item() == pytest.approx(expected, rel=1e-6)
    assert to_measurements(out)["policy/clip_fraction"].value() == pytest.approx(clip_fraction)


@pytest.mark.parametrize("floor", [0.0, 0.8])
@pytest.mark.parametrize("mode", ["truncate", "mask"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_floor_of_the_correction_equals_the_slow_one(level, mode, floor):
    c = _columns((1,))
    correction = CorrectionConfig(level=level, mode=mode, cap=1.2, floor=floor)
    a = AlgorithmConfig(correction=correction)
    assert _run(c, a)[0].loss.item() == pytest.approx(_slow(c, a)[0], rel=1e-6)


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo"])
@pytest.mark.parametrize("bound", [1.05, 1.5, 3.0])
def test_dual_clip_equals_the_slow_one_and_stops_the_gradient(loss, bound):
    c = _columns()
    c["new"] = c["old"] + np.linspace(-0.5, 1.5, len(c["new"]))
    a = AlgorithmConfig(loss=loss, clip_dual=bound, correction=CorrectionConfig(level="none"))
    out, new = _run(c, a)
    expected, clip_fraction = _slow(c, a)
    assert out.loss.item() == pytest.approx(expected, rel=1e-6)
    assert to_measurements(out)["policy/clip_fraction"].value() == pytest.approx(clip_fraction)
    out.loss.backward()
    far = (c["advantage"] < 0) & (np.exp(c["new"] - c["old"]) > bound)
    assert far.any() and not new.grad.numpy()[far].any()


def test_shares_outside_the_bounds_and_the_effective_sample_by_hand():
    """Sequences of 3, 1, 6 and 4 tokens, whose ratios are 1, 4, 1/4 and 2."""
    c = _columns()
    gap = {0: 0.0, 1: math.log(4), 2: -math.log(4) / 6, 3: math.log(2) / 4}
    c["behaviour"] = c["old"] - np.array([gap[s] for s in c["sequence"]])
    for mode, floor, weights in (
        ("mask", None, [1, 0, 0, 2]),
        ("mask", 0.0, [1, 0, 0.25, 2]),
        ("truncate", None, [1, 3, 0.25, 2]),
    ):
        a = AlgorithmConfig(correction=CorrectionConfig(mode=mode, floor=floor))
        found = to_measurements(_run(c, a)[0])
        expected = sum(weights) ** 2 / (4 * sum(w * w for w in weights))
        assert found["mismatch/effective_share"].value() == pytest.approx(expected, rel=1e-5)
        assert found["mismatch/above_cap"].value() == pytest.approx(1 / 14)
        below = 6 / 14 if (mode, floor) == ("mask", None) else 0.0
        assert found["mismatch/below_floor"].value() == pytest.approx(below)
        squares = 2 * math.log(4) ** 2 + math.log(2) ** 2
        assert found["mismatch/sequence_gap_square"].value() == pytest.approx(squares / 4, rel=1e-5)


def test_the_effective_sample_of_tokens_and_of_no_correction():
    c = _columns((2,))
    for level in ("token", "none"):
        a = AlgorithmConfig(correction=CorrectionConfig(level=level, mode="truncate", cap=1e9))
        kept = c["weight"] > 0
        weights = np.exp(c["old"] - c["behaviour"])[kept] if level == "token" else np.ones(8)
        found = to_measurements(_run(c, a)[0])["mismatch/effective_share"].value()
        assert found == pytest.approx(weights.sum() ** 2 / (len(weights) * (weights**2).sum()))


@pytest.mark.parametrize("keys", [{"cap": 0.5}, {"floor": 1.5}, {"mode": "truncate", "floor": 2.0}])
def test_bounds_that_exclude_no_mismatch_are_refused(keys):
    with pytest.raises(ValueError, match="floor <= 1 <= cap"):
        CorrectionConfig(**keys)


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo"])
def test_on_policy_a_sequences_ratio_weighs_its_tokens_as_single_ratios_do(loss):
    """At ratio 1 the level changes no gradient: bnpo's weight by length is bnpo's own."""
    c = _columns()
    c["old"] = c["new"].copy()
    gradients = []
    for level in ("token", "sequence"):
        keys = {"loss": loss, "importance_level": level, "clip_low": 0.2, "clip_high": 0.2}
        out, new = _run(c, AlgorithmConfig(**keys, correction=CorrectionConfig(level="none")))
        out.loss.backward()
        gradients.append(np.array([new.grad.numpy()[c["sequence"] == s].sum() for s in range(4)]))
    np.testing.assert_allclose(*gradients, rtol=1e-6)


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo"])
def test_the_entropy_bonus_is_averaged_as_the_loss_averages_tokens(loss):
    c = _columns()
    plain = _run(c, AlgorithmConfig(loss=loss))[0].loss.item()
    paid = plain - _run(c, AlgorithmConfig(loss=loss, entropy_bonus=0.5))[0].loss.item()
    means = [c["entropy"][c["sequence"] == s].mean() for s in range(4)]
    sums = [c["entropy"][c["sequence"] == s].sum() for s in range(4)]
    expected = {"grpo": np.mean(means), "dr_grpo": sum(sums) / (4 * MAX_TOKENS)}
    assert paid == pytest.approx(0.5 * expected.get(loss, c["entropy"].mean()), rel=1e-6)


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo"])
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_every_kl_estimator_equals_the_slow_one_inside_every_loss(loss, estimator):
    c = _columns((1,))
    a = AlgorithmConfig(loss=loss, kl_beta=0.7, kl_estimator=estimator)
    out, _ = _run(c, a)
    assert out.loss.item() == pytest.approx(_slow(c, a)[0], rel=1e-6)


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo", "cispo"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_gradients_equal_finite_differences(loss, level):
    c = _columns()
    a = AlgorithmConfig(loss=loss, importance_level=level, kl_beta=0.1)
    out, new = _run(c, a)
    out.loss.backward()
    if loss == "cispo":  # its ratio carries no gradient, so the loss is linear in log p
        assert all(new.grad[i] != 0 for i in range(len(new)))
        return
    step = 1e-5
    for i in range(len(new)):
        up, down = ({**c, "new": c["new"] + step * s * (np.arange(len(new)) == i)} for s in (1, -1))
        numeric = (_slow(up, a)[0] - _slow(down, a)[0]) / (2 * step)
        assert new.grad[i].item() == pytest.approx(numeric, abs=1e-6)


def test_cispo_gradient_is_the_capped_ratio_times_the_advantage():
    c = _columns()
    a = AlgorithmConfig(loss="cispo", clip_high=0.2, correction=CorrectionConfig(level="none"))
    out, new = _run(c, a)
    out.loss.backward()
    ratio = np.minimum(np.exp(c["new"] - c["old"]), 1.2)
    np.testing.assert_allclose(new.grad, -ratio * c["advantage"] / len(new), rtol=1e-6)


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo"])
def test_micro_batches_add_up_to_the_whole(loss):
    c = _columns((1,))
    a = AlgorithmConfig(loss=loss, importance_level="sequence")
    whole, _ = _run(c, a)
    cut = 4  # between sequences 1 and 2
    parts = []
    for part in (slice(None, cut), slice(cut, None)):
        share = {k: v[part] for k, v in c.items()}
        parts.append(_run(share, a, _counts(c))[0])
    assert sum(p.loss.item() for p in parts) == pytest.approx(whole.loss.item(), rel=1e-9)
    measured = [to_measurements(p) for p in parts]
    for name, value in to_measurements(whole).items():
        merged = measured[0][name].merge(measured[1][name])
        assert merged.value() == pytest.approx(value.value(), rel=1e-5), name
    shown = to_measurements(whole)["loss/policy"].value()
    assert shown == pytest.approx(whole.loss.item(), rel=1e-5)


def test_on_policy_ratio_is_one_and_the_gradient_is_reinforce():
    c = _columns()
    inputs = _inputs(c)
    inputs = LossInputs(
        inputs.sequence_N, 4, inputs.weight_N, inputs.advantage_N, inputs.behaviour_N, None, None
    )
    a = AlgorithmConfig(correction=CorrectionConfig(level="none"))
    new = torch.tensor(c["new"], requires_grad=True)
    loss_fn = grpo_loss(a, _counts(c), max_tokens=MAX_TOKENS, outlier_gap=1.0)
    out = loss_fn(new, torch.tensor(c["entropy"]), inputs)
    out.loss.backward()
    np.testing.assert_allclose(new.grad, -c["advantage"] / len(new), rtol=1e-9)
    assert to_measurements(out)["policy/clip_fraction"].value() == 0.0


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [("k1", 0.5), ("k2", 0.125), ("k3", math.exp(-0.5) - (-0.5) - 1)],
)
def test_kl_estimators(estimator, expected):
    found = kl_estimate(torch.tensor([-1.0]), torch.tensor([-1.5]), estimator)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_mismatch_compares_learner_and_engine():
    c = _columns((0,))
    c["behaviour"] = c["old"].copy()
    c["behaviour"][5] += 2.0
    c["behaviour"][0] += 9.0  # masked, must not count
    found = to_measurements(_run(c, AlgorithmConfig())[0])
    kept = sum(LENGTHS) - LENGTHS[0]
    assert found["mismatch/logprob_mean_abs"].value() == pytest.approx(2.0 / kept)
    assert found["mismatch/outlier_fraction"].value() == pytest.approx(1 / kept)
    assert found["mismatch/logprob_max_abs"].value() == pytest.approx(2.0)
    assert found["mismatch/kl"].value() == pytest.approx((math.exp(-2) + 2 - 1) / kept)


def test_a_huge_gap_neither_overflows_nor_trains():
    c = _columns()
    c["behaviour"] = c["old"] - 500.0
    for mode, cap in (("mask", 0.0), ("truncate", 3.0)):
        a = AlgorithmConfig(correction=CorrectionConfig(level="sequence", mode=mode))
        out, new = _run(c, a)
        out.loss.backward()
        assert torch.isfinite(new.grad).all()
        assert to_measurements(out)["policy/correction"].value() == cap


def test_sft_averages_over_the_weighted_tokens_of_the_step():
    c = _columns((3,))
    new = torch.tensor(c["new"], requires_grad=True)
    out = sft_loss(StepCounts(20.0, 4.0))(new, torch.tensor(c["entropy"]), _inputs(c))
    kept = c["weight"] > 0
    assert out.loss.item() == pytest.approx(-c["new"][kept].sum() / 20.0)
    assert to_measurements(out)["loss/sft"].value() == pytest.approx(-c["new"][kept].mean())


@pytest.mark.parametrize(
    "variant", TRL["variants"], ids=lambda v: f"{v['loss']}-{v['level']}-{v['kl_beta']}"
)
def test_loss_and_gradient_equal_trls(variant):
    case = TRL["case"]
    lengths = [len(row) for row in case["new"]]
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    columns = {name: np.concatenate(case[name]) for name in ("new", "old", "reference")}
    columns |= {"sequence": sequence, "behaviour": columns["old"], "entropy": columns["old"]}
    columns |= {"advantage": np.array(case["advantage"])[sequence]}
    columns |= {"weight": np.array(case["kept"])[sequence]}
    a = AlgorithmConfig(
        loss=variant["loss"],
        importance_level=variant["level"],
        kl_beta=variant["kl_beta"],
        clip_low=TRL["clip_low"],
        clip_high=TRL["clip_high"],
        max_length_for_dr_grpo=TRL["max_tokens"],
        correction=CorrectionConfig(level="none"),
    )
    out, new = _run(columns, a)
    out.loss.backward()
    assert out.loss.item() == pytest.approx(variant["loss_value"], rel=1e-9)
    np.testing.assert_allclose(new.grad, np.concatenate(variant["gradient"]), rtol=1e-9)
