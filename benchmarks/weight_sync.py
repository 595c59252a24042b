"""Weight sync per transport, against plain memcpy: bytes, seconds, GB/s, and a breakdown.

    python benchmarks/weight_sync.py [--model FOLDER] [--engines 1] [--engine vllm] [--rounds 5]

A learner process sends its weights to real engines, round after round, as in training; each round
has new values, and the last one is verified by checksum. Without --model, a random Qwen2.5-VL with
31 M parameters is used. Transports: object_store always; nccl if the learner and every engine have
their own GPU; ipc if there is one GPU to share. Writes benchmarks/results/weight_sync.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
import transformers
from transformers import AutoModelForImageTextToText

from olmrl.config.schema import RolloutConfig, WeightSyncConfig
from olmrl.data.encode import EncoderSpec
from olmrl.metrics import flatten
from olmrl.models.family import TinySize
from olmrl.models.registry import FAMILIES
from olmrl.rollout.pool import RolloutPool
from olmrl.rollout.worker import WorkerSpec
from olmrl.synth.model import make_config, make_processor, make_tokenizer
from olmrl.types import PolicyVersion
from olmrl.weight_sync.sender import make_sender
from olmrl.weight_sync.store import start_store
from olmrl.weight_sync.transport import Placement, load_transport

RESULT = Path(__file__).parent / "results" / "weight_sync.json"
FAMILY = FAMILIES["qwen2_5_vl"]
SIZE = TinySize(512, 8, 8, 4, 1536, 256, 4, 4, 512)


class Learner:
    """One learner rank that holds a model and sends it."""

    def __init__(self, model: str, dtype: str, gpu: bool) -> None:
        self._dtype = dtype
        self._model: Any = AutoModelForImageTextToText.from_pretrained(
            model, dtype=getattr(torch, dtype)
        )
        if gpu:
            self._model.to("cuda")

    def run(
        self, store: Any, transport: str, rounds: int, bucket_mb: float
    ) -> list[dict[str, Any]]:
        """Send `rounds` versions; the first one, which includes set-up, is reported too."""
        rows = []
        for number in range(1, rounds + 2):
            last = number == rounds + 1
            config = WeightSyncConfig(bucket_mb=bucket_mb, checksum=last)
            if number == 1 or last:
                sender = make_sender(
                    config, store, 0, transport=transport, dtype=self._dtype, family=FAMILY
                )
            with torch.no_grad():
                for parameter in self._model.parameters():
                    parameter.add_(1e-4)
            named = iter(self._model.state_dict().items())
            row = flatten(sender.send(named, PolicyVersion(1, number)))
            if not last:
                rows.append(row)
        return rows


def make_model(folder: Path, dtype: str) -> str:
    tokenizer = make_tokenizer(["a page of words and 1 2 3 numbers"] * 5)
    model = FAMILY.model_class()(make_config(tokenizer, SIZE, 0.02, FAMILY))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    make_processor(tokenizer, FAMILY).save_pretrained(folder)
    return str(folder)


def memcpy_gb_per_s(megabytes: int = 256, rounds: int = 5) -> float:
    source = np.ones(megabytes * 2**20, np.uint8)
    target = np.empty_like(source)
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - started)
    return source.nbytes / min(seconds) / 1e9


def transports(engine: str, engines: int) -> dict[str, str]:
    """Transport -> why it is left out ('' if it runs)."""
    gpus = torch.cuda.device_count()
    apart = Placement(engine, gpus > 0, colocate=False)
    together = Placement(engine, gpus > 0, colocate=True)
    few = f"needs {engines + 1} GPUs, there are {gpus}" if gpus <= engines else ""
    many = f"needs a GPU and one engine, there are {gpus}" if not gpus or engines > 1 else ""
    return {
        "object_store": "",
        "nccl": load_transport("nccl").obstacle(apart) or few,
        "ipc": load_transport("ipc").obstacle(together) or many,
    }


def measure(options: argparse.Namespace, model: str, transport: str) -> dict[str, Any]:
    gpu = torch.cuda.is_available()
    # one GPU for all: learner and engine each take a part of it
    shared = transport == "ipc" or torch.cuda.device_count() <= options.engines
    share = 0.5 if shared else 1
    config = RolloutConfig(
        engine=options.engine,
        workers=options.engines,
        dtype=options.dtype,
        max_model_len=1024,
        max_num_seqs=8,
        kv_cache_gb=None if gpu else 0.25,
        gpu_memory_utilization=0.4 if shared else 0.8,
        enforce_eager=True,
    )
    store = start_store()
    spec = WorkerSpec(EncoderSpec(model), config, gpu, transport)
    pool = RolloutPool(spec, store, actor_options=lambda _: {"num_gpus": share if gpu else 0})
    pool.start()
    while pool.ready < options.engines:
        pool.wait_ready(600)
        pool.poll(0.5)
    actor: Any = ray.remote(Learner).options(num_cpus=1, num_gpus=share if gpu else 0)
    learner = actor.remote(model, options.dtype, gpu)
    rows = ray.get(learner.run.remote(store, transport, options.rounds, options.bucket_mb))
    ray.kill(learner)
    pool.close()
    return summary(rows, options.engines)


def summary(rows: list[dict[str, Any]], engines: int) -> dict[str, Any]:
    """Medians over all rounds but the first."""
    steady = rows[1:]
    bytes_per_engine = rows[0]["weight_sync/bytes"] / engines
    result = {
        "bytes_per_engine": bytes_per_engine,
        "first_seconds": rows[0]["weight_sync/seconds"],
        "seconds": statistics.median(row["weight_sync/seconds"] for row in steady),
        "seconds_all": [row["weight_sync/seconds"] for row in steady],
    }
    for phase in ("publish", "load"):
        values = [row[f"time/weight_{phase}"] for row in steady if f"time/weight_{phase}" in row]
        if values:
            result[f"{phase}_seconds"] = statistics.median(values)
    result["gb_per_s"] = bytes_per_engine * engines / result["seconds"] / 1e9
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="checkpoint folder; default: random, 31 M")
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument("--engine", choices=["vllm", "hf"], default="vllm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--bucket-mb", type=float, default=WeightSyncConfig().bucket_mb)
    options = parser.parse_args()
    memcpy = memcpy_gb_per_s()
    ray.init(include_dashboard=False, logging_level="ERROR", num_cpus=options.engines + 2)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or make_model(Path(folder) / "model", options.dtype)
        for transport, obstacle in transports(options.engine, options.engines).items():
            found = {"skipped": obstacle} if obstacle else measure(options, model, transport)
            results[transport] = found
            if not obstacle:
                found["share_of_memcpy"] = found["gb_per_s"] / memcpy
            print(transport, json.dumps(found))
    ray.shutdown()
    record = {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.date.today().isoformat(),
        "hardware": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "gpus": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())],
        },
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "ray": ray.__version__,
        },
        "settings": {key: value for key, value in vars(options).items() if key != "model"},
        "memcpy_gb_per_s": memcpy,
        "transports": results,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    print(f"memcpy {memcpy:.1f} GB/s; written {RESULT}")


if __name__ == "__main__":
    main()
