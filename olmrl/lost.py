"""Parts of a Ray cluster that died: which errors say so, and in which words."""

from __future__ import annotations

import re

from ray.exceptions import (
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

LOST = (RayActorError, OutOfMemoryError, WorkerCrashedError, NodeDiedError)
"""What waiting for a process raises if it died. One that Ray killed for its node's memory raises
`OutOfMemoryError`, which is no `RayActorError`."""

_MEMORY = re.compile(r"Memory on the node \(IP: ([^,)]+)[^)]*\) was (\S+) used / (\S+) limit")
_KILLED = re.compile(r"Selected to kill: \(.*?task name=(?:\w+:)?(\w+)")
_NODE_DIED = "node was terminated"
_HINTS = " Some common causes"
_MOST = 300
"""Characters of Ray's text that are told."""


def is_loss(error: BaseException | None) -> bool:
    """Whether a process died, and not by an error of its own constructor."""
    return isinstance(error, LOST) and not getattr(error, "actor_init_failed", False)


def is_of_node(error: BaseException) -> bool:
    """Whether a process died with its node, or for its node's memory, whatever it was doing."""
    return isinstance(error, OutOfMemoryError | NodeDiedError) or _NODE_DIED in str(error)


def is_fault(error: RayError) -> bool:
    """Whether the error is one of our code in another process, and not the loss of that process."""
    if isinstance(error, RayTaskError):
        return not isinstance(error.cause, RayError)
    return isinstance(error, RayActorError) and error.actor_init_failed


def of_ray(error: BaseException) -> bool:
    """Whether Ray lost something, and none of our code is at fault."""
    return isinstance(error, RayError) and not is_fault(error)


def why(error: BaseException | None) -> str:
    """What an error that crossed processes says, in one line."""
    lines = _lines(error)
    if not lines:
        return repr(_origin(error))
    return out_of_memory("\n".join(lines)) or lines[-1].partition(_HINTS)[0][:_MOST]


def part(error: BaseException) -> str:
    """What died: the class of the actor, as Ray's message has it, and the message's first line."""
    lines = _lines(error)
    actor = next((line[12:] for line in lines if line.startswith("class_name: ")), "")
    first = out_of_memory("\n".join(lines)) or (lines or [type(error).__name__])[0].rstrip(".")
    return f"{actor}: {first}" if actor else first


def out_of_memory(text: str) -> str:
    """The sentence for a process that Ray killed for its node's memory; empty for others.

    Args:
        text: of Ray, which lists every process of the node and ends with pages of advice.
    """
    found = _MEMORY.search(text)
    if found is None:
        return ""
    killed = _KILLED.findall(text)
    what = f"{len(killed)} processes" if len(killed) > 1 else "".join(killed) or "a process"
    return (
        f"Ray killed {what}, as {found[2]} of the {found[3]} of memory of node {found[1]} were in "
        "use: it needs more memory, or fewer processes"
    )


def _lines(error: BaseException | None) -> list[str]:
    return [line.strip() for line in str(_origin(error)).splitlines() if line.strip()]


def _origin(error: BaseException | None) -> BaseException | None:
    return getattr(error, "cause", None) or error
