"""Configuration to resource plan, simulated speed, and the connection to Ray.

plan = plan_grpo(config)                    what a run starts, and what each process holds
describe(plan, parse_cluster(text))         placement, memory, step time, a better split
refusal(plan, resources)                    why it does not fit, and which keys to change
connect(address, cpus, plan, dashboard)     join or start Ray, refusing what does not fit
reserve_engines(config)                     the engines' placement group
beside_driver()                             options for actors on the Driver's node
operations(path)                            what pages cost the learner, to balance its ranks
"""

from olmrl.cluster.connect import beside_driver, connect, start_ray, worker_environment
from olmrl.cluster.describe import describe, refusal
from olmrl.cluster.plan import Plan, Role, check, make_plan, plan_grpo, plan_sft
from olmrl.cluster.reserve import EngineSeats, reserve_engines
from olmrl.cluster.resources import Node, PlanError, Resources, parse_cluster
from olmrl.cluster.shape import model_shape, operations

__all__ = [
    "EngineSeats",
    "Node",
    "Plan",
    "PlanError",
    "Resources",
    "Role",
    "beside_driver",
    "check",
    "connect",
    "describe",
    "make_plan",
    "model_shape",
    "operations",
    "parse_cluster",
    "plan_grpo",
    "plan_sft",
    "refusal",
    "reserve_engines",
    "start_ray",
    "worker_environment",
]
