"""Resource plans: shapes against real models, refusals that say what to do, node by node."""

import pytest

from olmrl import cluster
from olmrl.cluster import PlanError, model_shape
from olmrl.cluster.advise import fits
from olmrl.cluster.connect import worker_environment
from olmrl.config import GrpoConfig, SftConfig, load
from olmrl.hardware import GIB

SEVEN_B = cluster.model_shape("Qwen/Qwen2.5-VL-7B-Instruct")


def config(*overrides):
    base = ["model.path=Qwen/Qwen2.5-VL-7B-Instruct", "data.train=d"]
    return load(GrpoConfig, None, [*base, *overrides])


def test_plan_counts_every_role():
    plan = cluster.plan_grpo(config("learner.workers=7", "rollout.workers=1", "scorer.workers=4"))
    assert plan.gpus == 8
    assert plan.cpus == 7 + 1 + (4 + 1) + 1  # held-out pages have a scorer of their own


def test_sft_has_no_engines():
    sft = load(SftConfig, None, ["model.path=x", "data.train=[{root: d}]", "learner.workers=3"])
    plan = cluster.plan_sft(sft)
    assert [(role.name, role.count) for role in plan.roles] == [
        ("LearnerWorker", 3),
        ("data worker", 1),
    ]


def test_data_tasks_are_planned_where_their_resources_are():
    resources = cluster.Resources((cluster.Node(64), cluster.Node(8, extra={"cpu_node": 4.0})))
    own = "data.resources={cpu_node: 1}"
    sft = ["model.path=x", "data.train=[{root: d}]", "learner.use_gpu=false", own]
    runs = [cluster.plan_grpo(config("learner.use_gpu=false", own))]
    runs += [cluster.plan_sft(load(SftConfig, None, sft))]
    for plan in runs:
        seats = plan.seats(resources)
        assert [seat.node for seat in seats if seat.role == "data worker"] == [1]
        with pytest.raises(PlanError, match="start nodes with the resource cpu_node"):
            cluster.check(plan, cluster.parse_cluster("1x64cpu"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("1x1xH100-80G", "needs 2 GPUs .* has 1; lower learner.workers"),
        ("1x8xA10G-24G", "LearnerWorker needs .* GiB per GPU .* has 24"),
        ("2x4cpu", "needs 2 GPUs .* has 0"),
    ],
)
def test_a_plan_that_does_not_fit_says_why(spec, message):
    with pytest.raises(cluster.PlanError, match=message):
        cluster.check(cluster.plan_grpo(config()), cluster.parse_cluster(spec))


def test_too_few_cpus_are_counted_over_all_roles():
    plan = cluster.plan_grpo(config("learner.use_gpu=false", "scorer.workers=9"))
    with pytest.raises(cluster.PlanError, match=r"needs 13 logical CPUs \(.*10 Scorer x 1.* has 8"):
        cluster.check(plan, cluster.parse_cluster("1x8cpu"))


def test_host_memory_is_compared_where_it_is_known():
    plan = cluster.plan_grpo(config("learner.workers=7"))
    node = cluster.Node(128, 8, "H100", 80 * GIB, memory=300 * GIB)
    with pytest.raises(cluster.PlanError, match=r"node 0 needs .* GiB of host memory .* has 300"):
        cluster.check(plan, cluster.Resources((node,)))
    cluster.check(plan, cluster.Resources((cluster.Node(128, 8, "H100", 80 * GIB, 2e12),)))


def test_the_suggested_change_really_makes_it_fit():
    asked = ["learner.workers=8", "learner.token_budget=131072", "rollout.workers=8"]
    resources = cluster.parse_cluster("1x8xH100-80G")
    plan = cluster.make_plan(config(*asked), resources)
    error = cluster.refusal(plan, resources)
    keys = str(error).split("it fits with ")[1].split()
    changed = config(*asked, *keys)
    assert not fits(plan, resources)
    assert fits(cluster.make_plan(changed, resources), resources)


def test_a_colocated_engine_leaves_the_learner_its_states():
    one = ["learner.workers=1", "rollout.colocate=true", "model.lora={rank: 8}"]
    run = config(*one, "model.master_dtype=bfloat16")
    resources = cluster.parse_cluster("1x1xH100-80G")
    plan = cluster.make_plan(run, resources)
    assert plan.gpus == 1
    # 15.4 GiB of weights stay: (80 - 15.5 - 2) / 80
    with pytest.raises(cluster.PlanError, match=r"has 78% of a GPU .* 15 GiB; lower .* to 0.78"):
        cluster.check(plan, resources)
    assert "it fits with rollout.gpu_memory_utilization=0.6" in str(
        cluster.refusal(plan, resources)
    )


def test_adapters_outside_the_language_model_cannot_be_sent_alone_to_vllm():
    alone = "weight_sync.lora=adapter"
    cluster.plan_grpo(config("model.lora={}", alone))
    both = "model.lora={target_modules: [q_proj, up_proj]}"  # the tower's blocks have an up_proj
    cluster.plan_grpo(config(both))
    cluster.plan_grpo(config(both, alone, "rollout.engine=hf"))
    with pytest.raises(PlanError, match=r"language model alone.* up_proj too; leave them out"):
        cluster.plan_grpo(config(both, alone))


def test_the_plan_of_eight_bit_engines_counts_their_bytes():
    plain, eight = (
        cluster.plan_grpo(config(*more)).roles[0].memory["weights"]
        for more in ([], ["rollout.quantization=fp8", "algorithm.correction.level=token"])
    )
    assert plain - eight == pytest.approx(6.525e9, rel=1e-3)  # of 8.3e9 weights


def test_no_suggestion_where_nothing_helps():
    resources = cluster.parse_cluster("1x1xL4-24G")
    error = cluster.refusal(cluster.plan_grpo(config()), resources)
    assert "larger GPUs" in str(error)


def test_what_the_job_sets_is_not_set_again(monkeypatch):
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.setenv(
        "RAY_JOB_CONFIG_JSON_ENV_VAR", '{"runtime_env": {"env_vars": {"HF_HOME": "/x"}}}'
    )
    assert "HF_HOME" not in worker_environment()
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR")
    assert worker_environment()["HF_HOME"] == "/models"


def test_a_model_without_a_vision_tower_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(PlanError, match="type is 'llama', which olmrl cannot train"):
        model_shape(str(tmp_path))
