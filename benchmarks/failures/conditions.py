"""What a run stands on: a small disk that fills up, a clock that jumps, a small /dev/shm.

None of them touches the machine's own: the disk is a tmpfs, the clock a preloaded library, and
/dev/shm one of a mount namespace. What this machine does not allow is left out and said.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_DISK_MIB = 200
"""A tiny run takes 60 MiB."""
_SHM_MIB = 64
_MIB = 1 << 20


class Condition:
    """Nothing special; the base of the others."""

    name = "plain"

    def __init__(self, folder: Path) -> None:
        """Prepare; `folder` is the run's own, beside its directory."""

    environment: Mapping[str, str] = {}
    wrapper: Sequence[str] = ()

    def strike(self, rng: random.Random) -> None:
        """Do the harm."""

    def heal(self) -> None:
        """Undo it."""

    def close(self) -> None:
        """Release what was prepared."""


class SmallDisk(Condition):
    """The run directory is on a disk of its own, which something else fills."""

    name = "disk"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(folder):
            size = f"size={_DISK_MIB}m"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True)

    def strike(self, rng: random.Random) -> None:
        with open(self._folder / "filler", "wb", buffering=0) as stream:
            for size in (_MIB, 4096, 1):
                with contextlib.suppress(OSError):
                    while stream.write(bytes(size)) == size:
                        pass

    def heal(self) -> None:
        (self._folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        self.heal()


class JumpingClock(Condition):
    """The wall clock jumps by up to two hours, forwards or back."""

    name = "clock"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "clock"
        if not self._file.exists():
            self._file.write_bytes(struct.pack("q", 0))
        library = folder / "clock.so"
        flags = ["-shared", "-fPIC", "-O1", "-o", library]
        subprocess.run(["cc", *flags, _HERE / "clock.c", "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._file)}

    def strike(self, rng: random.Random) -> None:
        with self._file.open("r+b") as stream:  # in place: it is mapped
            stream.write(struct.pack("q", rng.choice([-1, 1]) * rng.randint(60, 7200)))


class SmallShm(Condition):
    """Ray finds a /dev/shm of 64 MiB, as in a container of default settings."""

    name = "shm"
    _mount = f'mount -t tmpfs -o size={_SHM_MIB}m tmpfs /dev/shm && exec "$@"'
    wrapper = ("unshare", "--mount", "sh", "-c", _mount, "sh")


class FullStore(Condition):
    """Another job of the Ray node holds nearly all of its object store."""

    name = "memory"

    def __init__(self, folder: Path) -> None:
        self._held: list[Any] = []

    def strike(self, rng: random.Random) -> None:
        # Deferred: only a process that has joined Ray has them.
        import numpy as np
        import ray

        room = int(ray.cluster_resources()["object_store_memory"])
        block = 16 * _MIB
        self._held = [ray.put(np.zeros(block, np.uint8)) for _ in range(room // block)]

    def heal(self) -> None:
        self._held = []


JOINED: tuple[type[Condition], ...] = (Condition, SmallDisk, FullStore, JumpingClock)
OWN: tuple[type[Condition], ...] = (Condition, SmallShm)
"""For runs that join a Ray node, and for those that start one."""


def possible(kind: type[Condition]) -> str:
    """Why this machine cannot have a condition; empty if it can."""
    if kind is SmallDisk:
        return _try_mount(["mount", "-t", "tmpfs", "tmpfs"], ["umount"])
    if kind is SmallShm:
        tried = subprocess.run([*SmallShm.wrapper, "true"], capture_output=True, check=False)
        return "" if tried.returncode == 0 else "no mount namespaces here"
    if kind is JumpingClock and shutil.which("cc") is None:
        return "no C compiler here"
    return ""


def _try_mount(mount: Sequence[str], umount: Sequence[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run([*mount, folder], capture_output=True, check=False)
        if tried.returncode:
            return "mounting is not allowed here"
        subprocess.run([*umount, folder], check=True)
    return ""
