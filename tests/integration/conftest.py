"""Fixtures of the engine tests; a module says which model by its own `model_path`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from engine_driver import Driver


@pytest.fixture(scope="module")
def engine_job(ray_job: Any) -> Iterator[None]:
    """A job of the shared head for one engine at a time."""
    with ray_job(cpus=4):
        yield


@pytest.fixture(scope="module", params=["vllm", "hf"])
def driver(request: pytest.FixtureRequest, engine_job: None, model_path: Path) -> Iterator[Driver]:
    """Each kind of engine, in an actor."""
    import ray
    from engine_driver import start_driver

    if request.param == "vllm":
        pytest.importorskip("vllm", reason="the vllm engine is an extra")
    started = start_driver(request.param, model_path)
    yield started
    ray.kill(started.handle)
