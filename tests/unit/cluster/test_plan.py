"""Resource plans: memory against hand-computed figures, refusals that say what to do."""

import json

import pytest

from olmrl import cluster
from olmrl.config import GrpoConfig, load

SEVEN_B = cluster.PUBLISHED_SHAPES["Qwen/Qwen2.5-VL-7B-Instruct"]


def config(*overrides):
    base = ["model.path=Qwen/Qwen2.5-VL-7B-Instruct", "data.train=d"]
    return load(GrpoConfig, None, [*base, *overrides])


def test_published_shapes_have_the_published_parameter_counts():
    counts = {name: s.parameters for name, s in cluster.PUBLISHED_SHAPES.items()}
    # sizes stated on the model cards' safetensors index, in billions
    assert counts["Qwen/Qwen2.5-VL-3B-Instruct"] == pytest.approx(3.755e9, rel=2e-3)
    assert counts["Qwen/Qwen2.5-VL-7B-Instruct"] == pytest.approx(8.292e9, rel=2e-3)


def test_shape_counts_every_parameter_of_a_real_model(tiny_model):
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

    described = AutoConfig.from_pretrained(tiny_model)
    model = Qwen2_5_VLForConditionalGeneration(described)
    shape = cluster.ModelShape.from_config(json.loads((tiny_model / "config.json").read_text()))
    assert shape.parameters == sum(p.numel() for p in model.parameters())


def test_learner_states_are_split_over_ranks():
    memory = cluster.learner_memory(
        SEVEN_B, config().model, config("learner.workers=8").learner, with_reference=False
    )
    # 8.29e9 parameters x 4 bytes / 8 ranks = 3.86 GiB; Adam keeps two such
    assert memory["weights"] == pytest.approx(3.86, abs=0.02)
    assert memory["optimizer"] == pytest.approx(2 * memory["weights"])
    assert "reference" not in memory


def test_plan_counts_every_role():
    plan = cluster.plan_grpo(config("learner.workers=7", "rollout.workers=1", "scorer.workers=4"))
    assert plan.gpus == 8
    assert plan.cpus == 7 + 1 + 4 + 1


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (cluster.Resources(cpus=64, gpus=1), "needs 2 GPUs .* has 1; lower learner.workers"),
        (cluster.Resources(cpus=2, gpus=8), "logical CPUs .* has 2"),
        (cluster.Resources(cpus=64, gpus=2, gpu_memory_gb=24), "GiB per GPU .* has 24; use more"),
    ],
)
def test_a_plan_that_does_not_fit_says_what_to_do(resources, message):
    with pytest.raises(cluster.PlanError, match=message):
        cluster.check(cluster.plan_grpo(config()), resources)


def test_cluster_text_is_read_or_refused():
    resources = cluster.parse_cluster("2x8xH100-80G")
    assert (resources.nodes, resources.gpus, resources.gpu_memory_gb) == (2, 16, 80)
    with pytest.raises(cluster.PlanError, match="2x8xH100-80G"):
        cluster.parse_cluster("two nodes")
