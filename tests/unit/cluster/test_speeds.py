"""Seconds per part from speeds, and speeds from a run's metrics."""

import random
from dataclasses import replace

import pytest

from olmrl.cluster import make_plan, model_shape, parse_cluster
from olmrl.cluster.advise import (
    Change,
    changed,
    engine_sequences,
    predict,
    speeds_for,
    splits,
    step_seconds,
)
from olmrl.cluster.simulation.batching import Lengths
from olmrl.cluster.simulation.calibrate import calibrate, lengths_of
from olmrl.cluster.simulation.speeds import MEASURED_CPU, costs_of, page_operations
from olmrl.cluster.workload import grpo_workload
from olmrl.config import GrpoConfig, SftConfig, load
from olmrl.models.cost import CostModel

SEVEN_B = model_shape("Qwen/Qwen2.5-VL-7B-Instruct")
RAW_SFT = (
    "model.path=Qwen/Qwen2.5-VL-7B-Instruct", "data.train=[{root: d}]", "learner.use_gpu=false",
)  # fmt: skip
H100 = parse_cluster("1x8xH100-80G")


def config(*overrides):
    base = ["model.path=Qwen/Qwen2.5-VL-7B-Instruct", "data.train=d", "learner.workers=7"]
    return load(GrpoConfig, None, [*base, *overrides])


def test_decoding_7b_on_an_h100_by_hand():
    costs = costs_of(config(), SEVEN_B, speeds_for(config(), H100))
    # language weights in bfloat16 at 0.7 x 3.35 TB/s, and vLLM's own 4 ms
    assert costs.step(1, 2000) == pytest.approx(0.004 + 2 * 7.62e9 / 2.345e12, rel=0.01)
    # 28 layers x (keys and values) x 512 wide x 2 bytes per token of context
    assert costs.decode_context == pytest.approx(2 * 28 * 512 * 2 / 2.345e12)


def test_tensor_parallel_engines_share_the_reading():
    one, four = (
        costs_of(c, SEVEN_B, speeds_for(c, H100))
        for c in (config(), config("rollout.tensor_parallel_size=4"))
    )
    assert four.decode_weights == pytest.approx(one.decode_weights / 4)
    assert four.prefill == pytest.approx(one.prefill / 4)


def test_a_reference_and_more_passes_cost_forward_passes():
    plain, reference, twice = (
        costs_of(c, SEVEN_B, speeds_for(c, H100)).learn_token
        for c in (
            config(),
            config("algorithm.kl_beta=0.01"),
            config("algorithm.epochs_per_batch=2"),
        )
    )
    assert reference == pytest.approx(plain * 4 / 3)
    assert twice == pytest.approx(plain * 7 / 3)


def test_a_teacher_costs_its_own_forward_passes():
    plain, alike, whole = (
        costs_of(c, SEVEN_B, speeds_for(c, H100)).learn_token
        for c in (
            config(),
            config("algorithm.teacher={path: Qwen/Qwen2.5-VL-7B-Instruct}"),
            config("algorithm.teacher={path: Qwen/Qwen2.5-VL-7B-Instruct, use: loss}"),
        )
    )
    assert alike == whole == pytest.approx(plain * 4 / 3)
    twice = config(
        "algorithm.teacher={path: Qwen/Qwen2.5-VL-7B-Instruct, use: loss}",
        "algorithm.epochs_per_batch=2",
    )
    assert costs_of(twice, SEVEN_B, speeds_for(twice, H100)).learn_token == pytest.approx(
        plain * (3 * 2 + 1 + 2) / 3
    )


def test_dense_learning_repeats_the_prompt():
    once, dense = (
        costs_of(c, SEVEN_B, replace(speeds_for(c, H100), pack_s=0.0)).learn_page
        for c in (config("learner.token_budget=65536"), config("learner.page_once=false"))
    )
    assert dense == pytest.approx(28 * once, rel=0.01)


def test_unknown_gpus_are_not_guessed():
    assert speeds_for(config(), None) is None
    assert speeds_for(config("learner.use_gpu=false"), None) is MEASURED_CPU


def test_a_large_model_on_cpus_is_reckoned_by_their_cores():
    on_cpu = config("learner.use_gpu=false")
    small, large = (speeds_for(on_cpu, parse_cluster(f"1x{n}cpu")) for n in (2, 64))
    assert small.learner_flops == 4e10 and large.learner_flops == 32 * small.learner_flops
    assert "2 CPU cores" in small.source and "assumed" in small.source


def test_an_sft_step_by_hand():
    run = load(
        SftConfig,
        None,
        ["model.path=Qwen/Qwen2.5-VL-7B-Instruct", "data.train=[{root: d}]", "learner.workers=8",
         "training.pages_per_step=36", "data.max_tokens=8192"],
    )  # fmt: skip
    seconds = step_seconds(make_plan(run, H100), H100)
    # A letter page of 1288 px is 46 x 36 merged tokens of 4 patches, and 170 tokens of text; a
    # sixth of the room behind them is transcription. 7.07e9 weights of linear layers and head (the
    # embedding is none), 0.66e9 of the tower for each patch: two operations each, three passes,
    # attention left out (5 %); 5 pages on the fullest of 8 ranks, 35 % of 989 TFLOP/s; a tenth of a
    # second for the step, and the first gathering in bfloat16 and the last reduction in float32.
    prompt = 46 * 36 + 170
    answer = (8192 - prompt) / 6
    language = 2 * (6.53e9 * (prompt + answer) + 0.545e9 * answer)
    vision = 2 * 0.63e9 * 46 * 36 * 4
    by_hand = 5 * 3 * (language + vision) / (0.35 * 989e12)
    assert seconds == pytest.approx(by_hand + 0.1 + 8.29e9 * 6 / 225e9, rel=0.07)
    halved = load(SftConfig, None, [*RAW_SFT, "learner.workers=2"])
    alone = load(SftConfig, None, [*RAW_SFT, "learner.workers=1"])
    two = parse_cluster("1x2cpu")
    assert step_seconds(make_plan(halved, two), two) > step_seconds(make_plan(alone, two), two), (
        "ranks on CPUs share the cores, and have to gather besides"
    )
    assert step_seconds(make_plan(run, None), None) is None


def test_splits_use_all_gpus_and_fit():
    plan = make_plan(config(), H100)
    found = splits(plan, H100, speeds_for(config(), H100))
    assert found
    assert all(split.engines + split.learners == 8 for split in found)
    times = [split.outcome.step_s for split in found]
    assert times == sorted(times)
    # a single learner rank cannot hold the states of 8.3 billion parameters
    assert min(split.learners for split in found) > 1


def test_the_kv_cache_limits_what_runs_together():
    small = make_plan(config("rollout.max_num_seqs=1000"), parse_cluster("1x8xA10G-24G"))
    assert 10 < engine_sequences(small) < 150
    speeds = speeds_for(config(), parse_cluster("1x8xA10G-24G"))
    roomy = make_plan(config("rollout.max_num_seqs=1000", "rollout.kv_cache_gb=60"), H100)
    assert predict(small, speeds).step_s > predict(roomy, speeds).step_s


def test_recurrent_states_fill_the_cache_beside_keys_and_values():
    """By hand for Qwen3.5-0.8B: 6 layers of keys and values, 18 of states.

    A sequence has 1000 tokens of its own and a sixteenth of the prompt's 1410, of 12,288 bytes
    each, and 17/16 states of 18 x (16 x 128 x 128 + 3 x 6144) float32 numbers.
    """
    run = config("model.path=Qwen/Qwen3.5-0.8B", "rollout.group_size=16", "rollout.kv_cache_gb=10")
    each = (1000 + 1410 / 16) * 12288 + 17 / 16 * 18 * (16 * 128**2 + 3 * 6144) * 4
    assert engine_sequences(make_plan(run, H100)) == int(10 * 2**30 / each) == 308


def test_decoding_reads_and_writes_the_recurrent_states():
    """By hand for Qwen3.5-0.8B on an H100: 2.345e12 bytes a second, see the test of the 7B."""
    shape = model_shape("Qwen/Qwen3.5-0.8B")
    run = config("model.path=Qwen/Qwen3.5-0.8B")
    costs = costs_of(run, shape, speeds_for(run, H100))
    state = 18 * (16 * 128**2 + 3 * 6144) * 4
    assert costs.step(8, 0) - costs.step(1, 0) == pytest.approx(7 * 2 * state / 2.345e12)
    assert costs.decode_context == pytest.approx(12288 / 2.345e12)
    # products of 18 recurrent and 6 attending layers, and the head, each token once
    scan = 18 * (4 * 6144 + 16 * (64 * 3 * 128 + 3 * 128**2))
    assert CostModel.of(shape).scan == 2 * scan


def test_changed_keys_print_as_overrides():
    change = Change("learner", "cpu_offload", True)
    assert str(change) == "learner.cpu_offload=true"
    assert changed(config(), change) == config(str(change))


def test_lengths_of_a_run_are_found_again():
    truth, rng = Lengths(400.0, 0.5, 10_000), random.Random(0)
    rows = []
    for _ in range(200):
        drawn = [truth.draw(rng) for _ in range(64)]
        rows.append(
            {
                "completion/mean_length": sum(drawn) / 64,
                "completion/max_length": max(drawn),
                "rollout/completions": 64,
            }
        )
    found = lengths_of(rows, 10_000)
    assert found.mean == pytest.approx(400, rel=0.05)
    assert found.spread == pytest.approx(0.5, rel=0.1)


def test_speeds_are_fitted_back():
    """A machine of 3 ms per decode step, 2 Tflop/s in engines, and 0.6 s that nothing explains."""
    run, rng = config(), random.Random(1)
    cost, work = CostModel.of(SEVEN_B), grpo_workload(run, SEVEN_B)
    page = page_operations(cost, work, work.prompt, 0.0)
    rows = []
    for _ in range(20):
        longest, tokens = rng.randint(500, 3000), rng.randint(20_000, 60_000)
        operations = (cost.token + cost.prediction) * tokens + page * 2
        busy = 0.003 * longest + operations / 2e12
        rows.append(
            {
                "completion/max_length": longest,
                "rollout/tokens": tokens,
                "rollout/completions": 2 * run.rollout.group_size,
                "time/engine_busy": busy,
                "time/learner": 0.3,
                "time/forward_backward": 0.25,
                "time/pack": 0.07,
                "time/weight_sync": 80.0,
                "time/step": busy + 0.3 + 0.07 + 80.0 + 0.6,
                "flops/step": 1e9,
                "reward/scorer_busy_seconds": 0.112,
            }
        )
    found = calibrate(rows, run, SEVEN_B, "made up")
    assert found.decode_step_s == pytest.approx(0.003, rel=1e-3)
    assert found.decode_flops == pytest.approx(2e12, rel=1e-3)
    assert found.score_s == pytest.approx(0.002)
    assert found.learner_flops == pytest.approx(4e9)
    assert found.learner_step_s == pytest.approx(0.05)
    assert found.pack_s == pytest.approx(0.01)
    # medians of a step and of its parts may differ by what engines vary
    assert 3 * found.handover_s == pytest.approx(0.6, abs=0.5)
    with pytest.raises(ValueError, match="3 steps are too few"):
        calibrate(rows[:3], run, SEVEN_B, "made up")
