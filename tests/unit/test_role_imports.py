"""What the process of each role imports before it works: a start pays for it once per process."""

import json
import subprocess
import sys

import pytest

STATISTICS = ("matplotlib", "wandb", "tensorboard")
MODEL = ("torch", "transformers", "vllm", "peft")
RAY_LIBRARIES = ("ray.data", "ray.train", "pandas")

ROLES = {
    "grpo.buffer": (*MODEL, *RAY_LIBRARIES, *STATISTICS),
    "sft.feed": (*MODEL, *RAY_LIBRARIES, *STATISTICS),
    "weight_sync.store": (*MODEL, *RAY_LIBRARIES, *STATISTICS),
    "rewards.worker": (*MODEL, *RAY_LIBRARIES, *STATISTICS),
    # threads and cores must be set before torch is loaded
    "rollout.worker": (*MODEL, *RAY_LIBRARIES, *STATISTICS),
    "data.page_sets": (*MODEL, "ray.train", *STATISTICS),
    "read.engines": (*MODEL, "ray.train", *STATISTICS),
    "grpo.driver": ("transformers", "vllm", "peft", *STATISTICS),
    "sft.driver": ("transformers", "vllm", "peft", *STATISTICS),
    "sft.worker": ("vllm", *STATISTICS),
    "grpo.worker": ("vllm", *STATISTICS),
}
"""Module of each role's class, or of its part in a Ray Data task -> what it does without."""

SCRIPT = """
import importlib, json, sys

module, unneeded = json.loads(sys.argv[1])
importlib.import_module("olmrl." + module)
print(json.dumps(sorted(set(unneeded) & set(sys.modules))))
"""


@pytest.mark.parametrize("module", ROLES)
def test_a_role_imports_nothing_that_it_does_not_need(module):
    arguments = json.dumps([module, ROLES[module]])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, arguments], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
