"""Import directions (docs/design.md#import-directions): never upwards, never in a circle."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "olmrl"

# room -> rooms it may import, beside itself; a room stands below every room that names it
GROUND = {
    *("arguments", "door", "progress", "types", "errors", "redaction", "storage", "metrics"),
    "hardware",
}
GROUND |= {"shipped", "ray_start", "suffixes", "scratch", "printable", "pipes", "lost", "ray_node"}
ALLOWED = {
    "arguments": set(),
    "door": {"errors", "lost", "printable"},
    "progress": {"printable"},
    "printable": set(),
    "types": set(),
    "errors": set(),
    "lost": set(),
    "ray_node": set(),
    "storage": {"errors", "redaction", "scratch", "suffixes", "pipes"},
    "pipes": set(),
    "scratch": set(),
    "suffixes": set(),
    "metrics": set(),
    "metric_catalogue": set(),
    "hardware": set(),
    "ray_start": {"errors"},
    "shipped": set(),
    "torchvision_cpu": set(),
    "redaction": set(),
    "config": {"redaction", "shipped", "pipes"},
    "markup": {"scratch"},
    "models": GROUND | {"config"},
    "data": GROUND | {"config", "models", "markup"},
    "bench": GROUND | {"markup", "data"},
    "rewards": GROUND | {"config", "markup", "bench"},
    "mix": GROUND | {"markup", "data", "share"},
    "synth": GROUND | {"models", "markup", "data", "bench", "mix"},
    "weight_sync": GROUND | {"config", "models"},
    "rollout": GROUND | {"config", "models", "data", "weight_sync"},
    "learner": GROUND | {"config", "models", "data", "weight_sync"},
    "share": GROUND,
    "checkpoint": GROUND,
    "export": GROUND | {"config", "models", "data", "checkpoint", "share"},
    "cluster": GROUND | {"config", "models"},
    "preflight": GROUND
    | {"config", "models", "data", "rewards", "weight_sync", "rollout", "cluster", "doctor"},
    "run": GROUND
    | {"config", "models", "data", "checkpoint", "export", "cluster", "learner"}
    | {"preflight", "doctor"},
    "report": GROUND | {"config", "markup", "metric_catalogue", "run"},
    "evaluation": GROUND
    | {"config", "markup", "data", "bench", "rewards", "weight_sync", "rollout", "export", "run"},
    "sft": GROUND
    | {"config", "models", "data", "learner", "checkpoint", "export", "cluster", "rewards"}
    | {"run", "report", "evaluation"},
    "grpo": GROUND
    | {"config", "models", "data", "rewards", "weight_sync", "rollout", "learner", "checkpoint"}
    | {"export", "cluster", "run", "report", "evaluation"},
    "read": GROUND
    | {"config", "models", "markup", "data", "mix", "weight_sync", "rollout", "checkpoint"}
    | {"export", "cluster", "evaluation", "doctor"},
    "init": GROUND | {"config", "data", "models", "cluster", "doctor", "preflight", "read"},
    "doctor": GROUND | {"markup", "rollout", "torchvision_cpu"},
    "quickstart": {"shipped"},
}
NO_TORCH = ["types", "config", "markup", "bench", "mix", "rewards", "data.page", "data.steps"]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(ROOT.rglob("*.py"))
MODULES = {name_of(path): path for path in FILES}


def room(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path, *, deferred: bool) -> set[str]:
    """Modules of olmrl that a file imports; `deferred`: inside functions too."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = ast.walk(tree) if deferred else tree.body
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys()


def outside(path: Path) -> set[str]:
    """Packages that a module imports as it is imported itself."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found


def is_entry(path: Path) -> bool:
    """A room's door, or what it opens: above all rooms."""
    return path.name == "__main__.py" or path.name.endswith("commands.py")


LIBRARY = {m: p for m, p in MODULES.items() if not is_entry(p) and m != "olmrl"}


@pytest.mark.parametrize("module", sorted(LIBRARY))
def test_lower_rooms_never_import_higher_ones(module):
    mine = room(module)
    assert mine in ALLOWED, f"{mine}: give the new room its place in this test"
    found = {room(m) for m in imports(MODULES[module], deferred=True) if m != "olmrl"}
    too_high = found - ALLOWED[mine] - {mine}
    assert not too_high, f"{module} imports {sorted(too_high)}"


def test_the_rooms_stand_in_one_order():
    assert set(ALLOWED) == {room(m) for m in LIBRARY}
    list(TopologicalSorter(ALLOWED).static_order())  # raises CycleError


def test_no_modules_import_each_other_in_a_circle():
    graph = {m: imports(p, deferred=True) - {m} for m, p in LIBRARY.items()}
    list(TopologicalSorter(graph).static_order())


def test_no_import_hides_behind_a_string():
    hidden = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("import_module", "__import__"))
        and any(isinstance(a, ast.Constant) and "olmrl" in str(a.value) for a in node.args)
    ]
    assert hidden == []


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
