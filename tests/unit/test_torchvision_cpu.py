"""A CUDA build of torchvision next to a CPU build of torch."""

import subprocess
import sys

import pytest

from olmrl import torchvision_cpu

REGISTER = """
import os, sys
os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
import torch
from olmrl import torchvision_cpu
versions = {"torchvision": sys.argv[1], **eval(sys.argv[2])}
torchvision_cpu._version = versions.get
torch.__version__ = "2.13.0+cpu"
torchvision_cpu.register()
print(hasattr(torch.ops.torchvision, "nms"))
"""


@pytest.mark.parametrize(
    ("torch", "other", "mixed"),
    [
        ("2.13.0+cpu", "0.28.0", True),
        ("2.13.0+cpu", "0.28.0+cpu", False),
        ("2.13.0", "0.28.0", False),
        ("2.13.0+cu130", "0.28.0", False),
    ],
)
def test_a_mixed_pair_is_known_by_its_versions(torch, other, mixed):
    assert torchvision_cpu.is_mixed(torch, other) is mixed


@pytest.mark.parametrize(
    ("version", "others", "declared"),
    [
        ("0.28.0", {}, True),
        ("0.28.0+cpu", {}, False),
        ("0.28.0", {"olmrl-torchvision-cpu": "0.1.0"}, False),
    ],
)
def test_operators_are_declared_once_and_only_where_they_lack(version, others, declared):
    command = [sys.executable, "-c", REGISTER, version, repr(others)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(declared)
