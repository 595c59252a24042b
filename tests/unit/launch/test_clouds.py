"""The files for `ray up`: Ray's own validator, and what the parts must agree on."""

import copy
import re

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

CLOUDS = ["aws", "gcp"]


@pytest.fixture(params=CLOUDS)
def cloud(request, launch):
    return yaml.safe_load((launch / f"{request.param}.yaml").read_text("utf-8"))


def test_ray_accepts_the_file(cloud):
    validate_config(prepare_config(copy.deepcopy(cloud)))


def test_ray_refuses_the_file_with_a_misspelt_key(cloud):
    cloud["max_worker"] = cloud.pop("max_workers")
    with pytest.raises((jsonschema.ValidationError, AssertionError)):
        validate_config(prepare_config(cloud))


def test_gpu_nodes_start_from_none_and_may_become_more(cloud):
    types = cloud["available_node_types"]
    assert cloud["head_node_type"] == "head"
    assert "GPU" not in types["head"]["resources"]
    assert types["head"]["resources"]["CPU"] == 0
    assert types["gpu"]["resources"]["GPU"] == 8
    assert types["gpu"]["min_workers"] == 0 < types["gpu"]["max_workers"]
    assert types["cpu"]["min_workers"] == 0
    wanted = sum(kind.get("max_workers", 0) for kind in types.values())
    assert cloud["max_workers"] >= wanted


def test_the_head_starts_with_the_resources_it_is_planned_with(cloud):
    start = next(c for c in cloud["head_start_ray_commands"] if "--head" in c)
    assert f"--num-cpus={cloud['available_node_types']['head']['resources']['CPU']}" in start


def test_the_dashboard_listens_on_loopback(cloud):
    start = next(c for c in cloud["head_start_ray_commands"] if "--head" in c)
    assert re.findall(r"--dashboard-host=(\S+)", start) == ["127.0.0.1"]


def test_nodes_install_this_folder_on_the_ray_of_their_image(
    cloud, project, allowed_ray, pinned_ray
):
    image = re.fullmatch(r"rayproject/ray:([\d.]+)-py(\d)(\d+)-gpu", cloud["docker"]["image"])
    version, python = image[1], f"{image[2]}.{image[3]}"
    assert version in allowed_ray
    assert python in Requirement(f"python{project['requires-python']}").specifier

    install = next(c for c in cloud["setup_commands"] if "--editable" in c)
    assert version == pinned_ray and "--constraint launch/constraints-gpu.txt " in install
    extras = re.search(r"\.\[([a-z0-9,-]+)\]", install)[1].split(",")
    assert "gpu" in extras
    assert set(extras) <= set(project["optional-dependencies"])
    folder = re.match(r"cd ~/(\S+) ", install)[1]
    assert cloud["file_mounts"][f"/home/ray/{folder}"] == "."


def test_what_the_nodes_run_from_launch_exists(cloud, launch):
    used = re.findall(r"launch/([a-z_]+\.\w+)", "\n".join(cloud["head_start_ray_commands"]))
    assert used == ["copy_runs.py"]
    assert all((launch / name).is_file() for name in used)


def test_data_and_environments_stay_here(cloud):
    assert {".git", ".venv", "data", "runs"} <= set(cloud["rsync_exclude"])


def test_the_shared_folder_is_mounted_where_the_container_looks(cloud):
    assert "-v /shared:/shared" in cloud["docker"]["run_options"]
    assert any("mount " in c and "/shared" in c for c in cloud["initialization_commands"])


@pytest.mark.parametrize("name", CLOUDS)
def test_every_word_to_replace_is_explained(launch, name):
    words = set(re.findall(r"YOUR_[A-Z_]+[A-Z]", (launch / f"{name}.yaml").read_text("utf-8")))
    assert words
    assert words <= set(re.findall(r"YOUR_[A-Z_]+[A-Z]", (launch / "README.md").read_text("utf-8")))
