"""Placement on a Ray cluster of several nodes: processes of this machine, GPUs in name only."""

import pytest
import ray
from shared_ray import CPUS

from olmrl.cluster import PlanError, parse_cluster, plan_grpo, remarks, reserve
from olmrl.cluster.reserve import missing, reserve_engines
from olmrl.cluster.resources import Resources, from_ray
from olmrl.config import GrpoConfig, load
from olmrl.data.items import Made
from olmrl.data.streams import OrderedStream


@pytest.fixture(scope="module")
def nodes(ray_head, ray_job):
    """Two GPU nodes and, as CPU node, the shared head; their ids in that order."""
    added = [
        ray_head.add_node(num_cpus=8, num_gpus=4),
        ray_head.add_node(num_cpus=8, num_gpus=4, resources={"fast": 2}),
    ]
    with ray_job(cpus=CPUS):
        found = {
            (row["Resources"].get("GPU", 0), "fast" in row["Resources"]): row["NodeID"]
            for row in ray.nodes()
            if row["Alive"]
        }
        yield [found[4, False], found[4, True], found[0, False]]
    for node in added:
        ray_head.remove_node(node)


def config(*overrides):
    return load(GrpoConfig, None, ["model.path=m", "data.train=d", *overrides])


def start(options, count):
    """Nodes that actors with these options (per number) run on."""

    class Somewhere:  # in here, so that Ray sends it by value
        def node(self):
            return ray.get_runtime_context().get_node_id()

    actors = [ray.remote(Somewhere).options(**options(k)).remote() for k in range(count)]
    found = ray.get([actor.node.remote() for actor in actors])
    for actor in actors:
        ray.kill(actor)
    return found


def engine_options(run, seats):
    rollout = run.rollout
    return lambda slot: {
        "num_cpus": rollout.cpus_per_worker,
        "num_gpus": rollout.tensor_parallel_size,
        "resources": rollout.resources,
        **seats.options(slot),
    }


def test_tensor_parallel_engines_are_packed_as_planned(nodes):
    run = config("rollout.workers=2", "rollout.tensor_parallel_size=2")
    seats = reserve_engines(run)
    landed = start(engine_options(run, seats), 2)
    seats.release()
    planned = plan_grpo(run).seats(from_ray(ray.nodes()))
    expected = [seat.node for seat in planned if seat.role == "RolloutWorker"]
    assert len(set(landed)) == len(set(expected)) == 1
    assert landed[0] in nodes[:2]


def test_an_engine_whose_ranks_are_actors_has_a_group_for_itself_and_them(nodes):
    class Rank:
        def node(self):
            return ray.get_runtime_context().get_node_id()

    class Engine:
        def ranks(self, rank):
            """Seated as vLLM does: in the bundles with a GPU of the group of this process."""
            import ray
            from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

            group = ray.util.get_current_placement_group()
            seats = [k for k, each in enumerate(group.bundle_specs) if each.get("GPU") == 1]
            actors = [
                ray.remote(rank)
                .options(
                    num_cpus=0,
                    num_gpus=1,
                    scheduling_strategy=PlacementGroupSchedulingStrategy(
                        group, placement_group_bundle_index=seat
                    ),
                )
                .remote()
                for seat in seats
            ]
            return ray.get([actor.node.remote() for actor in actors])

    run = config("rollout.workers=2", "rollout.tensor_parallel_size=2")
    seats = reserve_engines(run, ray_workers=True)
    engines = [
        ray.remote(Engine).options(num_cpus=1, num_gpus=0, **seats.options(k)).remote()
        for k in range(2)
    ]
    for found in ray.get([engine.ranks.remote(Rank) for engine in engines]):
        assert len(found) == 2 and len(set(found)) == 1 and found[0] in nodes[:2]
    seats.release()


def test_scorers_avoid_gpu_nodes(nodes):
    assert set(start(lambda _: {"num_cpus": 1.0}, 6)) == {nodes[2]}


def test_custom_resources_choose_the_node(nodes):
    run = config("rollout.workers=2", "rollout.resources={fast: 1}")
    seats = reserve_engines(run)
    landed = start(engine_options(run, seats), 2)
    seats.release()
    assert landed == [nodes[1]] * 2


def test_data_tasks_stay_where_their_resources_are(nodes):
    class Where:  # in here, so that Ray sends it by value
        count, item_bytes = 8, 100

        def __call__(self, epoch, index, item):
            return Made(ray.get_runtime_context().get_node_id())

    stream = OrderedStream(Where(), None, epochs=1, prefetch=4, task_resources={"fast": 1})
    assert {item.note for item in stream} == {nodes[1]}


def test_elastic_engines_beyond_the_minimum_are_not_reserved(nodes):
    seats = reserve_engines(config("rollout.workers={min: 1, max: 3}"))
    assert "scheduling_strategy" in seats.options(0)
    assert seats.options(1) == {}
    seats.release()


def test_a_cluster_that_cannot_give_them_is_reported(nodes, monkeypatch):
    monkeypatch.setattr(reserve, "_RESERVE_TIMEOUT_S", 1.0)
    with pytest.raises(PlanError, match=r"rollout.workers: Ray could not reserve 3 x .*GPU.* 4"):
        reserve_engines(config("rollout.workers=3", "rollout.tensor_parallel_size=4"))


@pytest.mark.parametrize(
    ("has", "told"),
    [
        (Resources(()), "GPU nodes: has 0 of 8 GPUs"),
        (parse_cluster("1x4xH100-80G"), "GPU nodes: has 4 of 8 GPUs"),
        (parse_cluster("1x8xH100-80G"), "room on 1 node(s) of 8 x H100-80G, 128 CPUs, which other"),
    ],
)
def test_waiting_says_what_is_missing(has, told):
    plan = plan_grpo(config("learner.workers=7", "rollout.workers=1"))
    assert missing(plan, has).startswith(told)


def test_remarks_of_ray_go_to_a_file_that_is_named_once(tmp_path, monkeypatch):
    # the name under which Ray prints them stays ours to replace
    monkeypatch.setattr(remarks.ray_worker, "print_to_stdstream", print)
    said, file = [], tmp_path / "logs" / "ray.log"
    remarks.divert_remarks(file, said.append)
    for text in ("WARNING: 8 PYTHON worker processes have been started\n", "another"):
        data = {"lines": [text], "pid": "raylet", "is_err": False}
        remarks.ray_worker.print_to_stdstream(data, ignore_prefix=False)
    assert said == [f"Ray's own remarks: {file}"]
    assert file.read_text().splitlines() == [
        "raylet: WARNING: 8 PYTHON worker processes have been started",
        "raylet: another",
    ]
