"""Import directions of design.md section 2: lower rooms never import higher ones."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "olmrl"

# room -> rooms it may import, beside itself
BASE = {"types", "config", "storage", "metrics", "hardware", "events", "guards"}
ALLOWED = {
    "types": set(),
    "config": set(),
    "storage": set(),
    "metrics": set(),
    "telemetry": set(),
    "hardware": set(),
    "events": set(),
    "guards": set(),
    "run_directory": {"types", "storage", "metrics"},
    "bad_pages": {"data", "run_directory"},
    "stop": {"run_directory"},
    "timeline": {"storage"},
    "markup": BASE,
    "data": BASE | {"markup"},
    "report": BASE | {"run_directory"},
    "bench": BASE | {"markup", "data", "report"},
    "mix": BASE | {"markup", "data", "bench", "report"},
    "synth": BASE | {"markup", "data", "bench", "report"},
    "rewards": BASE | {"markup", "data", "bench"},
    "weight_sync": BASE,
    "checkpoint": BASE | {"data"},
    "rollout": BASE | {"data", "weight_sync", "telemetry", "timeline"},
    "learner": BASE | {"data", "checkpoint", "weight_sync"},
    "evaluation": BASE | {"markup", "data", "bench", "run_directory"},
    "samples": {"metrics", "run_directory"},
    "cluster": BASE | {"data"},
}
ENTRY = {
    "grpo", "sft", "driver", "heldout", "sft_driver", "sft_scoring", "transcribe", "console",
    "quickstart", "__init__",
}  # fmt: skip
NO_TORCH = ["types", "config", "markup", "bench", "mix", "rewards", "data.page", "data.steps"]


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module == "olmrl":
                names |= {f"olmrl.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {n.split(".")[1] for n in names if n.startswith("olmrl.")}


FILES = sorted(p for p in ROOT.rglob("*.py") if p.name != "__main__.py" and room(p) not in ENTRY)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_lower_rooms_never_import_higher_ones(path):
    mine = room(path)
    assert mine in ALLOWED, f"{mine}: give the new room its place in this test"
    too_high = imported_rooms(path) - ALLOWED[mine] - {mine}
    assert not too_high, f"{path.relative_to(ROOT)} imports {sorted(too_high)}"


def test_light_rooms_need_no_torch():
    code = f"""
import importlib, sys
for name in {NO_TORCH!r}:
    importlib.import_module("olmrl." + name)
heavy = {{"torch", "transformers", "vllm"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
