"""Configuration to resource plan, and the connection to Ray.

plan = plan_grpo(config); check(plan, parse_cluster("2x8xH100-80G")); print(describe(plan))
connect(address, cpus, plan, dashboard)
"""

from olmrl.cluster.connect import connect, start_ray, worker_environment
from olmrl.cluster.memory import engine_memory, learner_memory
from olmrl.cluster.plan import Plan, Role, check, describe, plan_grpo, plan_sft
from olmrl.cluster.resources import PlanError, Resources, parse_cluster
from olmrl.cluster.shape import PUBLISHED_SHAPES, ModelShape, model_shape

__all__ = [
    "PUBLISHED_SHAPES",
    "ModelShape",
    "Plan",
    "PlanError",
    "Resources",
    "Role",
    "check",
    "connect",
    "describe",
    "engine_memory",
    "learner_memory",
    "model_shape",
    "parse_cluster",
    "plan_grpo",
    "plan_sft",
    "start_ray",
    "worker_environment",
]
