"""The Ray node that this process has started: whether it lives (Linux)."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_NODE = ("gcs_server", "raylet")
"""Processes without which a Ray node is lost."""
_LOOK_S = 0.5


def watch_node(over: threading.Event, died: Callable[[], None]) -> None:
    """Call `died`, in a thread, if the node dies before `over` is set.

    Nothing is watched where this process has started no node.
    """
    node = _children_named(_NODE)
    if node:
        watch = threading.Thread(target=_watch, args=(node, over, died), name="node", daemon=True)
        watch.start()


@contextmanager
def dying_with_node(advice: str) -> Iterator[None]:
    """End this process, with a sentence, if the node dies inside.

    Ray itself waits a minute, and then aborts the process with a stack trace.

    Args:
        advice: what to do then.
    """
    over = threading.Event()

    def died() -> None:
        sys.stderr.write(f"the Ray node of this command has died; {advice}\n")
        sys.stderr.flush()
        os._exit(1)  # the main thread waits for a Ray that is not there

    watch_node(over, died)
    try:
        yield
    finally:
        over.set()


def _watch(node: Sequence[int], over: threading.Event, died: Callable[[], None]) -> None:
    while not over.wait(_LOOK_S):
        if not all(map(_is_alive, node)):
            died()
            return


def _is_alive(process: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _children_named(names: tuple[str, ...]) -> list[int]:
    """Ids of this process's living children of these names (Linux; elsewhere none are found)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text("utf-8", "replace").rpartition(")")
        except OSError:  # it has ended meanwhile
            continue
        state, parent = rest.split()[:2]
        if int(parent) == os.getpid() and state != "Z" and head.partition("(")[2] in names:
            found.append(int(stat.parent.name))
    return found
