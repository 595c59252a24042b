"""What a stage of the kit gets, and how it runs in a process of its own.

A stage is a module with `run(context)`. It reports rows as it finds them, so that whatever ends the
process, the rows so far are kept; the same lines run on a GPU and, with tiny shapes, on a CPU.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

Row = dict[str, Any]


class Unsuited(Exception):
    """The stage cannot run here, for the reason given (a card too small, for one)."""


@dataclass
class Context:
    """Where a stage runs, and what it may take."""

    device: str
    """`cuda`, or `cpu` in a rehearsal."""
    memory: float
    """Bytes that the stage may hold on the device."""
    deadline: float
    """`time.monotonic()` at which its process is ended."""
    send: Callable[[Row], None]
    wrong: list[str] = field(default_factory=list)
    """Cases whose result is not what it must be."""

    @property
    def rehearsal(self) -> bool:
        """Whether shapes are tiny and figures mean nothing."""
        return self.device == "cpu"

    def report(self, case: str, **figures: Any) -> None:
        """Keep a row of results."""
        print(case, figures, flush=True)
        self.send({"case": case, **figures})

    def left(self) -> float:
        """Seconds before the process is ended."""
        return self.deadline - time.monotonic()

    @contextmanager
    def case(self, name: str, **about: Any) -> Iterator[Row]:
        """Report what the block puts into the row; an error is the row's, and the stage goes on.

        A case with `ok` false, or an error, fails the stage once its other cases have run.
        """
        row: Row = {**about, "ok": True}
        started = time.monotonic()
        try:
            yield row
        except Exception as error:
            traceback.print_exc()
            row |= {"ok": False, "error": first_line(error)}
        row["case_s"] = round(time.monotonic() - started, 2)
        if not row["ok"]:
            self.wrong.append(name)
        self.report(name, **row)


def first_line(error: BaseException) -> str:
    """Type and first line of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def run_stage(
    module: str, device: str, memory: float | None, deadline: float, out: Connection, log: str
) -> None:
    """Body of a stage's process: run it, and send rows and then how it ended.

    Args:
        module: with `run(context)`.
        device: `cuda` or `cpu`.
        memory: bytes that it may hold there; None: what is free on the card.
        deadline: `time.monotonic()` at which the caller ends this process.
        out: takes `("row", row)`, and at last `(status, reason and CPU seconds)`.
        log: file that its output is appended to.
    """
    os.setsid()  # so that what it starts in turn ends with it
    stream = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    print(f"---- {module}", flush=True)
    status, why = _outcome(module, device, memory, deadline, out)
    out.send((status, {"why": why, "cpu_s": round(time.process_time(), 1)}))


def _outcome(
    module: str, device: str, memory: float | None, deadline: float, out: Connection
) -> tuple[str, str]:
    """Run the stage; its status and the reason of it."""
    try:
        stage = importlib.import_module(module)
        limit = _limit(device, memory)
        context = Context(device, limit, deadline, lambda row: out.send(("row", row)))
        stage.run(context)
    except Unsuited as reason:
        return "skipped", str(reason)
    except BaseException as error:
        traceback.print_exc()
        return "failed", first_line(error)
    if context.wrong:
        return "failed", f"wrong or broken: {'; '.join(context.wrong)}"
    return "done", ""


def _limit(device: str, memory: float | None) -> float:
    """Bytes that the stage may hold, enforced by torch where it allocates them."""
    if device == "cpu":
        if "torch" in sys.modules:
            torch = sys.modules["torch"]
            torch.set_num_threads(1)
            # the compiler takes 20 s a block on a CPU, and is not what is rehearsed
            torch.compiler.set_stance("force_eager")
        return memory if memory is not None else 2.0**30
    import torch

    free, total = torch.cuda.mem_get_info()
    allowed = min(float(free), memory if memory is not None else float(free))
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total))
    return allowed
