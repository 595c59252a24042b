"""Ways of failing: each does its harm to a running run and says what it did."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from .running import Running

SIGNALS = {
    "kill": signal.SIGKILL,
    "term": signal.SIGTERM,
    "interrupt": signal.SIGINT,
    "term_group": signal.SIGTERM,
    "interrupt_group": signal.SIGINT,
}
LONGEST_FREEZE_S = 8.0
FREEZES = ("freeze", "freeze_kill")
"""SIGSTOP for some seconds, then SIGCONT or SIGKILL."""
KINDS = (*SIGNALS, *FREEZES, "fill", "jump")

ANYWHERE = ("start", "step", "sync", "save", "evaluation")
LIVING = ("step", "sync", "save", "evaluation")
MOMENTS = (*ANYWHERE, "export")

_WEIGHTS: dict[tuple[str, str], int] = {
    ("engine", "kill"): 6,
    ("engine", "freeze_kill"): 2,
    ("engine", "freeze"): 1,
    ("engine", "term"): 2,
    ("scorer", "kill"): 6,
    ("scorer", "freeze_kill"): 1,
    ("scorer", "term"): 2,
    ("data", "kill"): 5,
    ("data", "term"): 1,
    ("learner", "kill"): 6,
    ("learner", "freeze_kill"): 1,
    ("learner", "freeze"): 1,
    ("learner", "term"): 2,
    ("buffer", "kill"): 3,
    ("buffer", "freeze_kill"): 1,
    ("store", "kill"): 2,
    ("controller", "kill"): 2,
    ("raylet", "kill"): 3,
    ("raylet", "freeze_kill"): 1,
    ("gcs", "kill"): 2,
    ("driver", "kill"): 5,
    ("driver", "freeze_kill"): 1,
    ("driver", "freeze"): 1,
    ("driver", "term"): 3,
    ("driver", "interrupt"): 3,
    ("driver", "term_group"): 3,
    ("driver", "interrupt_group"): 2,
}
"""How often each is drawn, by role and kind; more where runs survive, which takes less time."""
_OF_CONDITIONS = {
    "disk": ("disk", "fill"),
    "memory": ("memory", "fill"),
    "clock": ("clock", "jump"),
}
"""Harm that only a run under the condition of that name can come to (`conditions`)."""
_GRPO_ONLY = ("engine", "scorer", "store")
_OWN_NODE = ("raylet", "gcs")
_VITAL = ("buffer", "store", "controller", "raylet", "gcs", "driver")
"""A run cannot outlive these: it must end, and be resumed."""
_STARTED_BY_RAY = ("engine", "scorer", "learner", "data", "buffer", "store", "controller")


@dataclass(frozen=True)
class Failure:
    """What is to happen."""

    role: str
    kind: str
    moment: str
    step: int
    """The learner has made so many, unless the moment is `start`."""

    @property
    def ends_the_run(self) -> bool:
        """Whether the run must end of it, if only after another step."""
        return self.role in _VITAL and self.kind != "freeze"


def draw(
    rng: random.Random,
    trainer: str,
    count: int,
    steps: int,
    kinds: Sequence[str],
    joined: bool,
    condition: str = "plain",
) -> list[Failure]:
    """Failures of one run, in order.

    Args:
        rng: source of all choices.
        trainer: grpo or sft.
        count: how many.
        steps: of the run.
        kinds: those allowed.
        joined: the run shares a Ray node, which must live.
        condition: what the run stands on; half of its failures are of that condition's kind.
    """
    impossible = (_GRPO_ONLY if trainer == "sft" else ()) + (_OWN_NODE if joined else ())
    choices = [pair for pair in _WEIGHTS if pair[1] in kinds and pair[0] not in impossible]
    weights = [_WEIGHTS[pair] for pair in choices]
    special = _OF_CONDITIONS.get(condition)
    if special is not None and special[1] in kinds:
        weights.append(sum(weights) or 1)
        choices.append(special)
    at = sorted(rng.sample(range(1, steps - 2), count))
    failures = []
    for number, step in enumerate(at):
        role, kind = rng.choices(choices, weights)[0]
        moments = [m for m in LIVING if m != "sync" or trainer == "grpo"]
        if number == count - 1:
            moments.append("export")
        # "start" is drawn for what exists by then
        if role not in _STARTED_BY_RAY:
            moments.append("start")
        moment = rng.choice(moments)
        failures.append(Failure(role, kind, moment, steps if moment == "export" else step))
    return failures


def strike(
    running: Running, failure: Failure, victims: Sequence[psutil.Process], rng: random.Random
) -> None:
    """Do it, to all victims at once.

    Args:
        running: the run.
        failure: what is to happen.
        victims: processes of the role.
        rng: draws how long a freeze lasts.
    """
    if failure.kind.endswith("_group"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, SIGNALS[failure.kind])
        return
    if failure.kind not in FREEZES:
        _send(victims, SIGNALS[failure.kind])
        return
    _send(victims, signal.SIGSTOP)
    time.sleep(rng.uniform(1, LONGEST_FREEZE_S))
    _send(victims, signal.SIGCONT if failure.kind == "freeze" else signal.SIGKILL)


def _send(victims: Sequence[psutil.Process], number: int) -> None:
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(number)
