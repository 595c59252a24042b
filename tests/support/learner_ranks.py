"""Two gloo ranks in processes of their own, started once and handed one function after another."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from children import CONTEXT

RANKS = 2
PATIENCE_S = 120


class Ranks:
    """`ranks(function, *args)` runs it on every rank and gives the results in order of rank."""

    def __init__(self) -> None:
        self._processes: list[Any] = []

    def __call__(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        if not self._processes:
            self._start()
        for inbox in self._inboxes:
            inbox.put((function, args))
        results = []
        for outbox in self._outboxes:
            error, result = outbox.get(timeout=2 * PATIENCE_S)
            if error:
                self.close()  # the other rank may wait in a collective for ever
                raise AssertionError(error)
            results.append(result)
        return results

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._inboxes = [CONTEXT.Queue() for _ in range(RANKS)]
        self._outboxes = [CONTEXT.Queue() for _ in range(RANKS)]
        for rank in range(RANKS):
            arguments = (rank, self._folder.name, self._inboxes[rank], self._outboxes[rank])
            process = CONTEXT.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            self._processes.append(process)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
            process.join()
        self._processes = []


def _serve(rank: int, folder: str, inbox: Any, outbox: Any) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_SIZE": str(RANKS)}  # as launchers set them
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", RANKS)
    patience = timedelta(seconds=PATIENCE_S)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS, timeout=patience)
    while True:
        function, args = inbox.get()
        try:
            outbox.put(("", function(*args)))
        except BaseException:
            outbox.put((traceback.format_exc(), None))
