"""GRPO with unit-test rewards: the front door of olmrl.

%(prog)s --config configs/grpo/tiny_cpu.yaml rollout.group_size=8
ray job submit --working-dir . -- %(prog)s --config configs/grpo/tiny_cpu.yaml
%(prog)s --replay RUN --step N      one learner step again, without engines
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from olmrl.arguments import whole
from olmrl.cluster import Plan, plan_grpo
from olmrl.config import GrpoConfig
from olmrl.door import behind_door
from olmrl.run.command import run_command, run_parser
from olmrl.run.directory import RunDirectory


def main(argv: list[str] | None = None, prog: str = "python -m olmrl.grpo") -> int:
    """Command line entry; returns the exit code."""
    parser = _parser(prog)
    arguments = parser.parse_intermixed_args(argv)
    if arguments.replay is None and arguments.step is None:
        return run_command(prog, GrpoConfig, arguments, planner=plan_grpo, start=_start)
    if arguments.replay is None or arguments.step is None:
        parser.error("--replay and --step go together")
    if arguments.config or arguments.overrides:
        parser.error("--replay takes the configuration of its run, not --config or key=value")
    return behind_door(prog, lambda: _replay(arguments.replay, arguments.step))


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = run_parser(prog, str(__doc__))
    again = parser.add_argument_group(
        "one learner step again, without engines",
        "From the batches that a stopped step (NaN or infinity) or guards.save_batch_every left in "
        "RUN/replay/. Writes nothing.",
    )
    again.add_argument("--replay", metavar="RUN", type=Path, help="run directory")
    again.add_argument("--step", metavar="N", type=whole(0), help="number of steps before it")
    return parser


# Deferred: a misspelt key need not wait for torch, Ray and a model's code, ten seconds of CPU.


def _start(config: GrpoConfig, plan: Plan, directory: RunDirectory) -> int:
    from olmrl.grpo.training import run
    from olmrl.run.session import run_session

    return run_session(config, plan, directory, run)


def _replay(run: Path, step: int) -> None:
    if not RunDirectory(run).started:
        raise ValueError(f"{run}: not a run directory (no config.yaml)")
    from olmrl.grpo.replay import rerun

    for name, value in rerun(run, step).items():
        print(f"{name:<40} {value:.6g}")


if __name__ == "__main__":
    sys.exit(main())
