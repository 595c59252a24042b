"""`launch/aws.yaml` in Ray's own launcher, which starts its nodes on a simulated EC2 (moto)."""

import copy

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

_ROLE = "ray-autoscaler-v1"


@pytest.fixture(scope="module")
def written(launch):
    return yaml.safe_load((launch / "aws.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def ec2(written, tmp_path_factory):
    """A client of an account in which Ray has been used before: it has Ray's role."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray puts a key into ~/.ssh
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "x")
        patch.setenv("AWS_DEFAULT_REGION", written["provider"]["region"])
        iam = boto3.client("iam")
        iam.create_role(RoleName=_ROLE, AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName=_ROLE)
        iam.add_role_to_instance_profile(InstanceProfileName=_ROLE, RoleName=_ROLE)
        yield boto3.client("ec2")


@pytest.fixture(scope="module")
def started(written, ec2):
    """The configuration as Ray completes it, and one running instance of each node type."""
    config = copy.deepcopy(written)
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    for kind in config["available_node_types"].values():
        kind["node_config"]["ImageId"] = image
    config = bootstrap_aws(prepare_config(config))
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, kind in config["available_node_types"].items():
        tags = {TAG_RAY_NODE_KIND: "worker", TAG_RAY_USER_NODE_TYPE: name}
        provider.create_node(copy.deepcopy(kind["node_config"]), tags, 1)
    instances = {}
    for reservation in ec2.describe_instances()["Reservations"]:
        (instance,) = reservation["Instances"]
        tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
        instances[tags[TAG_RAY_USER_NODE_TYPE]] = instance
    return config, instances


def test_every_node_type_starts_as_it_is_written(written, started):
    _, instances = started
    kinds = written["available_node_types"]
    assert set(instances) == set(kinds)
    for name, instance in instances.items():
        wanted = kinds[name]["node_config"]
        assert instance["InstanceType"] == wanted["InstanceType"]
        spot = wanted.get("InstanceMarketOptions", {}).get("MarketType")
        assert instance.get("InstanceLifecycle") == spot


def test_the_written_resources_are_those_of_the_instances(written, started):
    config, _ = started
    detected = copy.deepcopy(config)
    for kind in detected["available_node_types"].values():
        kind["resources"] = {}
    detected = AWSNodeProvider.fillout_available_node_types_resources(detected)
    for name in ("gpu", "cpu"):
        wanted = written["available_node_types"][name]["resources"]
        found = detected["available_node_types"][name]["resources"]
        assert {key: found.get(key) for key in ("CPU", "GPU")} == {
            key: wanted.get(key) for key in ("CPU", "GPU")
        }


def test_from_outside_only_ssh_reaches_the_nodes(ec2, started):
    _, instances = started
    for instance in instances.values():
        ids = [group["GroupId"] for group in instance["SecurityGroups"]]
        groups = ec2.describe_security_groups(GroupIds=ids)["SecurityGroups"]
        open_ports = {
            (rule.get("FromPort"), rule.get("ToPort"))
            for group in groups
            for rule in group["IpPermissions"]
            if rule["IpRanges"] or rule["Ipv6Ranges"]
        }
        assert open_ports == {(22, 22)}
