"""What runs without Ray: every module but the ones listed here, and the learner's core as a whole.

Ray distributes the work; what the work is must be usable, testable and measurable without it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_import_rules import MODULES, imports, outside

SHELLS = {
    "cluster.connect",
    "cluster.gpu_look",
    "cluster.remarks",
    "cluster.reserve",
    "data.commands",
    "data.streams",
    "evaluation.heldout",
    "evaluation.judging",
    "grpo.driver",
    "grpo.training",
    "grpo.waiting",
    "grpo.worker",
    "lost",
    "mix.ray_map",
    "ray_start",
    "read.engines",
    "rewards.pool",
    "rewards.worker",
    "rollout.gauges",
    "rollout.pool",
    "rollout.worker",
    "run.driver",
    "run.launch",
    "run.prometheus",
    "run.session",
    "run.worker",
    "sft.driver",
    "sft.evaluator",
    "sft.scoring",
    "sft.worker",
    "weight_sync.direct_sender",
    "weight_sync.fleet",
    "weight_sync.gpu_links",
    "weight_sync.nccl_m2n",
    "weight_sync.object_store",
    "weight_sync.sharded_rdt",
    "weight_sync.store",
    "weight_sync.vllm_trainers",
}
"""Modules that import Ray: actors, their handles, and what feeds them."""

ABOVE = {
    "data.page_sets",
    "grpo.page_feed",
    "read.rendering",
    "sft.training",
    "weight_sync.sender",
}
"""Modules that import one of those."""

BENCHMARKS = ("kernels", "families", "learner", "sft", "optimizer", "images", "sync")
"""Stages of the kit for a rented GPU, where nobody wants to install Ray first."""

ROOT = Path(__file__).parents[2]

SCRIPT = """
import importlib, importlib.util, json, sys
from pathlib import Path

sys.modules["ray"] = sys.modules["vllm"] = None  # importing them fails, as where they are missing
modules, scripts, support = json.loads(sys.argv[1])
for name in modules:
    importlib.import_module(name)
sys.path.insert(0, str(Path(scripts[0]).parent))  # stages import their neighbours
for script in scripts:
    spec = importlib.util.spec_from_file_location("script", script)
    module = sys.modules["script"] = importlib.util.module_from_spec(spec)  # dataclasses look it up
    spec.loader.exec_module(module)

sys.path.insert(0, support)
from learner_tiny import BANNED, make_group, make_model, pack
from olmrl.config.schema import AlgorithmConfig, LearnerConfig, ModelConfig
from olmrl.learner.core import GrpoLearner
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import prepare_policy
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.metrics import flatten

config = ModelConfig(path="tiny", dtype="float32")
model = prepare_policy(make_model(), config)
head = HeadSpec(0.8, BANNED, chunk=8)
strategy = FsdpStrategy(model, config, LearnerConfig(use_gpu=False), head, total_steps=2)
batch = pack(make_model(), [make_group(0, (4, 6), [5, 3, 8])])
learner = GrpoLearner(strategy, AlgorithmConfig(correction={"level": "none"}), max_tokens=9)
print(json.dumps(flatten(learner.step([batch]))))
"""


def test_the_list_of_modules_that_need_ray_is_exact():
    shells = {m for m, path in MODULES.items() if "ray" in outside(path)}
    assert shells == {f"olmrl.{name}" for name in SHELLS}


def test_few_modules_stand_on_those():
    above = {
        module
        for module, path in MODULES.items()
        if imports(path, deferred=False) & {f"olmrl.{name}" for name in SHELLS | ABOVE}
    }
    assert above - {f"olmrl.{name}" for name in SHELLS} == {f"olmrl.{name}" for name in ABOVE}


@pytest.fixture(scope="module")
def measurements():
    """What a training step measured in a process without Ray and vLLM, once all was imported."""
    needs_ray = {f"olmrl.{name}" for name in SHELLS | ABOVE}
    free = [m for m, path in MODULES.items() if m not in needs_ray and "vllm" not in outside(path)]
    scripts = [str(ROOT / "benchmarks" / "gpu" / f"stage_{name}.py") for name in BENCHMARKS]
    arguments = json.dumps([sorted(free), scripts, str(ROOT / "tests" / "support")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_all_others_import_and_the_learner_trains_without_ray_and_vllm(measurements):
    assert measurements["policy/grad_norm"] > 0
