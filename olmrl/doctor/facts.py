"""What a machine and its Python installation are: gathered here, judged in `checks`."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from olmrl.markup.browser import find_chromium
from olmrl.rollout.environment import check_vllm

_QUERY = "name,memory.total,memory.used,driver_version,mig.mode.current,compute_cap"
_SMI_TIMEOUT_S = 10.0
_ELSEWHERE = ("192.0.2.1", 9)
"""An address of RFC 5737 that belongs to nobody; connecting a UDP socket to it sends nothing."""
KEYS = {
    "HF_TOKEN": "private models and data sets of the Hub; push",
    "WANDB_API_KEY": "logging.wandb=online",
    "OPENAI_API_KEY": "mix openai-run and clean",
    "AWS_ACCESS_KEY_ID": "s3:// paths",
    "GOOGLE_APPLICATION_CREDENTIALS": "gs:// paths",
}
"""Environment variables with secrets, and what needs them."""
PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class GpuFact:
    """One GPU as nvidia-smi describes it."""

    name: str
    memory_mib: float
    used_mib: float
    driver: str
    mig: bool
    """Cut into slices (multi-instance GPU)."""
    capability: tuple[int, int]
    """Compute capability."""


@dataclass(frozen=True, slots=True)
class DiskFact:
    """Room in a folder."""

    role: str
    """What is written there."""
    path: str
    free: int
    """Bytes."""
    total: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is judged."""

    python: tuple[int, int, int]
    requirements: tuple[str, ...] | None
    """What olmrl's installation asks for; None: it is not installed."""
    versions: Mapping[str, str]
    """Version of each package that is installed, by its name in lower case."""
    vllm_problem: str
    """Why vLLM cannot be used; empty if it can."""
    gpus: tuple[GpuFact, ...] = ()
    gpu_problem: str = ""
    """What nvidia-smi said instead of an answer."""
    torch_cuda: str | None = None
    """CUDA version that torch was built for; None: a CPU build, or no torch."""
    visible_devices: str | None = None
    """CUDA_VISIBLE_DEVICES, if it is set."""
    shared_memory: tuple[int, int] | None = None
    """Free and total bytes of /dev/shm; None: there is no such thing (macOS)."""
    browser: str = ""
    """Path of Chromium, or the folder of playwright's."""
    keys: frozenset[str] = frozenset()
    """Those of `KEYS` that are set, in the environment or by a login."""
    address: str = ""
    """This machine's address towards others; empty: it has none."""
    host: str = ""
    host_address: str = ""
    """What the host name stands for; empty: nothing."""
    proxies: frozenset[str] = frozenset()
    """Those of `PROXIES` that are set."""
    no_proxy: str = ""
    disks: tuple[DiskFact, ...] = ()
    memory: int = 0
    """Bytes that this process may use: of the machine or of its control group."""
    cpu: str = ""
    cpu_flags: frozenset[str] = frozenset()
    cores: int = 1
    """Logical CPUs of the machine."""
    usable_cores: float = 1.0
    """Those that this process may use."""
    open_files: int = 0
    """Limit on open files of a process."""
    uncompiled: str = ""
    """Folder of packages that Python compiles again in every process; empty: it does not."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of the network settings that are set: NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME."""


def gather(folder: str = ".") -> Facts:
    """Look at this machine.

    Args:
        folder: where runs will be written.
    """
    gpus, gpu_problem = _gpus()
    cpu, flags = parse_cpuinfo(_read("/proc/cpuinfo"))
    host = socket.gethostname()
    set_proxies = {name for name in PROXIES if _either_case(name)}
    return Facts(
        python=sys.version_info[:3],
        requirements=_requirements(),
        versions=_versions(),
        vllm_problem=_vllm_problem(),
        gpus=gpus,
        gpu_problem=gpu_problem,
        torch_cuda=_torch_cuda(),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        shared_memory=_shared_memory(),
        browser=_browser(),
        keys=frozenset(name for name in KEYS if _has_key(name)),
        address=_address(),
        host=host,
        host_address=_resolve(host),
        proxies=frozenset(set_proxies),
        no_proxy=_either_case("no_proxy"),
        disks=_disks(folder),
        memory=_memory(),
        cpu=cpu or platform.processor() or platform.machine(),
        cpu_flags=flags,
        cores=os.cpu_count() or 1,
        usable_cores=_usable_cores(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        uncompiled=_uncompiled(),
        environment={
            name: os.environ[name]
            for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")
            if name in os.environ
        },
    )


def parse_gpus(text: str) -> tuple[GpuFact, ...]:
    """The GPUs in nvidia-smi's CSV answer to `_QUERY`, without header and units.

    Raises:
        ValueError: it is not such an answer.
    """
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 6:
            raise ValueError(line)
        name, total, used, driver, mig, capability = cells
        major, _, minor = capability.partition(".")
        found.append(
            GpuFact(
                name,
                _number(total),
                _number(used),
                driver,
                mig == "Enabled",
                (int(major), int(minor)),
            )
        )
    return tuple(found)


def _number(cell: str) -> float:
    """A figure; 0 for `[N/A]`, which GPUs with shared memory answer."""
    return 0.0 if cell.startswith("[") else float(cell)


def usable_gpus() -> int:
    """How many of this machine's GPUs a program may use, by nvidia-smi and CUDA_VISIBLE_DEVICES."""
    gpus, _ = _gpus()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return len(gpus)
    return min(len(gpus), sum(name.strip() not in ("", "-1") for name in chosen.split(",")))


def _gpus() -> tuple[tuple[GpuFact, ...], str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return (), ""
    command = [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SMI_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), str(error)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        return (), said[0] if said else f"exit code {done.returncode}"
    try:
        return parse_gpus(done.stdout), ""
    except ValueError as error:
        return (), f"an answer that cannot be read: {error}"


def parse_cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """Name and feature flags of the first CPU in /proc/cpuinfo; empty where it does not say."""
    fields = dict(re.findall(r"^([^\n:\t]+?)\s*:[ \t]*(.*)$", text, re.M)[::-1])
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name", ""), frozenset(flags.split())


def _requirements() -> tuple[str, ...] | None:
    try:
        return tuple(metadata.requires("olmrl") or ())
    except metadata.PackageNotFoundError:
        return None


def _versions() -> dict[str, str]:
    return {
        re.sub(r"[-_.]+", "-", found.name).lower(): found.version
        for found in metadata.distributions()
        if found.name
    }


def _vllm_problem() -> str:
    try:
        check_vllm()
    except ValueError as error:
        return str(error).removeprefix("rollout.engine: ")
    return ""


def _torch_cuda() -> str | None:
    """Read from torch's version file: importing torch would take seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = _read(str(Path(spec.origin).with_name("version.py")))
    found = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", text, re.M)
    return found[1] if found else None


def _uncompiled() -> str:
    """Of Ray's, which every process imports: where there is no bytecode, and none is written."""
    spec = importlib.util.find_spec("ray")
    if spec is None or spec.origin is None or spec.cached is None or os.path.exists(spec.cached):
        return ""
    folder = Path(spec.origin).parent
    return str(folder.parent) if sys.dont_write_bytecode or not os.access(folder, os.W_OK) else ""


def _shared_memory() -> tuple[int, int] | None:
    if not os.path.isdir("/dev/shm"):
        return None
    usage = shutil.disk_usage("/dev/shm")
    return usage.free, usage.total


def _browser() -> str:
    folder = os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or "~/.cache/ms-playwright"
    own = sorted(Path(folder).expanduser().glob("chromium*"))
    with suppress(ValueError):  # OLMRL_CHROMIUM names none
        return find_chromium() or (str(own[-1]) if own else "")
    return ""


def _has_key(name: str) -> bool:
    if os.environ.get(name, "").strip():
        return True
    home = Path.home()
    logins = {
        "HF_TOKEN": Path(os.environ.get("HF_HOME") or home / ".cache/huggingface") / "token",
        "AWS_ACCESS_KEY_ID": home / ".aws/credentials",
    }
    if name == "WANDB_API_KEY":
        return "api.wandb.ai" in _read(str(home / ".netrc"))
    return name in logins and logins[name].is_file()


def _address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def _resolve(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError:
        return ""


def _either_case(name: str) -> str:
    value = os.environ.get(name) or os.environ.get(name.upper()) or ""
    return urlsplit(value).hostname or value if name in PROXIES else value


def _disks(folder: str) -> tuple[DiskFact, ...]:
    places = {
        "runs": os.path.abspath(folder),
        "Ray's files": os.environ.get("RAY_TMPDIR") or "/tmp",
        "models": os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface"),
    }
    found = []
    for role, path in places.items():
        there = Path(path)
        while not there.exists():
            there = there.parent
        usage = shutil.disk_usage(there)
        found.append(DiskFact(role, path, usage.free, usage.total))
    return tuple(found)


def _memory() -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _read(path).strip()
        if text.isdigit():
            return min(machine, int(text))
    return machine


def _usable_cores() -> float:
    allowed = float(os.cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        allowed = float(len(os.sched_getaffinity(0)))
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").strip().partition(" ")
    if quota.isdigit() and period.isdigit():
        allowed = min(allowed, int(quota) / int(period))
    return allowed


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""
