"""Two Ray nodes, one of them in a network namespace, and a link between them that can be cut."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import psutil

from .conditions import Condition, run
from .running import HEAD, Node, descendants, python_path

_RAY = str(Path(sys.executable).with_name("ray"))
_START_S = 120.0
_TRIES = 3
_STARTED = b"Ray runtime started"
"""What `ray start` says of a node that runs."""
_HEALTH = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "5",
}
"""A node counts as lost after some 10 s: by Ray's defaults it would take up to a minute."""


class TwoNodes(Condition):
    """Engines, or the learner of SFT, are on a Ray node behind a link that is cut.

    A cut loses packets without a word, as a switch that fails: both ends keep their addresses.
    Afterwards the far node is started anew if Ray has given it up.
    """

    name = "two nodes"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder.parent / "nodes.log"
        number = zlib.crc32(bytes(folder)) % 250 + 1
        self._space, self._bridge = f"oc{number}", f"ocb{number}"
        self._port, self._far_port = f"ocp{number}", f"ocf{number}"
        self._net = f"10.199.{number}"
        self._started: list[subprocess.Popen[bytes]] = []
        self._take_down()
        try:
            self._start_nodes()
        except BaseException:
            self.close()
            raise

    def _start_nodes(self) -> None:
        self._wire()
        port, client = (free_port(f"{self._net}.1") for _ in range(2))
        self._address = f"{self._net}.1:{port}"
        ports = (f"--port={port}", f"--ray-client-server-port={client}")
        head = self._start_head(*ports)
        self._far = self._start_far()
        self._processes = [head.pid, self._far.pid]
        self.node = Node(self._address, self._processes)

    def overrides(self, trainer: str) -> list[str]:
        role = "learner" if trainer == "sft" else "rollout"
        return [f"{role}.resources={{far: 0.25}}", "cluster.wait_s=120"]

    def strike(self, rng: random.Random) -> None:
        run("ip", "link", "set", self._port, "down")

    def heal(self) -> None:
        run("ip", "link", "set", self._port, "up")

    def tend(self) -> None:
        # a node that Ray has given up ends when it hears of it
        if self._far.poll() is not None:
            end(self._far)
            self._far = self._start_far()
            self._processes.append(self._far.pid)

    def close(self) -> None:
        for process in reversed(self._started):
            end(process)
        self._take_down()

    def _wire(self) -> None:
        """The bridge has the near address, so that it stays when the port goes down."""
        run("ip", "netns", "add", self._space)
        run("ip", "link", "add", self._bridge, "type", "bridge")
        run("ip", "addr", "add", f"{self._net}.1/24", "dev", self._bridge)
        run("ip", "link", "add", self._port, "type", "veth", "peer", "name", self._far_port)
        run("ip", "link", "set", self._port, "master", self._bridge, "up")
        run("ip", "link", "set", self._bridge, "up")
        run("ip", "link", "set", self._far_port, "netns", self._space)
        inside = ("ip", "netns", "exec", self._space, "ip")
        run(*inside, "addr", "add", f"{self._net}.2/24", "dev", self._far_port)
        for name in ("lo", self._far_port):
            run(*inside, "link", "set", name, "up")

    def _take_down(self) -> None:
        """Also what a call that was killed has left behind."""
        for kind, name in (("link", self._port), ("link", self._bridge), ("netns", self._space)):
            run("ip", kind, "del", name, check=False)

    def _start_head(self, *ports: str) -> subprocess.Popen[bytes]:
        """On a busy machine Ray gives up after half a minute, its port open until then.

        Raises:
            TimeoutError: several starts failed.
        """
        for _ in range(_TRIES):
            known = self._log.stat().st_size if self._log.exists() else 0
            head = self._start("1", "--head", *ports, "--num-cpus=6", "--include-dashboard=false")
            deadline = time.monotonic() + _START_S
            while head.poll() is None and time.monotonic() < deadline:
                if _STARTED in self._log.read_bytes()[known:]:
                    return head
                time.sleep(0.5)
            end(head)
        raise TimeoutError(f"no Ray at {self._address}: {self._log} says why")

    def _start_far(self) -> subprocess.Popen[bytes]:
        far = (f"--address={self._address}", "--num-cpus=3", '--resources={"far": 1}')
        return self._start("2", *far, within=("ip", "netns", "exec", self._space))

    def _start(
        self, host: str, *options: str, within: tuple[str, ...] = ()
    ) -> subprocess.Popen[bytes]:
        address = (f"--node-ip-address={self._net}.{host}", "--block", "--disable-usage-stats")
        # beside the default range, which other clusters of this machine use
        ports = ("--min-worker-port=20000", "--max-worker-port=29999")
        memory = f"--object-store-memory={256 << 20}"
        environment = {**os.environ, **HEAD, **_HEALTH, "PYTHONPATH": python_path()}
        with self._log.open("ab") as stream:
            process = subprocess.Popen(
                [*within, _RAY, "start", *address, *ports, memory, *options],
                env=environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process


def possible() -> str:
    """Why no network can be cut here; empty if it can."""
    name = f"oct{os.getpid()}"
    if run("ip", "netns", "add", name, check=False):
        return "no network namespaces here"
    run("ip", "netns", "del", name)
    bridged = run("ip", "link", "add", name, "type", "bridge", check=False) == 0
    run("ip", "link", "del", name, check=False)
    return "" if bridged else "no bridges between network namespaces here"


def free_port(host: str) -> int:
    """A port of an address that nothing listens at."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all that it has started."""
    for one in reversed(descendants(process.pid)):
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
