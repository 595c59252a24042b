"""`rollout.workers: {min, max}`: engines that join a running job, and leave it, with their node."""

import time
from collections import Counter

import pytest
import ray
from ray.cluster_utils import Cluster
from test_rollout_pool import DRAW, all_ready, gather, make_pool, page

from olmrl.metrics import flatten
from olmrl.weight_sync.store import start_store


@pytest.fixture
def cluster(monkeypatch):
    """A node with a seat for one engine."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    group = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 4, "resources": {"seat": 1}, "include_dashboard": False},
    )
    ray.init(address=group.address, logging_level="ERROR", log_to_driver=False)
    yield group
    ray.shutdown()
    group.shutdown()


@pytest.mark.slow
def test_an_engine_joins_with_a_node_and_leaves_with_it(cluster, tiny_model):
    pool = make_pool(tiny_model, start_store(), workers={"min": 1, "max": 2}, resources={"seat": 1})
    pool.start()
    pool.wait_ready(300)
    assert pool.ready == 1
    node = cluster.add_node(num_cpus=2, resources={"seat": 1}, node_ip_address="127.0.0.2")
    all_ready(pool, 2)
    pool.measurements()
    gone = False

    def leave(found):
        nonlocal gone
        if found and not gone:
            gone = True
            cluster.remove_node(node, allow_graceful=False)

    for number in range(12):
        pool.submit(f"g/{number}", page(tiny_model, number), DRAW, (1, 2, 3))
    found = gather(pool, 36, leave)
    assert Counter(c.group_id for c in found) == {f"g/{number}": 3 for number in range(12)}
    deadline = time.monotonic() + 120
    while pool.ready > 1:
        assert time.monotonic() < deadline
        pool.poll(0.5)
    counted = flatten(pool.measurements())
    assert counted["rollout/restarts"] == 1 and counted["rollout/engines"] == 1
    pool.close()
