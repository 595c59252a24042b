"""A run on a cluster without its nodes, whose autoscaler (Ray's, over simulated machines) starts
them."""

import contextlib
import json
import socket
import time

import psutil
import pytest
import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.cluster_utils import Cluster

from olmrl.cluster import Plan, PlanError, Role
from olmrl.cluster.connect import connect

TYPES = {
    "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
    "gpu": {
        "resources": {"CPU": 8, "GPU": 4},
        "node_config": {},
        "min_workers": 0,
        "max_workers": 2,
    },
}
SETTINGS = {
    "cluster_name": "simulated",
    "max_workers": 2,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 0.1,
    "head_node_type": "ray.head.default",
    "available_node_types": TYPES,
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "file_mounts_sync_continuously": False,
    **{f"{part}_commands": [] for part in ("initialization", "setup", "head_setup")},
    **{f"{part}_commands": [] for part in ("worker_setup", "head_start_ray")},
    "worker_start_ray_commands": [],
    **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
}


@pytest.fixture
def address(tmp_path, monkeypatch):
    """A head node and an autoscaler, no GPUs."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_FAKE_CLUSTER", "1")
    monkeypatch.setenv("AUTOSCALER_UPDATE_INTERVAL_S", "1")
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    provider = {
        "type": "fake_multinode",
        "gcs_address": f"{ray.util.get_node_ip_address()}:{port}",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    settings = tmp_path / "autoscaler.json"
    settings.write_text(json.dumps(SETTINGS | {"provider": provider}))
    with monkeypatch.context() as patch:
        patch.setenv("RAY_OVERRIDE_NODE_ID_FOR_TESTING", FAKE_HEAD_NODE_ID)
        group = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "gcs_server_port": port,
                "autoscaling_config": str(settings),
                "include_dashboard": False,
            },
        )
    yield group.address
    ray.shutdown()
    machines = psutil.Process().children(recursive=True)
    group.shutdown()
    for process in machines:  # of nodes that the autoscaler had started and not ended
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def plan(learners):
    roles = (Role("RolloutWorker", 2, 1.0, 2.0), Role("LearnerWorker", learners, 1.0, 1.0))
    return Plan(roles, None)


@pytest.mark.slow
def test_nodes_come_when_a_run_asks_and_go_when_it_does_not(address):
    lines = []
    with pytest.raises(PlanError, match=r"cluster has 0; .* set cluster.wait_s"):
        connect(address, None, plan(2), False)
    ray.shutdown()
    resources = connect(address, None, plan(2), False, 300, lines.append)
    assert resources.gpus == 8
    deadline = time.monotonic() + 120
    while ray.cluster_resources().get("GPU"):
        assert time.monotonic() < deadline, "idle nodes stay"
        time.sleep(1)
    ray.shutdown()
    with pytest.raises(PlanError, match=r"cluster.wait_s: .* 13 GPUs .* after \d+ s"):
        connect(address, None, plan(9), False, 20, lines.append)
    assert any("waiting for GPU nodes: has " in line and " of 13 GPUs (" in line for line in lines)
