"""Whole runs on CPU through the real system: Ray, Ray Data, vLLM, FSDP2 over gloo, weight sync."""

import json

import pytest
from running import RUN_CPUS, grpo_overrides, here, run, words_of

from olmrl.metrics import read_rows


@pytest.fixture(scope="module")
def grpo_run(tiny_pages, tiny_model, tmp_path_factory, ray_head, ray_job):
    """16 steps from random weights towards text that resembles the truth."""
    out = tmp_path_factory.mktemp("runs") / "grpo"
    overrides = [
        *grpo_overrides(tiny_pages, tiny_model, out),
        "run.steps=16",
        "rollout.group_size=8",
        "rollout.sampling={temperature: 1.0, max_tokens: 32}",
        "rewards=[{name: edit_distance, options: {compat: true}},{name: bench},"
        "{name: eos, weight: 0.1},{name: medoid, weight: 0.1},{name: front_matter},"
        "{name: element_count, weight: 0.1}]",
        "algorithm.pages_per_step=4",
        "learner.optimizer.lr=2e-3",
        "learner.optimizer.betas=[0.9, 0.99]",
        "guards.parity_every=4",
        "guards.save_batch_every=8",
        "checkpoint.every=8",
    ]
    with ray_job(cpus=RUN_CPUS):
        run("olmrl.grpo", *overrides, head=ray_head)
    return out


def test_grpo_learns(grpo_run):
    rows = [r for r in read_rows(grpo_run / "metrics.jsonl") if "reward/mean" in r]
    assert [r["step"] for r in rows] == list(range(1, 17))
    first = sum(r["reward/edit_distance/mean"] for r in rows[:3]) / 3
    last = sum(r["reward/edit_distance/mean"] for r in rows[-3:]) / 3
    assert last > first + 0.05, (first, last)


def test_engine_and_learner_agree_after_every_sync(grpo_run):
    rows = [r for r in read_rows(grpo_run / "metrics.jsonl") if "reward/mean" in r]
    assert max(r["mismatch/logprob_mean_abs"] for r in rows) < 1e-4
    assert all(r["policy/staleness_max"] == 0 for r in rows)
    assert all(r["parity/tokens"] > 0 for r in rows if r["step"] in (1, 5, 9, 13))


def test_a_page_is_processed_once_and_travels_as_bytes(grpo_run):
    rows = [r for r in read_rows(grpo_run / "metrics.jsonl") if "data/page_bytes" in r]
    assert len(rows) >= 15
    assert {r["data/image_calls_per_page"] for r in rows} == {1.0}
    assert all(0 < r["data/page_bytes"] < 4 * 168**2 for r in rows)


def test_the_run_directory_tells_the_whole_story(grpo_run):
    for name in ("config.yaml", "metrics.jsonl", "report.html", "model/config.json"):
        assert (grpo_run / name).is_file(), name
    evaluations = sorted((grpo_run / "evaluations").iterdir())
    assert [p.stem for p in evaluations] == ["step-000000", "step-000016"]
    figures = json.loads(evaluations[-1].read_text())["scores"]
    assert {"greedy/pass_rate", "sampled/pass_rate", "greedy/reading"} <= set(figures)
    assert list((grpo_run / "rollouts").iterdir())
    assert [p.name for p in sorted((grpo_run / "checkpoints").glob("step-*"))] == [
        "step-16",
        "step-8",
    ]
    assert "<script" not in (grpo_run / "report.html").read_text()


def test_the_trained_model_loads_and_differs(grpo_run, tiny_model):
    import torch
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    trained = Qwen2_5_VLForConditionalGeneration.from_pretrained(grpo_run / "model")
    start = Qwen2_5_VLForConditionalGeneration.from_pretrained(tiny_model)
    names = dict(start.named_parameters())
    moved = [n for n, p in trained.named_parameters() if not torch.equal(p, names[n])]
    assert len(moved) == len(names)
    assert AutoProcessor.from_pretrained(grpo_run / "model").image_processor is not None


def test_a_step_can_be_replayed_without_engines(grpo_run):
    code, output, errors = here("olmrl.grpo", "--replay", grpo_run, "--step", 8)
    assert code == 0, errors
    replayed = dict(line.rsplit(maxsplit=1) for line in output.splitlines()[1:])
    (row,) = [r for r in read_rows(grpo_run / "metrics.jsonl") if r["step"] == 9]
    for name in ("loss/policy", "policy/grad_norm", "mismatch/logprob_mean_abs", "tokens/packed"):
        assert float(replayed[name]) == pytest.approx(row[name], rel=1e-4, abs=1e-7), name
    code, _, errors = here("olmrl.grpo", "--replay", grpo_run, "--step", 3)
    assert code == 2 and "saved steps: 0, 8" in errors


def test_a_used_directory_is_not_overwritten(grpo_run, tiny_pages, tiny_model):
    before = (grpo_run / "metrics.jsonl").read_text()
    used = grpo_overrides(tiny_pages, tiny_model, grpo_run)
    code, _, errors = here("olmrl.grpo", *words_of(used))
    assert code == 2
    assert "holds a run already" in errors and "--resume auto" in errors
    assert (grpo_run / "metrics.jsonl").read_text() == before


@pytest.mark.slow
def test_adapters_alone_keep_engine_and_learner_together(
    tiny_pages, tiny_model, tmp_path, ray_head, ray_job
):
    small = "model.lora={rank: 4, alpha: 16, dropout: 0, target_modules: [q_proj, o_proj]}"
    moved = {}
    for how in ("adapter", "merged"):
        overrides = [
            *grpo_overrides(tiny_pages, tiny_model, tmp_path / how),
            "run.steps=3",
            "rollout.group_size=4",
            "rollout.sampling={temperature: 1.0, max_tokens: 24}",
            "rewards=[{name: edit_distance, options: {compat: true}}]",
            "learner.optimizer.lr=1e-2",
            "guards.parity_every=1",
            "weight_sync.checksum=true",
            f"weight_sync.lora={how}",
            small,
        ]
        with ray_job(cpus=RUN_CPUS):
            run("olmrl.grpo", *overrides, head=ray_head)
        rows = [r for r in read_rows(tmp_path / how / "metrics.jsonl") if "reward/mean" in r]
        assert [r["step"] for r in rows] == [1, 2, 3]
        assert max(r["mismatch/logprob_mean_abs"] for r in rows) < 1e-4
        assert max(r["parity/mean_gap"] for r in rows) < 1e-4
        moved[how] = rows[-1]["weight_sync/bytes"]
    assert moved["adapter"] < moved["merged"] / 5
