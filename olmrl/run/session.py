"""A run in its Ray cluster: connect, handle signals, run, say how it was stopped."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from ray.exceptions import RayError

from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.cluster.connect import connect
from olmrl.cluster.gpu_look import check_gpus
from olmrl.cluster.plan import Plan
from olmrl.cluster.remarks import divert_remarks, hush
from olmrl.config import GrpoConfig, SftConfig
from olmrl.errors import RunStopped
from olmrl.lost import of_ray, part
from olmrl.run.console import Console
from olmrl.run.directory import RunDirectory
from olmrl.run.stop import StopRequest

ConfigType = TypeVar("ConfigType", GrpoConfig, SftConfig)


def run_session(
    config: ConfigType,
    plan: Plan,
    directory: RunDirectory,
    runner: Callable[[ConfigType, RunDirectory, Console], None],
) -> int:
    """Run in the cluster that the configuration names.

    Args:
        config: configuration of the run.
        plan: what it starts.
        directory: its prepared directory.
        runner: does the run.

    Returns:
        Exit code: 0, or what a shell expects of a process ended by a signal.

    Raises:
        PlanError: the cluster cannot hold the plan, or a GPU cannot be used as planned.
        RunStopped: a process or node died that the run cannot replace.
    """
    stop = StopRequest(config.checkpoint.grace_s)
    console = Console(directory, stop)
    address = config.cluster.address or os.environ.get("RAY_ADDRESS")
    console.say(f"joining Ray at {address}" if address else "starting Ray on this machine")
    divert_remarks(directory.path / "logs" / "ray.log", console.say)
    stop.install()
    try:
        connect(
            config.cluster.address,
            config.cluster.local_cpus,
            plan,
            # Ray's dashboard writes the list of nodes that Prometheus reads
            config.cluster.dashboard or config.logging.prometheus,
            config.cluster.wait_s,
            console.say,
        )
        stop.install()
        stop.watch_node()
        check_gpus(plan, console.say, config.cluster.wait_s)
        runner(config, directory, console)
    except RayError as error:
        if not of_ray(error):
            raise
        raise RunStopped(
            f"Ray lost a part of the run ({part(error)}); --resume auto continues from "
            "the newest complete checkpoint"
        ) from error
    except (KeyboardInterrupt, SystemExit) as error:
        raise stop.meaning(error) from None
    finally:
        stop.ended()
        console.close()
        hush()
    if not stop.requested():
        return 0
    newest = CheckpointFolder(directory.checkpoints).newest()
    step = f"step {newest.step}" if newest else "no step"
    console.say(f"saved {step}; --resume auto continues the run")
    return stop.exit_code
