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
_ASKS = tuple(kind for kind in SIGNALS if kind != "kill")
LONGEST_FREEZE_S = 8.0
FREEZES = ("freeze", "freeze_kill")
"""SIGSTOP for some seconds, then SIGCONT or SIGKILL."""
OF_CONDITIONS = {
    "disk": ("disk", "fill"),
    "slow disk": ("disk", "slow"),
    "memory": ("memory", "fill"),
    "clock": ("clock", "jump"),
    "two nodes": ("network", "cut"),
}
"""Harm that only a run under the condition of that name can come to (`conditions`)."""
HARMS = ("fill", "slow", "jump", "cut")
KINDS = (*SIGNALS, *FREEZES, "rival", "ranks", "waiting", *HARMS)
"""rival: the same command a second time, beside the run. ranks: SIGTERM, and the run goes on with
another number of learner ranks. waiting: a run that waits for nodes is stopped."""

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
    ("driver", "rival"): 2,
    ("driver", "ranks"): 3,
}
"""How often each is drawn, by role and kind; more where runs survive, which takes less time."""
_AT_START: dict[tuple[str, str], int] = {
    ("driver", "kill"): 2,
    ("driver", "freeze_kill"): 1,
    ("driver", "term"): 2,
    ("driver", "interrupt"): 3,
    ("driver", "term_group"): 2,
    ("driver", "interrupt_group"): 3,
    ("driver", "waiting"): 3,
    ("raylet", "kill"): 1,
    ("gcs", "kill"): 1,
}
"""The same for the start of a run. All of them end it, so that the next start can fail too."""
_GRPO_ONLY = ("engine", "scorer", "store")
_OWN_NODE = ("raylet", "gcs")
_JOINED = ("waiting",)
_VITAL = ("buffer", "store", "controller", "raylet", "gcs", "driver")
"""A run cannot outlive these: it must end, and be resumed."""


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
        return self.role in _VITAL and self.kind not in ("freeze", "rival")

    @property
    def signals(self) -> bool:
        """Whether the Driver is asked to end."""
        return self.role == "driver" and self.kind in (*_ASKS, "ranks", "waiting")


def draw(
    rng: random.Random,
    trainer: str,
    count: int,
    steps: int,
    kinds: Sequence[str],
    joined: bool,
    condition: str = "plain",
) -> list[Failure]:
    """Failures of one run, in order; the first quarter strikes starts, which costs least.

    Args:
        rng: source of all choices.
        trainer: grpo or sft.
        count: how many.
        steps: of the run.
        kinds: those allowed.
        joined: the run shares a Ray node, which must live.
        condition: what the run stands on; a third of what strikes it at work is of its kind.
    """

    def can_be(role: str, kind: str) -> bool:
        lacks = (_GRPO_ONLY if trainer == "sft" else ()) + (_OWN_NODE if joined else ())
        return kind in kinds and role not in lacks and (joined or kind not in _JOINED)

    starts = {pair: weight for pair, weight in _AT_START.items() if can_be(*pair)}
    drawn = rng.choices(list(starts), list(starts.values()), k=count // 4) if starts else []
    failures = [Failure(role, kind, "start", 0) for role, kind in drawn]
    work = {pair: weight for pair, weight in _WEIGHTS.items() if can_be(*pair)}
    special = OF_CONDITIONS.get(condition)
    if special is not None and special[1] in kinds:
        work[special] = max(1, sum(work.values()) // 2)
    for step in sorted(rng.sample(range(1, steps - 2), count - len(failures))):
        role, kind = rng.choices(list(work), list(work.values()))[0]
        moments = [m for m in LIVING if m != "sync" or trainer == "grpo"]
        failures.append(Failure(role, kind, rng.choice(moments), step))
    last = failures[-1]
    if last.moment != "start" and rng.random() < 0.25:
        failures[-1] = Failure(last.role, last.kind, "export", steps)
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
        drawn = rng.choice([signal.SIGTERM, signal.SIGINT])
        asked = drawn if failure.kind == "waiting" else signal.SIGTERM
        _send(victims, SIGNALS.get(failure.kind, asked))
        return
    _send(victims, signal.SIGSTOP)
    time.sleep(rng.uniform(1, LONGEST_FREEZE_S))
    _send(victims, signal.SIGCONT if failure.kind == "freeze" else signal.SIGKILL)


def _send(victims: Sequence[psutil.Process], number: int) -> None:
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(number)
