"""Every shipped configuration fits on the cluster that its header names, in every size it names."""

import re
from pathlib import Path

import hardware_table
import pytest

from olmrl import cluster
from olmrl.config import GrpoConfig, SftConfig, load

ROOT = Path(__file__).parents[3]
SCHEMAS = {"grpo": GrpoConfig, "sft": SftConfig}
COMMAND = re.compile(r"^#   python -m olmrl\.(\w+) --config (\S+) --dry-run --cluster (\S+)$", re.M)
SIZE = re.compile(r"^#   [\w.-]+ [\d.]+B: +(model\.path=\S+)$", re.M)
"""A line of a header below the command: another size, and what to add for it."""

SIZES = [f"Qwen/Qwen3.5-{size}" for size in ("0.8B", "2B", "4B", "9B")]
SIZES += [f"Qwen/Qwen3-VL-{size}-Instruct" for size in ("2B", "4B", "8B")]
SMALLEST = (SIZES[0], SIZES[4])
"""Of both families; these have one GPU of 24 GB."""


def named(command: str, file: Path) -> list[tuple[str, str, list[str], str]]:
    """Command, file, overrides and cluster, for each size in a header."""
    text = file.read_text("utf-8")
    return [
        (command, str(file.relative_to(ROOT)), overrides, found[3])
        for found in COMMAND.finditer(text)
        for overrides in ([], *([size[1]] for size in SIZE.finditer(text)))
    ]


CASES = [
    case for command in SCHEMAS for file in sorted(ROOT.glob(f"configs/{command}/*.yaml"))
    for case in named(command, file)
]  # fmt: skip


def name_of(case: tuple[str, str, list[str], str]) -> str:
    _, file, overrides, _ = case
    return " ".join([Path(file).stem, *overrides])


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_it_fits_as_its_header_says(case):
    command, file, overrides, spec = case
    config = load(SCHEMAS[command], ROOT / file, overrides)
    resources = cluster.parse_cluster(spec)
    plan = cluster.make_plan(config, resources)
    assert plan.shape is not None, "a model of unknown shape fits anywhere"
    assert cluster.refusal(plan, resources) is None


def test_a_header_names_its_own_command_and_file():
    for file in ROOT.glob("configs/*/*.yaml"):
        for command, path, _ in COMMAND.findall(file.read_text("utf-8")):
            assert ROOT / path == file and command == file.parent.name


@pytest.mark.parametrize("command", SCHEMAS)
@pytest.mark.parametrize("size", SIZES)
def test_every_size_of_the_newer_families_has_a_configuration(command, size):
    places = {
        spec
        for name, file, overrides, spec in CASES
        if name == command and load(SCHEMAS[name], ROOT / file, overrides).model.path == size
    }
    assert any(spec.endswith("-24G" if size in SMALLEST else "-80G") for spec in places), places


def test_the_hardware_table_is_what_the_plans_say():
    assert hardware_table.documented() == hardware_table.table()
