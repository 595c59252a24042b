"""The table of docs/hardware.md, from the plans of shipped configurations and of variants of them.

python tests/support/hardware_table.py      writes it anew
"""

from __future__ import annotations

from pathlib import Path

from olmrl import cluster
from olmrl.cluster.memory import total
from olmrl.cluster.plan import ENGINE, LEARNER, Plan
from olmrl.config import GrpoConfig, SftConfig, load
from olmrl.hardware import GIB

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "hardware.md"
BEGIN, END = "<!-- hardware: begin -->", "<!-- hardware: end -->"
SCHEMAS = {"grpo": GrpoConfig, "sft": SftConfig}
SEVEN = "model.path=Qwen/Qwen2.5-VL-7B-Instruct"
MIX = "sft/qwen25_vl_7b_mix1025.yaml"
RL = "grpo/qwen25_vl_7b_synthmix1025.yaml"

ROWS = [
    (MIX, "1x8xH100-80G", []),
    (MIX, "1x4xH100-80G", ["learner.workers=4"]),
    (MIX, "1x2xB200-180G", ["learner.workers=2"]),
    (MIX, "1x1xH100-80G", ["learner.workers=1", "learner.cpu_offload=true"]),
    ("sft/finetune_olmocr.yaml", "1x4xH100-80G", []),
    ("sft/one_gpu_lora.yaml", "1x1xL40S-48G", []),
    ("sft/one_gpu_small_data.yaml", "1x1x4090-24G", []),
    ("sft/one_gpu_small_data.yaml", "1x1x4090-24G", ["model.path=Qwen/Qwen3-VL-2B-Instruct"]),
    ("sft/qwen3_8gpus.yaml", "1x8xH100-80G", []),
    (RL, "1x8xH100-80G", []),
    (RL, "1x8xH100-80G", ["learner.reference_offload=true"]),
    ("grpo/qwen25_vl_7b_2nodes.yaml", "2x8xH100-80G", []),
    ("grpo/qwen25_vl_3b_1gpu_colocated.yaml", "1x1xH100-80G", []),
    ("grpo/qwen3_1gpu_24gb_colocated.yaml", "1x1xL4-24G", []),
    ("grpo/qwen3_8gpus.yaml", "1x8xH100-80G", []),
    ("grpo/qwen3_distil_8gpus.yaml", "1x8xH100-80G", []),
]
"""Configuration, cluster, overrides."""


def row(file: str, spec: str, overrides: list[str]) -> str:
    """One run: what it needs, and whether it fits."""
    config = load(SCHEMAS[file.split("/")[0]], f"configs/{file}", overrides)
    resources = cluster.parse_cluster(spec)
    plan = cluster.make_plan(config, resources)
    verdict = "fits" if cluster.refusal(plan, resources) is None else "does not fit"
    assert plan.shape is not None
    cells = [
        f"`{file}`" + "".join(f" `{text}`" for text in overrides),
        f"{plan.shape.parameters / 1e9:.1f}",
        spec,
        _learner(plan),
        _engine(plan),
        f"{_role(plan, LEARNER).host_bytes / GIB:.0f}",
        verdict,
    ]
    return "| " + " | ".join(cells) + " |"


def _role(plan: Plan, name: str) -> cluster.Role:
    return next(role for role in plan.roles if role.name == name)


def _learner(plan: Plan) -> str:
    role = _role(plan, LEARNER)
    return f"{role.count} x {role.peak / GIB:.0f}"


def _engine(plan: Plan) -> str:
    if not isinstance(plan.config, GrpoConfig):
        return ""
    role = _role(plan, ENGINE)
    cache = role.memory["KV cache"]
    return f"{role.count} x {(total(role.memory) - cache) / GIB:.0f} + {cache / GIB:.0f}"


def table() -> str:
    """The whole table, marks aside."""
    head = [
        "| configuration, and what is changed | 10^9 parameters | cluster "
        "| learner ranks x GiB of GPU | engines x GiB of GPU + KV cache | GiB of host a rank | |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(row(*each) for each in ROWS)])


def documented() -> str:
    """The table as it stands in the documentation."""
    return PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    """Write the table anew."""
    head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
