"""A run on several Ray nodes (of this machine) that lose engines, scorers, learner and nodes."""

import random
import threading
import time

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from running import GRPO, PAGES, PAGES_PER_STEP, Running, grpo_overrides, trained, words

from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.metrics import read_rows

EPOCHS = 5
STEPS = PAGES * EPOCHS // PAGES_PER_STEP
LOSSES = ["RolloutWorker", "ScorerWorker", "node", "RolloutWorker", "RayTrainWorker"]
ADDRESSES = (f"127.0.0.{number}" for number in range(2, 250))


def add_node(cluster):
    """A node for engines, scorers and rendering; learner and Driver stay on the head.

    It has an address of its own: a Driver attaches to a node of its address, which must stay.
    """
    return cluster.add_node(num_cpus=3, resources={"spare": 2}, node_ip_address=next(ADDRESSES))


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 4, "resources": {"steady": 8}, "include_dashboard": False},
    )
    nodes = [add_node(cluster), add_node(cluster)]
    cluster.wait_for_nodes()
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()


def kill_one(name, rng):
    """Kill a Ray worker of any node; they are children of this test, not of the Driver."""
    deadline = time.monotonic() + 120
    while not (victims := [p for p in psutil.Process().children(True) if name in words(p)]):
        assert time.monotonic() < deadline, f"no {name} to kill"
        time.sleep(0.2)
    rng.choice(victims).kill()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_run_survives_the_loss_of_engines_scorers_learner_and_nodes(
    cluster, tiny_pages, tiny_model, tmp_path, seed
):
    cluster, nodes = cluster
    out = tmp_path / "run"
    overrides = [
        *grpo_overrides(tiny_pages, tiny_model, out),
        *GRPO,
        f"run.epochs={EPOCHS}",
        f"cluster.address={cluster.address}",
        "rollout.workers={min: 1, max: 2}",
        "rollout.resources={spare: 1}",
        "scorer.workers=2",
        "learner.resources={steady: 1}",
        "algorithm.max_staleness=1",
    ]
    running = Running("olmrl.grpo", overrides)
    rng = random.Random(seed)
    losses = rng.sample(LOSSES, len(LOSSES))
    steps = sorted(rng.sample(range(1, STEPS // 2), len(losses)))
    for step, loss in zip(steps, losses, strict=True):
        running.wait_for_step(step)
        time.sleep(rng.random())
        if loss == "node":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            # another one comes meanwhile, and its engine joins the running job
            arrival = threading.Thread(target=add_node, args=[cluster])
            arrival.start()
        else:
            kill_one(loss, rng)
    running.finish()
    arrival.join()
    places = sorted((epoch, index) for _, row in trained(out) for epoch, index, _ in row)
    assert places == [(epoch, index) for epoch in range(EPOCHS) for index in range(PAGES)]
    events = [row["event"] for row in read_rows(out / "logs" / "driver-0.jsonl")]
    assert events.count("engine lost") >= 2 and events.count("learner begins") == 2
    assert CheckpointFolder(out / "checkpoints").newest().step == STEPS
