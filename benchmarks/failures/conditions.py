"""What a run stands on: a disk that fills up or stalls, a clock that jumps, a small /dev/shm.

None of them touches the machine's own: disks are a tmpfs and a loop device, the clock is a
preloaded library, and /dev/shm one of a mount namespace. What this machine does not allow is left
out and said.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .running import Node

_HERE = Path(__file__).parent
_DISK_MIB = 200
"""A tiny run takes 60 MiB."""
_SHM_MIB = 64
_SLOW = 200_000
"""Bytes per second of a slow disk: a checkpoint takes a quarter of a minute."""
_THROTTLE = Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")
_MIB = 1 << 20


class Condition:
    """Nothing special; the base of the others."""

    name = "plain"
    own_node = False
    """Whether the run starts a Ray node and joins none."""

    def __init__(self, folder: Path) -> None:
        """Prepare; `folder` is the run's own, beside its directory."""

    environment: Mapping[str, str] = {}
    wrapper: Sequence[str] = ()
    node: Node | None = None
    """What the run joins; None: the node that is offered."""

    def overrides(self, trainer: str) -> list[str]:
        """More of the configuration."""
        return []

    def strike(self, rng: random.Random) -> None:
        """Do the harm."""

    def heal(self) -> None:
        """Undo it."""

    def tend(self) -> None:
        """Replace what the harm has cost, as whoever runs the machines would."""

    def close(self) -> None:
        """Undo the harm for good; the run may go on in a later call."""
        self.heal()

    def remove(self) -> None:
        """Remove what was prepared, the run directory with it."""


class OwnNode(Condition):
    """The run starts its Ray node, which may be killed."""

    name = "own node"
    own_node = True


class SmallDisk(Condition):
    """The run directory is on a disk of its own, which something else fills."""

    name = "disk"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(folder):
            run("mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", folder)

    def strike(self, rng: random.Random) -> None:
        with open(self._folder / "filler", "wb", buffering=0) as stream:
            for size in (_MIB, 4096, 1):
                with contextlib.suppress(OSError):
                    while stream.write(bytes(size)) == size:
                        pass

    def heal(self) -> None:
        (self._folder / "filler").unlink(missing_ok=True)

    def remove(self) -> None:
        unmount(self._folder)


class SlowDisk(Condition):
    """The run directory is on a file system of its own, which stalls or crawls.

    It is stalled by fsfreeze, and slowed by the throttle of its loop device (cgroup v1, blkio).
    """

    name = "slow disk"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._image = folder.with_suffix(".img")
        if not os.path.ismount(folder):
            with self._image.open("wb") as stream:
                stream.truncate(2 * _DISK_MIB * _MIB)
            run("mkfs.ext4", "-q", "-O", "^has_journal", self._image)
            run("mount", "-o", "loop", self._image, folder)
        number = os.stat(folder).st_dev
        self._device = f"{os.major(number)}:{os.minor(number)}"
        self.heal()

    def strike(self, rng: random.Random) -> None:
        if rng.random() < 0.5:
            run("fsfreeze", "--freeze", self._folder)
        else:
            _THROTTLE.write_text(f"{self._device} {_SLOW}")

    def heal(self) -> None:
        # thawing what is not frozen is an error
        run("fsfreeze", "--unfreeze", self._folder, check=False)
        _THROTTLE.write_text(f"{self._device} 0")

    def remove(self) -> None:
        unmount(self._folder)
        self._image.unlink()


class JumpingClock(Condition):
    """The wall clock jumps by up to two hours, forwards or back, in all of the run's processes."""

    name = "clock"
    own_node = True

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
    own_node = True
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


class StaleSession(Condition):
    """Ray's folder tells of a session that has ended, as after a crash of the machine."""

    name = "stale session"
    own_node = True

    def __init__(self, folder: Path) -> None:
        # short: the path of a Unix socket has 107 bytes at most
        self._folder = Path(tempfile.gettempdir()) / f"stale-{zlib.crc32(bytes(folder)):08x}"
        ray = self._folder / "ray"
        session = ray / "session_2020-01-01_00-00-00_000000_1"
        (session / "sockets").mkdir(parents=True, exist_ok=True)
        for name in ("raylet", "plasma_store"):
            (session / "sockets" / name).touch()
        (session / "ports_by_node.json").write_text("{}")
        (ray / "ray_current_cluster").write_text("127.0.0.1:6379")
        if not (ray / "session_latest").is_symlink():
            (ray / "session_latest").symlink_to(session)
        self.environment = {"RAY_TMPDIR": str(self._folder)}

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def possible(kind: type[Condition]) -> str:
    """Why this machine cannot have a condition; empty if it can."""
    tried: dict[type[Condition], Callable[[], str]] = {
        SmallDisk: _try_disk,
        SlowDisk: _try_slow_disk,
        SmallShm: _try_namespace,
        JumpingClock: lambda: "" if shutil.which("cc") else "no C compiler here",
    }
    return tried[kind]() if kind in tried else ""


def _try_disk() -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if run("mount", "-t", "tmpfs", "tmpfs", folder, check=False):
            return "mounting is not allowed here"
        unmount(folder)
    return ""


def _try_slow_disk() -> str:
    if not _THROTTLE.exists():
        return f"no {_THROTTLE}"
    with tempfile.TemporaryDirectory() as name:
        try:
            disk = SlowDisk(Path(name) / "place")
            run("fsfreeze", "--freeze", Path(name) / "place")
            disk.heal()
            disk.remove()
        except (OSError, subprocess.CalledProcessError) as error:
            return f"no loop device or freezing here ({error})"
    return ""


def _try_namespace() -> str:
    return "no mount namespaces here" if run(*SmallShm.wrapper, "true", check=False) else ""


def run(*command: str | Path, check: bool = True) -> int:
    """Run a command in silence; returns its exit code."""
    return subprocess.run(command, capture_output=True, check=check).returncode


def unmount(folder: Path) -> None:
    """Unmount a folder, at once or when its last file is closed."""
    run("umount", "--lazy", folder)
