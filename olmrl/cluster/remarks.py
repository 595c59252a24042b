"""Ray's own remarks go to a file of the run; the console says once where they are.

Warnings of its node ("8 PYTHON worker processes have been started ...") alarm people and ask for
nothing. Errors that matter to a run reach it as exceptions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray._private.worker as ray_worker


def divert_remarks(file: Path, say: Callable[[str], None]) -> None:
    """Write what Ray would print in this process to a file.

    With `log_to_driver=False` these are the remarks of its nodes and its autoscaler only (ray 2.60:
    `listen_error_messages` prints them through this function of the module, and has no setting).

    Args:
        file: where they go; its folder exists once there is a remark.
        say: told once where they are.
    """

    def keep(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
        first = not file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.writelines(f"{data['pid']}: {str(line).rstrip()}\n" for line in data["lines"])
        if first:
            say(f"Ray's own remarks: {file}")

    ray_worker.print_to_stdstream = keep


def session_file() -> Path:
    """Where the remarks of a command without a run directory go: beside Ray's own logs."""
    node: Any = ray_worker.global_worker.node
    return Path(node.get_logs_dir_path()) / "remarks.log"


def hush() -> None:
    """Silence threads of Ray Data that outlive a run: they can only tell that Ray has gone.

    Streams end with their run, but nobody waits longer for their threads than
    `data.streams.CLOSING_S`.
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
