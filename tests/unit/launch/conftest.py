"""Fixtures of the launch tests."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


@pytest.fixture(scope="session")
def pins(launch):
    """Version of each package in constraints-gpu.txt."""
    lines = (launch / "constraints-gpu.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in found}


@pytest.fixture(scope="session")
def pinned_ray(pins):
    """The Ray version of every GPU installation."""
    return pins["ray"]
