"""One run that fails several times and is continued until it ends, and the verdict on it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil

from . import judge, kinds
from .conditions import Condition
from .kinds import Failure
from .running import ROOT, Node, Running
from .tiny import EPOCHS, PAGES, STEPS, Recipe

PATIENCE_S = 420.0
"""Longest wait for a run to end, or to go on: far more than a loaded machine needs."""
_LOST_S = 60.0
"""Longest wait for a process of the role to appear."""
_HARM_S = 40.0
"""Longest time that a disk or a store stays full, or a link cut."""
_AT_ONCE_S = 20.0
"""Longest time that the end may take where there is nothing to save; otherwise `grace_s`."""
_GRACE_S = 300.0
"""`checkpoint.grace_s` of the runs: the default."""
_WAITING = ("learner.resources={nowhere: 1}", "cluster.wait_s=600")
"""What no node has, so that the run waits for one."""
_NOT_BEGUN = "Fatal Python error: init_"
"""What Python says, with a traceback and code 1, of a signal before it runs any program."""
_FRESH_S = 2.0
"""Age at which a start counts as going on already, so that `start` has been missed."""
_TERMINATED, _INTERRUPTED = (143, -15), (130, -2)
"""What SIGTERM and Ctrl-C may end a run with: it saved, or it had not begun."""
_CODES = {
    "term": _TERMINATED,
    "term_group": _TERMINATED,
    "ranks": _TERMINATED,
    "interrupt": _INTERRUPTED,
    "interrupt_group": _INTERRUPTED,
    "waiting": (*_TERMINATED, *_INTERRUPTED),
}
"""By kind of failure, exit codes of a Driver that it ends."""
RECIPES = (
    Recipe("grpo", 0),
    Recipe("grpo", 2),
    Recipe("sft"),
    Recipe("grpo", 0),
    Recipe("sft", ranks=2),
    Recipe("grpo", 2, ranks=2),
    Recipe("sft"),
)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock that ends with the process; gives whether it is held.

    Args:
        path: of its file.
        wait: for whoever holds it.
    """
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def fitting(failure: Failure, age_s: float) -> Failure:
    """The failure itself, or, of a start that is over, one of the running run.

    Args:
        failure: what is planned.
        age_s: seconds since the start of the run.
    """
    if failure.moment != "start" or age_s <= _FRESH_S:
        return failure
    kind = "interrupt" if failure.kind == "waiting" else failure.kind
    return replace(failure, moment="step", kind=kind)


def wrong_end(failure: Failure, outcome: str, said: str) -> list[str]:
    """What is wrong with the end of a run: tracebacks, and the code of a Driver asked to end.

    Args:
        failure: what ended it.
        outcome: `ended CODE`; anything else is told by other rules.
        said: its console.
    """
    if _NOT_BEGUN in said or not outcome.startswith("ended "):
        return []
    what = f"{failure.role} {failure.kind} at {failure.moment}"
    found = [f"{what}: a traceback on the console"] if "Traceback" in said else []
    codes = _CODES.get(failure.kind) if failure.role == "driver" else None
    if codes is not None and int(outcome.removeprefix("ended ")) not in codes:
        found.append(f"{what}: {outcome}, not {codes[0]}")
    return found


class Series:
    """A run, its failures and what became of them.

    Args:
        seed: of the command.
        number: of the series; it decides what is trained and how it fails.
        out: folder of the command.
        allowed: ways of failing.
        count: failures of the run.
        condition: what it stands on.
        node: what to join, unless the condition has one or asks for the run's own.
    """

    def __init__(
        self,
        seed: int,
        number: int,
        out: Path,
        allowed: tuple[str, ...],
        count: int,
        condition: type[Condition] = Condition,
        node: Node | None = None,
    ) -> None:
        self.recipe = RECIPES[number % len(RECIPES)]
        self._name = f"{seed}/{number}"
        self._seed, self._number = seed, number
        self._folder = out
        mine = out / f"run-{seed}-{number}"
        self._state_file = mine / "series.json"
        state = self._load()
        if not state:
            shutil.rmtree(mine, ignore_errors=True)
        mine.mkdir(parents=True, exist_ok=True)
        self._beside = mine
        self._condition = condition(mine / "place")
        self._node = None if condition.own_node else self._condition.node or node
        self._out = mine / "place" / "run"
        self._allowed = allowed
        self._count = count
        self._running: Running | None = None
        self.failures: list[dict[str, Any]] = state.get("failures", [])
        self.faults: list[str] = state.get("faults", [])
        self._next: int = state.get("next", 0)
        self._starts: int = state.get("starts", 0)
        self._suspended: int = state.get("suspended", 0)
        self._wandb_id: str | None = state.get("wandb_id")
        self.late: list[str] = state.get("late", [])
        self._ranks: int = state.get("ranks", self.recipe.ranks)
        """Of the next start."""

    # -- an undisturbed run

    def reference(self) -> Path:
        """Directory of a run of the same recipe that nothing happened to, made once."""
        tree = subprocess.run(
            ["git", "rev-parse", "HEAD:olmrl"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout[:8]
        out = self._folder / f"whole-{self.recipe.name}-{tree}"
        with locked(out.with_suffix(".lock")):
            if not (out / "report.html").exists():
                shutil.rmtree(out, ignore_errors=True)
                self._running = Running(self._command(self.recipe, out), out, {}, node=self._node)
                code = self._running.process.wait(2 * PATIENCE_S)
                assert code == 0, self._running.said()[-3000:]
                found = self._judge(out, None)
                assert not found, f"an undisturbed run is wrong: {found}"
        return out

    # -- a disturbed one

    def run(self, until: float) -> bool:
        """Fail and go on, until the run has ended.

        Args:
            until: time (monotonic) at which it is suspended, to go on in a later call.

        Returns:
            Whether it has ended and was judged.
        """
        whole = self.reference() if self.recipe.repeatable else None
        planned = self._planned()
        if time.monotonic() > until:
            return False
        running = self._start(planned)
        while self._next < len(planned) and not self._is_done(running):
            known = len(self.failures)
            needs_start = self._fail(running, planned[self._next], until)
            self._next += len(self.failures) > known or time.monotonic() < until
            self._save()
            if time.monotonic() > until:
                self._suspend(running)
                return False
            if needs_start:
                running = self._start(planned)
        while not self._ends(running, until):
            if time.monotonic() > until:
                self._suspend(running)
                return False
            running = self._start(planned)
        self.faults += self._judge(self._out, self._wandb_id)
        # another number of ranks adds up in another order
        if whole is not None and not self.faults and not self._reshaped:
            self.faults += self._compare(whole)
        return True

    def row(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "seed": self._seed,
            "series": self._number,
            "recipe": self.recipe.name,
            "condition": self._condition.name,
            "ray": "joined" if self._node else "its own",
            "starts": self._starts,
            "suspended": self._suspended,
            "failures": self.failures,
            "late": self.late,
            "faults": self.faults,
        }

    def close(self) -> None:
        """End what runs, and release what it stands on."""
        self._condition.heal()
        if self._running is not None:
            self._running.sweep()
        self._condition.close()

    def remove(self) -> None:
        """Remove what the run stood on, once nothing of it is to be looked at."""
        self._condition.remove()

    def _planned(self) -> list[Failure]:
        return kinds.draw(
            random.Random(self._name),
            self.recipe.trainer,
            self._count,
            STEPS,
            self._allowed,
            self._node is not None,
            self._condition.name,
        )

    def _load(self) -> dict[str, Any]:
        known = self._state_file.exists()
        return dict(json.loads(self._state_file.read_text("utf-8"))) if known else {}

    def _save(self) -> None:
        state = {
            "failures": self.failures,
            "faults": self.faults,
            "next": self._next,
            "starts": self._starts,
            "suspended": self._suspended,
            "wandb_id": self._wandb_id,
            "late": self.late,
            "ranks": self._ranks,
        }
        self._state_file.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")

    def _command(self, recipe: Recipe, out: Path, *more: str) -> list[str]:
        words = [f"cluster.address={self._node.address}"] if self._node else []
        words += self._condition.overrides(recipe.trainer)
        return recipe.command(self._folder / "material", out, *words, *more, "--resume", "auto")

    def _start(self, planned: Sequence[Failure]) -> Running:
        """Start it, or start it anew; so that it waits for nodes if that is what fails next."""
        more = list(_WAITING) if self._waits(planned) else []
        recipe = replace(self.recipe, ranks=self._ranks)
        if self._reshaped:
            more.append("--allow-config-change")
        self._starts += 1
        self._condition.tend()
        self._running = Running(
            self._command(recipe, self._out, *more),
            self._out,
            self._condition.environment,
            self._condition.wrapper,
            self._beside,
            self._node,
        )
        self._running.tend = self._condition.tend
        return self._running

    @property
    def _reshaped(self) -> bool:
        """Whether it has gone on with another number of ranks."""
        return any(failure["kind"] == "ranks" for failure in self.failures)

    def _waits(self, planned: Sequence[Failure]) -> bool:
        return self._next < len(planned) and planned[self._next].kind == "waiting"

    def _suspend(self, running: Running) -> None:
        """Stop it as a scheduler would; a later call resumes it."""
        if running.alive:
            running.process.terminate()
            try:
                code = running.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                code = None
            if code not in (0, *_TERMINATED):
                self.faults.append(f"suspended by SIGTERM: ended {code}")
        self._suspended += 1
        self._note_id()
        self._save()

    # -- a failure

    def _is_done(self, running: Running) -> bool:
        return running.process.poll() == 0

    def _fail(self, running: Running, failure: Failure, until: float) -> bool:
        """Wait for the moment, strike, see what becomes of it; True if a new start is needed."""
        failure = fitting(failure, time.monotonic() - running.began)
        rng = random.Random(f"{self._name}/{self._next}")
        victims = [] if failure.moment == "start" else self._victims(running, failure)
        if not running.wait_for(failure.moment, failure.step, rng, until):
            return not running.alive and not self._is_done(running) and self._unexpected(running)
        if failure.kind not in kinds.HARMS:
            victims = [v for v in victims if v.is_running()] or self._victims(running, failure)
            if not victims:
                return False
        family = running.processes()
        before, learnt, struck = running.trained(), running.learnt(), time.monotonic()
        self._strike(running, failure, victims, rng)
        outcome = self._outcome(running, failure, before, _HARM_S * rng.random())
        seconds = time.monotonic() - struck
        said = running.said().strip().splitlines()
        told = {
            "at": before,
            "outcome": outcome,
            "seconds": round(seconds, 1),
            "said": (said or [""])[-1],
        }
        self.failures.append({**asdict(failure), **told})
        what = f"{failure.role} {failure.kind} at {failure.moment}, step {before}"
        print(f"series {self._number}: {what}: {outcome}, {seconds:.0f} s", flush=True)
        self._note_id()
        if outcome in ("went on", "ended 0"):
            return False
        self._check_end(running, failure, outcome)
        self._check_time(failure, seconds, learnt > 0)
        # Half of the next starts meet what the last one has left behind.
        if rng.random() < 0.5:
            psutil.wait_procs([p for p in family if p.pid != running.process.pid], timeout=15)
        if outcome == "stuck":
            running.sweep(family)
        return True

    def _strike(
        self,
        running: Running,
        failure: Failure,
        victims: Sequence[psutil.Process],
        rng: random.Random,
    ) -> None:
        if failure.kind in kinds.HARMS:
            self._condition.strike(rng)
        elif failure.kind == "rival":
            self._rival(running)
        else:
            kinds.strike(running, failure, victims, rng)
        if failure.kind == "ranks":
            self._ranks = 3 - self._ranks

    def _rival(self, running: Running) -> None:
        """The same command once more: it must be refused, and the run not disturbed."""
        second = Running(
            self._command(replace(self.recipe, ranks=self._ranks), self._out),
            self._out,
            {},
            beside=self._beside,
            node=self._node,
            name="rival",
        )
        try:
            code = second.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = None
            second.sweep()
        refused = code == 2 and "another run is using it" in second.said()
        if running.alive and not refused:
            self.faults.append(f"a second run in its directory: ended {code}")

    def _victims(self, running: Running, failure: Failure) -> list[psutil.Process]:
        """Processes of the role, as soon as there are any; all of them are struck together."""
        if failure.kind in kinds.HARMS:
            return []
        deadline = time.monotonic() + _LOST_S
        while running.alive and time.monotonic() < deadline:
            found = running.of(failure.role)
            if found:
                return found
            time.sleep(0.1)
        return []

    def _outcome(self, running: Running, failure: Failure, before: int, heal_after: float) -> str:
        """What became of the run: a step beyond those that it had, or an end."""
        struck = time.monotonic()
        outcome, healed = "stuck", False
        while time.monotonic() < struck + PATIENCE_S:
            code = running.process.poll()
            if not healed and time.monotonic() > struck + heal_after:
                self._condition.heal()
                healed = True
            self._condition.tend()
            if code is not None:
                outcome = f"ended {code}"
                break
            if running.trained() > before and not failure.ends_the_run:
                outcome = "went on"
                break
            time.sleep(0.2)
        self._condition.heal()
        return outcome

    def _check_end(self, running: Running, failure: Failure, outcome: str) -> None:
        if outcome == "stuck":
            what = f"{failure.role} {failure.kind} at {failure.moment}"
            self.faults.append(f"{what}: neither ended nor went on in {PATIENCE_S:.0f} s")
        self.faults += wrong_end(failure, outcome, running.said())

    def _check_time(self, failure: Failure, seconds: float, has_learnt: bool) -> None:
        """Whether a run that was asked to end did so in time."""
        at_once = not has_learnt or failure.kind.endswith("_group")
        limit = _AT_ONCE_S if at_once else _GRACE_S
        if failure.signals and seconds > limit:
            what = f"{failure.kind} at {failure.moment}"
            self.late.append(f"{what}: ended after {seconds:.0f} s, not {limit:.0f}")

    def _unexpected(self, running: Running) -> bool:
        last = (running.said().strip().splitlines() or [""])[-1]
        self.faults.append(f"ended {running.process.poll()} by itself: {last}")
        return True

    def _ends(self, running: Running, until: float) -> bool:
        """Wait for the end that nothing disturbs; False if the run needs another start."""
        deadline = time.monotonic() + PATIENCE_S
        before = running.trained()
        while running.alive and time.monotonic() < until:
            if running.trained() > before:
                before, deadline = running.trained(), time.monotonic() + PATIENCE_S
            self._condition.tend()
            if time.monotonic() > deadline:
                self.faults.append(f"no step in {PATIENCE_S:.0f} s")
                running.sweep()
            time.sleep(0.5)
        if running.alive or self._is_done(running):
            return not running.alive
        self._unexpected(running)
        # what cannot end is judged as it is
        return self._starts > self._suspended + self._count + 3

    def _note_id(self) -> None:
        path = self._out / "wandb_id"
        if self._wandb_id is None and path.exists():
            self._wandb_id = path.read_text("utf-8")

    # -- the verdict

    def _judge(self, out: Path, wandb_id: str | None) -> list[str]:
        trainer = self.recipe.trainer
        pages = PAGES if trainer == "grpo" else 2 * PAGES
        try:
            return judge.judge(out, trainer=trainer, pages=pages, epochs=EPOCHS, wandb_id=wandb_id)
        except (OSError, ValueError) as error:
            return [f"cannot be judged: {error!r}"]

    def _compare(self, whole: Path) -> list[str]:
        if judge.digest(self._out / "model") == judge.digest(whole / "model"):
            return []
        far = judge.difference(self._out / "model", whole / "model")
        return [f"weights differ from the undisturbed run's by {far:.2e}"]
