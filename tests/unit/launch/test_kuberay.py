"""The Kubernetes files, against KubeRay's API (kuberay_schema.yaml) and against themselves."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.runtime_env import RuntimeEnv

from olmrl.config import GrpoConfig, load
from olmrl.config.schema import CheckpointConfig

SCHEMA = yaml.safe_load((Path(__file__).parent / "kuberay_schema.yaml").read_text("utf-8"))
FILES = ["rayjob.yaml", "raycluster.yaml"]


@pytest.fixture(params=FILES)
def manifest(request, launch):
    return yaml.safe_load((launch / "kuberay" / request.param).read_text("utf-8"))


def cluster_of(manifest):
    return manifest["spec"].get("rayClusterSpec", manifest["spec"])


def groups_of(manifest):
    cluster = cluster_of(manifest)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def containers_of(manifest):
    return [c for g in groups_of(manifest) for c in g["template"]["spec"]["containers"]]


def test_kuberay_knows_every_field(manifest):
    jsonschema.validate(manifest, SCHEMA)


def test_a_field_that_kuberay_does_not_know_is_refused(manifest):
    cluster_of(manifest)["workerGroupSpecs"][0]["replica"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, SCHEMA)


def test_the_ray_version_is_the_one_of_the_image(manifest, launch, allowed_ray):
    version = cluster_of(manifest)["rayVersion"]
    assert version in allowed_ray
    dockerfile = (launch / "Dockerfile").read_text("utf-8")
    assert version == re.search(r"^ARG RAY_VERSION=(\S+)", dockerfile, re.M)[1]
    built = re.search(r"docker build .*-t (\S+)", dockerfile)[1]
    assert {container["image"] for container in containers_of(manifest)} == {built}


def test_every_mount_has_its_volume(manifest):
    for group in groups_of(manifest):
        spec = group["template"]["spec"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_runs_and_pages_are_on_the_same_claim_everywhere(manifest):
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for group in groups_of(manifest)
        for volume in group["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"olmrl-shared"}


def test_pods_ask_for_what_they_may_use_and_shared_memory_fits_in(manifest):
    for group in groups_of(manifest):
        spec = group["template"]["spec"]
        (container,) = spec["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        memory = int(container["resources"]["limits"]["memory"].removesuffix("Gi"))
        shm = next(v["emptyDir"] for v in spec["volumes"] if "emptyDir" in v)
        assert int(shm["sizeLimit"].removesuffix("Gi")) < memory


def test_gpus_are_asked_for_by_the_gpu_group_alone(manifest):
    for group in groups_of(manifest):
        (container,) = group["template"]["spec"]["containers"]
        asks = "nvidia.com/gpu" in container["resources"]["limits"]
        assert asks == (group.get("groupName") == "gpu")
        tolerated = [t["key"] for t in group["template"]["spec"].get("tolerations", [])]
        assert tolerated == (["nvidia.com/gpu"] if asks else [])


def test_groups_are_not_larger_than_they_may_be(manifest):
    for group in cluster_of(manifest)["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_pods_do_not_run_as_root(manifest):
    for group in groups_of(manifest):
        security = group["template"]["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0


def test_a_drained_head_has_time_to_save(manifest):
    head = cluster_of(manifest)["headGroupSpec"]["template"]["spec"]
    assert head["terminationGracePeriodSeconds"] > CheckpointConfig().grace_s
    assert "pkill -TERM" in head["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]


def test_the_job_continues_what_an_earlier_attempt_left(launch):
    spec = yaml.safe_load((launch / "kuberay" / "rayjob.yaml").read_text("utf-8"))["spec"]
    assert spec["entrypoint"].endswith("--resume auto")
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True


def test_the_entrypoint_names_a_config_and_keys_that_exist(launch):
    spec = yaml.safe_load((launch / "kuberay" / "rayjob.yaml").read_text("utf-8"))["spec"]
    _, _, module, _, file, *rest = spec["entrypoint"].split()
    assert module == "olmrl.grpo"
    config = launch.parent / file
    overrides = [word for word in rest if "=" in word]
    loaded = load(GrpoConfig, config, overrides)
    assert loaded.run.dir.startswith("/shared/")
    RuntimeEnv(**yaml.safe_load(spec["runtimeEnvYAML"]))


def test_the_gpu_group_holds_the_entrypoints_run(launch):
    spec = yaml.safe_load((launch / "kuberay" / "rayjob.yaml").read_text("utf-8"))["spec"]
    file = spec["entrypoint"].split()[4]
    config = load(GrpoConfig, launch.parent / file, [])
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    engines = config.rollout.min_workers * config.rollout.tensor_parallel_size
    assert int(limits["nvidia.com/gpu"]) * group["replicas"] >= config.learner.workers + engines
