"""From configuration to resource plan and simulated speed; nothing imported here needs Ray.

plan = plan_grpo(config)                    what a run starts, and what each process holds
describe(plan, parse_cluster(text))         placement, memory, step time, a better split
refusal(plan, resources)                    why it does not fit, and which keys to change
operations(path)                            what pages cost the learner, to balance its ranks

`connect` (join or start Ray) and `reserve` (the engines' placement group) need Ray and are imported
by name.
"""

from olmrl.cluster.describe import describe, refusal
from olmrl.cluster.plan import Plan, Role, check, make_plan, plan_grpo, plan_sft
from olmrl.cluster.resources import Node, PlanError, Resources, parse_cluster
from olmrl.cluster.shape import model_shape, operations

__all__ = [
    "Node",
    "Plan",
    "PlanError",
    "Resources",
    "Role",
    "check",
    "describe",
    "make_plan",
    "model_shape",
    "operations",
    "parse_cluster",
    "plan_grpo",
    "plan_sft",
    "refusal",
]
