"""What a cluster has, from a command line and from Ray."""

import pytest

from olmrl.cluster import PlanError, parse_cluster
from olmrl.cluster.resources import from_ray
from olmrl.hardware import GIB, GPUS, find_gpu


def test_nodes_of_one_kind():
    resources = parse_cluster("2x8xH100-80G")
    assert (len(resources.nodes), resources.gpus, resources.gpu_memory) == (2, 16, 80 * GIB)
    assert resources.gpu is GPUS["H100"]


def test_nodes_of_cpus_only_join_with_a_plus():
    resources = parse_cluster("1x8xH100-80G + 2x64cpu")
    assert [node.gpus for node in resources.nodes] == [8, 0, 0]
    assert [node.cpus for node in resources.nodes[1:]] == [64, 64]
    assert str(resources) == "1 node(s) of 8 x H100-80G, 128 CPUs; 2 node(s) of 64 CPUs"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("8xH100", "1x8xH100-80G"),
        ("2x8xh100-80gb", "2x8xH100-80G"),
        ("1x2xRTX4090", "1x2x4090-24G"),
        ("1xrtx_5090", "1x1x5090-32G"),
        ("1x8xH200-141GiB+64cpu", "1x8xH200-141G+1x64cpu"),
    ],
)
def test_names_may_be_written_as_people_write_them(text, same):
    assert parse_cluster(text) == parse_cluster(same)


def test_host_memory_can_be_said():
    gpus, cpus = parse_cluster("1x8xH100-80G/512G + 1x64cpu/256G").nodes
    assert (gpus.memory, cpus.memory) == (512 * GIB, 256 * GIB)
    assert parse_cluster("1x8xH100-80G").nodes[0].memory is None


def test_the_smallest_gpu_counts():
    resources = parse_cluster("1x8xH100-80G+1x4xA10G-24G")
    assert resources.gpu_memory == 24 * GIB
    assert resources.gpu is GPUS["A10G"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("two nodes", "2x8xH100-80G"),
        ("8xH100-80", "'8xH100-80' is not valid"),
        ("1x8xH100-80G+64", "'64' is not valid"),
        ("1x8xH100-0G", "nothing in them"),
        ("1x8xH100-80G/0G", "nothing in them"),
        ("", "is not valid"),
        ("1x8xK80-12G", "K80 is unknown; allowed: 4090, 5090, A100"),
        ("0x8xH100-80G", "no nodes"),
        ("1x0cpu", "no nodes or nothing"),
    ],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(PlanError, match=message):
        parse_cluster(text)


def test_ray_nodes_are_read_with_their_custom_resources():
    rows = [
        {"Alive": True, "Resources": {"CPU": 4.0, "memory": 8e9, "node:10.0.0.1": 1.0}},
        {
            "Alive": True,
            "Resources": {"CPU": 16.0, "GPU": 2.0, "accelerator_type:H100": 1.0, "fast": 2.0},
        },
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    first, second = from_ray(rows).nodes
    assert (first.cpus, first.gpus, first.memory, dict(first.extra)) == (4.0, 0.0, 8e9, {})
    assert (second.gpus, second.gpu_type, dict(second.extra)) == (2.0, "H100", {"fast": 2.0})


def test_gpu_names_find_the_longest_entry():
    assert find_gpu("NVIDIA H100 PCIe") is GPUS["H100 PCIe"]
    assert find_gpu("NVIDIA H100 80GB HBM3") is GPUS["H100"]
    assert find_gpu("NVIDIA L40S") is GPUS["L40S"]
    assert find_gpu("NVIDIA L4") is GPUS["L4"]
    assert find_gpu("NVIDIA A100-SXM4-40GB") is GPUS["A100"]
    assert find_gpu("NVIDIA L40") is None  # neither an L4 nor an L40S
    assert find_gpu("Tesla T4") is None
