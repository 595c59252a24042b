"""Supervised fine-tuning on pairs of page and markdown.

%(prog)s --config configs/sft/tiny_cpu.yaml run.dir=runs/warmup
ray job submit --working-dir . -- %(prog)s --config configs/sft/tiny_cpu.yaml
"""

from __future__ import annotations

import sys

from olmrl.cluster import Plan, plan_sft
from olmrl.config import SftConfig
from olmrl.run.command import run_command, run_parser
from olmrl.run.directory import RunDirectory


def main(argv: list[str] | None = None, prog: str = "python -m olmrl.sft") -> int:
    """Command line entry; returns the exit code."""
    arguments = run_parser(prog, str(__doc__)).parse_intermixed_args(argv)
    return run_command(
        prog,
        SftConfig,
        arguments,
        planner=plan_sft,
        start=_start,
        describe_data=_describe_data,
    )


# Deferred: a misspelt key need not wait for torch, Ray and a model's code, ten seconds of CPU.


def _start(config: SftConfig, plan: Plan, directory: RunDirectory) -> int:
    from olmrl.run.session import run_session
    from olmrl.sft.training import run

    return run_session(config, plan, directory, run)


def _describe_data(config: SftConfig) -> str:
    from olmrl.sft.forecast import describe_data

    return describe_data(config)


if __name__ == "__main__":
    sys.exit(main())
