"""Where processes go, without Ray."""

import pytest

from olmrl import cluster
from olmrl.cluster.placement import bundle, engine_bundles, place
from olmrl.config import GrpoConfig, load
from olmrl.config.schema import RolloutConfig


def plan(*overrides):
    base = ["model.path=Qwen/Qwen2.5-VL-7B-Instruct", "data.train=d"]
    return cluster.plan_grpo(load(GrpoConfig, None, [*base, *overrides]))


def nodes_of(seats, role):
    return [seat.node for seat in seats if seat.role == role]


def test_scorers_and_data_workers_leave_gpu_nodes_alone():
    seats = plan("learner.workers=7", "scorer.workers=40").seats(
        cluster.parse_cluster("1x8xH100-80G+2x64cpu")
    )
    assert set(nodes_of(seats, "Scorer")) == {1, 2}
    assert set(nodes_of(seats, "data worker")) <= {1, 2}
    assert set(nodes_of(seats, "LearnerWorker")) == {0}


def test_scorers_use_gpu_nodes_where_nothing_else_is_left():
    seats = plan("scorer.workers=40").seats(cluster.parse_cluster("1x8xH100-80G+1x8cpu"))
    assert nodes_of(seats, "Scorer").count(1) == 8
    assert nodes_of(seats, "Scorer").count(0) == 33


def test_a_tensor_parallel_engine_stays_on_one_node_and_engines_share_nodes():
    resources = cluster.parse_cluster("3x4xH100-80G")
    wanted = plan("rollout.workers=3", "rollout.tensor_parallel_size=2", "learner.workers=6")
    seats = wanted.seats(resources)
    assert nodes_of(seats, "RolloutWorker") == [0, 0, 1]
    learners = nodes_of(seats, "LearnerWorker")
    assert sorted(learners) == [1, 1, 2, 2, 2, 2]


def test_an_engine_larger_than_any_node_is_refused():
    wanted = plan("rollout.tensor_parallel_size=8", "learner.workers=4")
    with pytest.raises(cluster.PlanError, match=r"RolloutWorker needs .*GPU 8 .*largest has GPU 4"):
        wanted.seats(cluster.parse_cluster("3x4xH100-80G"))


def test_gpus_in_pieces_do_not_make_an_engine():
    wanted = plan("rollout.workers=3", "rollout.tensor_parallel_size=3", "learner.workers=1")
    with pytest.raises(cluster.PlanError, match="no node has room left for another RolloutWorker"):
        wanted.seats(cluster.parse_cluster("2x4xH100-80G"))


def test_custom_resources_bind_a_role_to_its_nodes():
    nodes = (cluster.Node(16, 4), cluster.Node(16, 4, extra={"fast": 8.0}), cluster.Node(16))
    seats = place(
        [("learner", bundle(1, 1, {"fast": 1.0}))] * 4 + [("engine", bundle(1, 1, {}))] * 2,
        cluster.Resources(nodes),
    )
    assert nodes_of(seats, "learner") == [1] * 4
    assert nodes_of(seats, "engine") == [0, 0]
    with pytest.raises(cluster.PlanError, match="largest has slow 0; start nodes with"):
        place([("scorer", bundle(1, 0, {"slow": 1.0}))], cluster.Resources(nodes))


@pytest.mark.parametrize(
    ("config", "use_gpu", "expected"),
    [
        (RolloutConfig(workers=2, tensor_parallel_size=4), True, [{"CPU": 1.0, "GPU": 4.0}] * 2),
        (RolloutConfig(workers={"min": 1, "max": 3}), True, [{"CPU": 1.0, "GPU": 1.0}]),
        (RolloutConfig(colocate=True), True, [{"CPU": 1.0, "GPU": 0.51}]),
        (RolloutConfig(resources={"fast": 1.0}), False, [{"CPU": 1.0, "fast": 1.0}]),
    ],
)
def test_bundles_of_engines(config, use_gpu, expected):
    assert engine_bundles(config, use_gpu) == expected
