"""Fixtures of the launch tests."""

import tomllib
from pathlib import Path

import pytest
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
