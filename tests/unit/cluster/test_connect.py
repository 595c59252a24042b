"""Starting Ray on a machine that is too busy for Ray's own waits."""

import os
import socket

import pytest
from ray._private import services
from ray.exceptions import AuthenticationError

import olmrl.ray_start
from olmrl.cluster.connect import connect
from olmrl.cluster.plan import Plan
from olmrl.errors import RunStopped
from olmrl.mix.ray_map import map_on_ray
from olmrl.ray_start import join, loopback, start_patiently

BUSY = "The current node timed out during startup. This could happen because"


def test_a_busy_machine_is_given_further_attempts():
    answers = [Exception(BUSY), Exception(BUSY), None]

    def start():
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return "address"

    assert start_patiently(start) == "address" and not answers


def test_an_overloaded_machine_is_told_so():
    def start():
        raise Exception(BUSY)

    with pytest.raises(RunStopped, match=r"overloaded \(load average [\d.]+ on \d+ cores\)"):
        start_patiently(start, patience_s=0.0)


def test_other_failures_are_not_retried():
    calls = []

    def start():
        calls.append(1)
        raise ValueError("no such address")

    with pytest.raises(ValueError, match="no such address"):
        start_patiently(start)
    assert calls == [1]


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "[::1]:{port}"])
def test_an_address_where_nothing_listens_is_a_sentence(address):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = address.format(port=closed.getsockname()[1])
    with pytest.raises(RunStopped, match=r"RAY_ADDRESS is .*no Ray answers there .*; start Ray"):
        connect(address, None, Plan((), None), dashboard=False)


def test_a_command_that_maps_on_ray_says_where_nothing_listens(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(RunStopped, match=rf"--ray is '{address}', but no Ray .*give `--ray local`"):
        list(map_on_ray([1], str, workers=1, address=address))


def test_a_port_that_belongs_to_nobody_is_a_sentence(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:99999")
    with pytest.raises(RunStopped, match="no Ray answers there"):
        connect(None, None, Plan((), None), dashboard=False)


def _refused_inside() -> ConnectionError:
    """As Ray 2.60 reports a cluster that asks for a token, to a process without one."""
    inner = RuntimeError("Failed to connect to GCS. RPC error: InvalidAuthToken: Authentication")
    outer = ConnectionError("Failed to connect to Ray cluster at 127.0.0.1:6379")
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    "error", [_refused_inside(), AuthenticationError("no authentication token was found")]
)
def test_a_cluster_that_asks_for_a_token_says_so_and_not_that_nobody_is_there(monkeypatch, error):
    def init(**_):
        raise error

    monkeypatch.setattr(olmrl.ray_start.ray, "init", init)
    with pytest.raises(RunStopped, match=r"asks for a token .* set RAY_AUTH_MODE=token") as stopped:
        join("auto", named="--ray", instead="give `--ray local`")
    assert "no Ray answers" not in str(stopped.value)


def test_ray_keeps_a_loopback_address_only_inside(monkeypatch):
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    monkeypatch.setattr(services, "node_ip_address_from_perspective", lambda _: "192.0.2.7")
    with loopback() as addresses:
        address = addresses["_node_ip_address"]
        assert services.resolve_ip_for_localhost(address) == address == "127.0.0.1"
        assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"  # for what Ray starts
    assert services.resolve_ip_for_localhost(address) == "192.0.2.7"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ


def test_workers_of_a_cluster_started_here_inherit_their_environment(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    seen = {}

    def init(**settings):
        seen.update(settings=settings, environment=dict(os.environ))
        raise ValueError("far enough")

    monkeypatch.setattr(olmrl.ray_start.ray, "init", init)
    with pytest.raises(ValueError, match="far enough"):
        connect(None, 1, Plan((), None), dashboard=False)
    assert "runtime_env" not in seen["settings"]
    assert seen["environment"]["OMP_NUM_THREADS"] == "1"
    assert seen["environment"]["TOKENIZERS_PARALLELISM"] == "true"
    assert "OMP_NUM_THREADS" not in os.environ
