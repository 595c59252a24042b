"""One file of versions for every GPU installation, which fits pyproject.toml and resolves."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from olmrl.rollout import environment

FILE = "launch/constraints-gpu.txt"


def test_pins_are_within_what_the_package_asks_for(pins, project):
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["gpu"], *extras["lora"], *extras["fp8"]]
    for requirement in map(Requirement, asked):
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), (requirement, version)


@pytest.mark.parametrize("name", ["Dockerfile", "aws.yaml", "gcp.yaml", "README.md"])
def test_every_gpu_installation_takes_them(name, launch):
    text = (launch / name).read_text().replace("\\\n", " ")
    installs = [line for line in text.splitlines() if re.search(r"install.*\[gpu", line)]
    assert installs
    for line in installs:
        assert re.search(rf"(-c|--constraint) (launch/)?{Path(FILE).name} ", line), line


def test_no_registry_is_named(launch):
    assert "://" not in (launch / "constraints-gpu.txt").read_text()


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_gpu_extra_resolves_to_them(python, launch, tmp_path):
    uv = shutil.which("uv") or Path(sys.executable).with_name("uv")
    out = tmp_path / "out.txt"
    asked = ["--extra=gpu", "--extra=lora", "--extra=fp8", f"--python-version={python}"]
    platform = "--python-platform=x86_64-manylinux_2_28"
    command = [uv, "pip", "compile", "pyproject.toml", *asked, platform, "-c", FILE, "-o", out]
    try:
        done = subprocess.run(
            command,
            cwd=launch.parent,
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"UV_PYTHON_DOWNLOADS": "never"},
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no resolver, or no index within reach: {error}")
    unreachable = re.search(r"fetch|connect|dns|resolve host|timed out", done.stderr, re.I)
    if done.returncode and unreachable:
        pytest.skip(f"no package index within reach: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^vllm==0\.3[23]\.", out.read_text(), re.M)


@pytest.mark.parametrize("found", ["0.26.0", "0.31.4", "0.34.0"])
def test_another_vllm_is_refused_by_name(found, monkeypatch):
    monkeypatch.setattr(environment.metadata, "version", lambda _: found)
    with pytest.raises(ValueError, match=rf"vllm {found} is installed.*<0\.34.*>=0\.32|>=0\.32"):
        environment.check_vllm()


def test_a_missing_vllm_is_refused(monkeypatch):
    def missing(name):
        raise environment.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(environment.metadata, "version", missing)
    with pytest.raises(ValueError, match="is not installed; pip install olmrl"):
        environment.check_vllm()


def test_without_an_index_the_range_of_vllm_is_said_to_be_unchecked(launch):
    if not (uv := shutil.which("uv")):
        pytest.skip("uv is not installed")
    done = subprocess.run(
        [".ci/vllm_range"],
        cwd=launch.parent,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ
        | {
            "OLMRL_VENV": str(Path(uv).parents[1]),
            "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
            "UV_HTTP_RETRIES": "0",
            "UV_NO_CACHE": "1",
        },
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"not checked: no package index within reach \(.*127\.0\.0\.1", done.stdout)
