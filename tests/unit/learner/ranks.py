"""Run a function on several gloo ranks, in fresh processes, and collect what each returns."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_on_ranks(function: Callable[..., Any], ranks: int, *args: Any) -> list[Any]:
    """`function(*args)` in each rank of a gloo group; results in order of rank."""
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(
            _entry, args=(function, ranks, folder, args), nprocs=ranks, start_method="spawn"
        )
        return [pickle.loads(Path(folder, f"result-{rank}").read_bytes()) for rank in range(ranks)]


def _entry(rank: int, function: Callable[..., Any], ranks: int, folder: str, args: tuple) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    try:
        result = function(*args)
        Path(folder, f"result-{rank}").write_bytes(pickle.dumps(result))
    finally:
        dist.destroy_process_group()
