"""What `--dry-run` prints, through the command itself."""

import re

import pytest

from olmrl import cluster
from olmrl.config import GrpoConfig, SftConfig, load
from olmrl.grpo.__main__ import main

RECIPE = ["model.path=Qwen/Qwen2.5-VL-7B-Instruct", "data.train=d", "learner.workers=7"]


def dry_run(capsys, *arguments):
    code = main(["--dry-run", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_fitting_run_is_laid_out(capsys):
    code, out, _ = dry_run(
        capsys, "--cluster", "1x8xH100-80G+2x64cpu", *RECIPE, "scorer.workers=16"
    )
    assert code == 0
    assert out.startswith("FITS on 1x8xH100-80G+2x64cpu\n")
    assert "not on this machine; 1x8xH100-80G+2x64cpu needs it\n  - data.train: d: no such" in out
    for text in (
        "node 0: 1 RolloutWorker, 7 LearnerWorker\n",
        "node 1: 9 Scorer",
        "LearnerWorker per GPU, GiB, computed: weights 4.41, gradients 4.41, optimizer 8.83",
        "KV cache, computed:",
        "step, simulated:",
        "assumed shares",
        "algorithm.max_staleness=1, simulated:",
    ):
        assert text in out


def test_a_run_that_does_not_fit_ends_with_keys_to_change(capsys):
    code, out, error = dry_run(
        capsys, "--cluster", "1x8xH100-80G", *RECIPE, "learner.token_budget=131072"
    )
    assert code == 2
    assert "GPU left, GiB, computed: -" in out
    assert out.startswith("DOES NOT FIT on 1x8xH100-80G: LearnerWorker needs")
    assert error.startswith("python -m olmrl.grpo: LearnerWorker needs")
    assert "it fits with learner.token_budget=65536" in error


def test_every_figure_says_how_it_came_about(capsys):
    _, out, _ = dry_run(capsys, "--cluster", "1x8xH100-80G", *RECIPE)
    verdict, _, plan = out.partition("\n\n")
    heading, rest = plan.split("counts are the configuration's; GiB are computed")
    assert heading.splitlines()[0].endswith("GiB per GPU  GiB of host memory")
    figures = [line for line in (verdict + rest).splitlines() if re.search(r"\d\.\d|\d%", line)]
    assert len(figures) > 8
    ways = re.compile("computed|simulated|measured|assumed")
    assert [line for line in figures if not ways.search(line)] == []


def test_without_a_cluster_nothing_is_placed_or_contacted(capsys, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:1")
    code, out, error = dry_run(capsys, *RECIPE)
    assert out.startswith("NOT COMPARED with the cluster at 10.0.0.1:1: the start does\n")
    assert "node 0" not in out
    assert "not planned without --cluster" in out
    assert code == 2 and "data.train: d: no such folder" in error


def test_an_unknown_model_is_planned_without_memory(capsys):
    words = ["model.path=nobody/knows", "data.train=d", "--cluster", "1x8xH100-80G"]
    code, out, _ = dry_run(capsys, *words)
    assert code == 0
    assert out.startswith("NOT JUDGED on 1x8xH100-80G: CPUs and GPUs suffice, but the shape of nob")
    assert "shape unknown offline" in out


def test_cpu_runs_use_measured_speeds(tiny_model):
    config = load(
        GrpoConfig, None, [f"model.path={tiny_model}", "data.train=d", "learner.use_gpu=false"]
    )
    text = cluster.describe(cluster.plan_grpo(config))
    assert "speeds: measured on 2 x86 cores" in text


@pytest.mark.parametrize(("size", "fits"), [("80G", True), ("24G", False)])
def test_sft_is_planned_too(size, fits):
    config = load(
        SftConfig,
        None,
        ["model.path=Qwen/Qwen2.5-VL-7B-Instruct", "data.train=[{root: d}]", "learner.workers=8"],
    )
    resources = cluster.parse_cluster(f"1x8xH100-{size}")
    plan = cluster.plan_sft(config)
    assert (cluster.refusal(plan, resources) is None) == fits
    assert "8 LearnerWorker" in cluster.describe(plan, resources)


def test_a_teacher_is_planned_or_said_to_be_unknown(capsys):
    words = ["--config", "configs/grpo/qwen3_distil_8gpus.yaml", "--cluster", "1x8xH100-80G"]
    for path, told in [
        ("Qwen/Qwen3.5-9B", "teacher, computed: 9,409.8 M parameters, frozen"),
        ("some/model", "teacher: shape unknown offline, so its memory and time are not planned"),
    ]:
        code, out, _ = dry_run(capsys, *words, f"algorithm.teacher.path={path}")
        assert code == 0 and told in out
