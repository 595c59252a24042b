"""Fixtures of the launch tests."""

import os
import tomllib
from pathlib import Path

import pytest
import ray
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def launch():
    """The folder under test."""
    return ROOT / "launch"


@pytest.fixture(scope="session")
def project():
    """The [project] table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="session")
def allowed_ray(project):
    """Ray versions that pyproject.toml allows."""
    wanted = [Requirement(text) for text in project["dependencies"]]
    return next(r.specifier for r in wanted if r.name == "ray")


@pytest.fixture(scope="module")
def ray_node():
    """A running Ray of one node that reports its metrics twice a second; gives `ray.nodes()[0]`."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        _system_config={"metrics_report_interval_ms": 500},
    )
    yield ray.nodes()[0]
    ray.shutdown()
