"""The image, and what `ray job submit` uploads."""

import re
import shlex
import zipfile

import pytest
import yaml
from ray._private.runtime_env.packaging import create_package
from ray.runtime_env import RuntimeEnv
from ray.runtime_env.runtime_env import _merge_runtime_env

from olmrl.cluster.connect import worker_environment
from olmrl.config.schema import CheckpointConfig


@pytest.fixture(scope="module")
def instructions(launch):
    """Keyword and arguments of every instruction, continued lines joined."""
    text = (launch / "Dockerfile").read_text("utf-8")
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.M))
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def test_what_the_image_copies_exists(instructions, launch):
    copied = []
    for keyword, rest in instructions:
        if keyword == "COPY":
            *sources, _ = [word for word in rest.split() if not word.startswith("--")]
            copied += sources
    assert {"pyproject.toml", "olmrl", "launch"} <= set(copied)
    assert all((launch.parent / source).exists() for source in copied)


def test_the_image_has_what_building_the_package_reads(instructions, project):
    copied = " ".join(rest for keyword, rest in instructions if keyword == "COPY").split()
    assert {project["readme"], "LICENSE"} <= set(copied)


def test_the_image_installs_gpu_extras_that_exist(instructions, project):
    commands = " ".join(rest for keyword, rest in instructions if keyword == "RUN")
    extras = re.search(r'"\.\[([a-z0-9,-]+)\]"', commands)[1].split(",")
    assert "gpu" in extras
    assert set(extras) <= set(project["optional-dependencies"])


def test_the_image_keeps_the_ray_of_its_base(instructions, allowed_ray, pinned_ray):
    version = next(rest for keyword, rest in instructions if keyword == "ARG").split("=")[1]
    assert version in allowed_ray
    assert ("FROM", "rayproject/ray:${RAY_VERSION}-py312-gpu") in instructions
    assert version == pinned_ray


def test_the_image_does_not_run_as_root(instructions):
    users = [rest for keyword, rest in instructions if keyword == "USER"]
    assert users[-1] == "ray"


def test_commands_of_the_image_are_shell(instructions):
    for keyword, rest in instructions:
        if keyword == "RUN":
            assert shlex.split(rest)


@pytest.fixture
def runtime_env(launch):
    return yaml.safe_load((launch / "runtime_env.yaml").read_text("utf-8"))


def package(folder, runtime_env, out):
    create_package(str(folder), out, include_gitignore=True, excludes=runtime_env["excludes"])
    with zipfile.ZipFile(out) as archive:
        return set(archive.namelist())


def test_ray_accepts_the_runtime_environment(runtime_env, launch):
    RuntimeEnv(**runtime_env, working_dir=str(launch.parent))


def test_it_does_not_conflict_with_what_the_driver_sets_itself(runtime_env, monkeypatch):
    # Ray refuses a job whose Driver sets a variable that the submission sets, too.
    for name, value in runtime_env["env_vars"].items():
        monkeypatch.setenv(name, value)
    assert _merge_runtime_env(runtime_env, {"env_vars": worker_environment()}) is not None


def test_stopping_a_job_leaves_it_time_to_save(runtime_env):
    wait = int(runtime_env["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"])
    assert wait > CheckpointConfig().grace_s


def test_data_runs_and_environments_are_not_uploaded(runtime_env, tmp_path):
    stay = ["data/pages/a.pdf", "runs/a/metrics.jsonl", ".venv/bin/python", ".git/HEAD"]
    go = ["olmrl/data/page.py", "olmrl/rollout/runs.py", "configs/grpo/a.yaml", "pyproject.toml"]
    for name in stay + go:
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", "utf-8")
    assert package(tmp_path / "folder", runtime_env, tmp_path / "a.zip") == set(go)


def test_the_upload_is_small_and_complete(runtime_env, launch, tmp_path):
    names = package(launch.parent, runtime_env, tmp_path / "a.zip")
    assert {"olmrl/grpo/training.py", "olmrl/data/page.py"} <= names
    assert "olmrl/configs/grpo/tiny_cpu.yaml" in names
    assert (tmp_path / "a.zip").stat().st_size < 5e6
