"""GPUs that a run cannot use are refused in one sentence, before anything is loaded."""

import dataclasses
import types

import pytest
import torch
from shared_ray import CPUS

from olmrl.cluster import Plan, PlanError, Role, gpu_look, plan_grpo, plan_sft
from olmrl.cluster.gpus import Card, GpuFacts, check_facts, mixed_engines
from olmrl.config import GrpoConfig, SftConfig, load
from olmrl.hardware import GIB

H100 = Card("NVIDIA H100 80GB HBM3", 79.2 * GIB, 78.7 * GIB)
A100 = Card("NVIDIA A100-SXM4-80GB", 79.2 * GIB, 78.7 * GIB)
TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU "
    "driver by downloading and installing a new version"
)


def grpo(*overrides):
    base = ["model.path=Qwen/Qwen2.5-VL-3B-Instruct", "data.train=d"]
    return plan_grpo(load(GrpoConfig, None, [*base, *overrides]))


def facts(role="RolloutWorker", **changes):
    good = GpuFacts(role, "10.0.0.7", "2.14.0", "13.0", cards=(H100,))
    return dataclasses.replace(good, **changes)


LEARNER = facts("LearnerWorker")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (facts(torch="2.13.0+cpu", cuda=None), "torch 2.13.0+cpu on node 10.0.0.7 was built witho"),
        (facts(torch="2.13.0+cpu", cuda=None), "or set learner.use_gpu=false"),
        (facts(problem=TOO_OLD, cards=()), "10.0.0.7 is too old: it has CUDA 12.4, and torch 2.14"),
        (facts(problem=TOO_OLD, cards=()), "was built for 13.0; install a driver 580 or newer"),
        (facts(cuda="14.1", problem=TOO_OLD, cards=()), "install a driver for CUDA 14.1 there"),
        (facts(problem="No CUDA GPUs are available", cards=()), "No CUDA GPUs are available; see"),
        (
            facts(cards=(Card("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 40 * GIB, 40 * GIB),)),
            "is a MIG slice",
        ),
        (facts(cards=(H100, A100)), "RolloutWorker on node 10.0.0.7 would get GPUs of several"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_named_with_what_to_do(bad, words):
    for found in ([bad, LEARNER], [LEARNER, bad]):
        with pytest.raises(PlanError) as error:
            check_facts(grpo(), found)
        assert words in str(error.value) and "\n" not in str(error.value)


def test_gpus_as_planned_are_taken():
    check_facts(grpo(), [facts(), LEARNER])
    half = dataclasses.replace(H100, free=H100.free - 0.6 * GIB)  # another look's own context
    check_facts(grpo("rollout.colocate=true"), [facts(cards=(half,)), facts("LearnerWorker")])


@pytest.mark.parametrize(
    ("role", "key"),
    [
        ("RolloutWorker", "rollout.gpu_memory_utilization"),
        ("LearnerWorker", "learner.token_budget"),
    ],
)
def test_memory_that_others_hold_is_missed_where_it_was_planned(role, key):
    busy = dataclasses.replace(H100, free=20.5 * GIB)
    others = [facts(name) for name in ("RolloutWorker", "LearnerWorker") if name != role]
    with pytest.raises(PlanError, match=f"a {role} is planned with") as error:
        check_facts(grpo(), [facts(role, cards=(busy,)), *others])
    said = str(error.value)
    assert "20.5 of the 79.2 GiB of NVIDIA H100 80GB HBM3 are free" in said
    assert "other processes hold 58.7" in said and "nvidia-smi" in said and key in said


def test_others_may_hold_what_is_not_planned():
    used = dataclasses.replace(H100, free=H100.total * 0.6)
    modest = grpo("rollout.gpu_memory_utilization=0.5")
    check_facts(modest, [facts(cards=(used,)), LEARNER])
    # transformers takes what it needs, and no share
    check_facts(grpo("rollout.engine=hf"), [facts(cards=(used,)), LEARNER])
    with pytest.raises(PlanError, match=r"RolloutWorker is planned with 55\.4 GiB"):
        check_facts(grpo("rollout.gpu_memory_utilization=0.7"), [facts(cards=(used,)), LEARNER])


def test_a_command_without_configuration_is_told_its_own_option():
    plan = Plan((Role("RolloutWorker", 1, 1.0, 1.0),), None)
    with pytest.raises(PlanError, match="or set --gpus 0"):
        check_facts(plan, [facts(cuda=None)])
    check_facts(plan, [facts(cards=(dataclasses.replace(H100, free=3 * GIB),))])  # not planned


def test_ranks_work_in_step_and_engines_need_not():
    two = [facts(), facts(cards=(A100,)), LEARNER]
    check_facts(grpo(), two)
    assert mixed_engines(two).startswith("engines have GPUs of several kinds (1 x NVIDIA")
    assert mixed_engines([facts(), facts(node="10.0.0.8"), LEARNER]) == ""
    small = dataclasses.replace(A100, total=39.4 * GIB, free=39.0 * GIB)
    for card in (H100, small):
        ranks = [facts("LearnerWorker", cards=(A100,)), facts("LearnerWorker", cards=(card,))]
        with pytest.raises(PlanError, match=r"LearnerWorkers would get .*learner\.resources"):
            check_facts(grpo("learner.workers=2"), [facts(), *ranks])


def test_what_torch_says_is_found(monkeypatch):
    """Where torch has CUDA: a driver that is too old, then one that works."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")

    def too_old():
        raise RuntimeError(f"{TOO_OLD}\nfrom the web")

    monkeypatch.setattr(torch.cuda, "init", too_old)
    found = gpu_look.look("LearnerWorker")
    assert (found.problem, found.cards, found.cuda) == (TOO_OLD, (), "13.0")
    works = types.SimpleNamespace(
        init=lambda: None,
        device_count=lambda: 2,
        mem_get_info=lambda index: (5 - index, 7),
        get_device_name=lambda index: f"card {index}",
    )
    monkeypatch.setattr(torch, "cuda", works)
    found = gpu_look.look("LearnerWorker")
    assert found.cards == (Card("card 0", 7.0, 5.0), Card("card 1", 7.0, 4.0)) and not found.problem


def test_memory_that_a_run_before_still_holds_is_waited_for(monkeypatch):
    busy = facts("LearnerWorker", cards=(dataclasses.replace(H100, free=3 * GIB),))
    plan, answers = grpo(), [[busy], [busy], [LEARNER]]
    monkeypatch.setattr(gpu_look, "_AGAIN_S", 0.01)
    monkeypatch.setattr(gpu_look.ray, "get", lambda asked: asked)
    assert gpu_look._settled(plan, lambda: answers.pop(0)) == [LEARNER] and not answers
    monkeypatch.setattr(gpu_look, "_TIMEOUT_S", 0.05)
    with pytest.raises(PlanError, match="other processes hold"):
        gpu_look._settled(plan, lambda: [busy])


@pytest.fixture(scope="module")
def gpus_in_name(ray_head, ray_job):
    """A node that says it has a GPU, and has none."""
    added = ray_head.add_node(num_cpus=4, num_gpus=1)
    with ray_job(cpus=CPUS):
        yield
    ray_head.remove_node(added)


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch is built with CUDA here")
def test_torch_for_cpus_is_refused_where_the_gpus_are(gpus_in_name):
    sft = ["model.path=x", "data.train=[{root: d}]"]
    for _ in range(2):  # the places that were reserved for the look are free again
        with pytest.raises(
            PlanError, match=r"torch .* on node .* was built without CUDA, and a Le"
        ):
            gpu_look.check_gpus(plan_sft(load(SftConfig, None, sft)))


def test_a_cluster_that_cannot_give_the_gpus_is_reported(gpus_in_name, monkeypatch):
    monkeypatch.setattr(gpu_look, "_TIMEOUT_S", 1.0)
    plan = grpo("learner.workers=2")
    with pytest.raises(PlanError, match="needs 3 GPUs, and Ray could not give them within 1 s"):
        gpu_look.check_gpus(plan)


def test_runs_without_gpus_are_not_looked_at():
    gpu_look.check_gpus(grpo("learner.use_gpu=false"))  # there is no Ray to ask
