"""One run that fails several times and is continued until it ends, and the verdict on it."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil

from . import judge, kinds
from .conditions import Condition
from .kinds import Failure
from .running import ROOT, Running
from .tiny import EPOCHS, PAGES, STEPS, Recipe

PATIENCE_S = 900.0
"""Longest wait for a run to end, or to go on: far more than a loaded machine needs."""
_LOST_S = 60.0
"""Longest wait for a process of the role to appear."""
_HARM_S = 60.0
"""Longest time that a disk or a store stays full."""
_FRESH_S = 2.0
"""Age at which a start counts as going on already, so that `start` has been missed."""
_STOPPED = (0, 143, -15)
"""What SIGTERM may end a run with: it had ended, it saved, or it had not begun."""
RECIPES = (
    Recipe("grpo", 0),
    Recipe("grpo", 2),
    Recipe("sft"),
    Recipe("grpo", 0),
    Recipe("sft", ranks=2),
    Recipe("grpo", 2, ranks=2),
    Recipe("sft"),
)


class Series:
    """A run, its failures and what became of them.

    Args:
        seed: of the command.
        number: of the series; it decides what is trained and how it fails.
        out: folder of the command.
        allowed: ways of failing.
        count: failures of the run.
        condition: what it stands on.
        address: of a Ray node to join; None: the run starts its own.
    """

    def __init__(
        self,
        seed: int,
        number: int,
        out: Path,
        allowed: tuple[str, ...],
        count: int,
        condition: type[Condition] = Condition,
        address: str | None = None,
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
        self._out = mine / "place" / "run"
        self._allowed = allowed
        self._count = count
        self._address = address
        self._running: Running | None = None
        self.failures: list[dict[str, Any]] = state.get("failures", [])
        self.faults: list[str] = state.get("faults", [])
        self._next: int = state.get("next", 0)
        self._starts: int = state.get("starts", 0)
        self._suspended: int = state.get("suspended", 0)
        self._wandb_id: str | None = state.get("wandb_id")

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
        if not (out / "report.html").exists():
            shutil.rmtree(out, ignore_errors=True)
            self._running = Running(self._command(out), out, {})
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
        running = self._start()
        planned = self._planned()
        while self._next < len(planned) and not self._is_done(running):
            known = len(self.failures)
            needs_start = self._fail(running, planned[self._next], until)
            self._next += len(self.failures) > known or time.monotonic() < until
            self._save()
            if time.monotonic() > until:
                self._suspend(running)
                return False
            if needs_start:
                running = self._start()
        while not self._ends(running, until):
            if time.monotonic() > until:
                self._suspend(running)
                return False
            running = self._start()
        self.faults += self._judge(self._out, self._wandb_id)
        if whole is not None and not self.faults:
            self.faults += self._compare(whole)
        return True

    def row(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "seed": self._seed,
            "series": self._number,
            "recipe": self.recipe.name,
            "condition": self._condition.name,
            "ray": "joined" if self._address else "its own",
            "starts": self._starts,
            "suspended": self._suspended,
            "failures": self.failures,
            "faults": self.faults,
        }

    def close(self) -> None:
        """End what runs, and release what it stands on."""
        if self._running is not None:
            self._running.sweep()
        self._condition.heal()

    def _planned(self) -> list[Failure]:
        return kinds.draw(
            random.Random(self._name),
            self.recipe.trainer,
            self._count,
            STEPS,
            self._allowed,
            self._address is not None,
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
        }
        self._state_file.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")

    def _command(self, out: Path) -> list[str]:
        more = [f"cluster.address={self._address}"] if self._address else []
        return self.recipe.command(self._folder / "material", out, *more, "--resume", "auto")

    def _start(self) -> Running:
        self._starts += 1
        self._running = Running(
            self._command(self._out),
            self._out,
            self._condition.environment,
            self._condition.wrapper,
            self._beside,
        )
        return self._running

    def _suspend(self, running: Running) -> None:
        """Stop it as a scheduler would; a later call resumes it."""
        if running.alive:
            running.process.terminate()
            try:
                code = running.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                code = None
            if code not in _STOPPED:
                self.faults.append(f"suspended by SIGTERM: ended {code}")
        self._suspended += 1
        self._note_id()
        self._save()

    # -- a failure

    def _is_done(self, running: Running) -> bool:
        return running.process.poll() == 0

    def _fail(self, running: Running, failure: Failure, until: float) -> bool:
        """Wait for the moment, strike, see what becomes of it; True if a new start is needed."""
        if failure.moment == "start" and time.monotonic() - running.began > _FRESH_S:
            failure = replace(failure, moment="step")
        rng = random.Random(f"{self._name}/{self._next}")
        victims = self._victims(running, failure)
        if not running.wait_for(failure.moment, failure.step, rng, until):
            return not running.alive and not self._is_done(running) and self._unexpected(running)
        of_condition = failure.kind in ("fill", "jump")
        if not of_condition:
            victims = [v for v in victims if v.is_running()] or self._victims(running, failure)
            if not victims:
                return False
        family = running.processes()
        before, struck = running.trained(), time.monotonic()
        if of_condition:
            self._condition.strike(rng)
        else:
            kinds.strike(running, failure, victims, rng)
        outcome = self._outcome(running, failure, before, _HARM_S * rng.random())
        said = running.said().strip().splitlines()
        told = {
            "at": before,
            "outcome": outcome,
            "seconds": round(time.monotonic() - struck, 1),
            "said": (said or [""])[-1],
        }
        self.failures.append({**asdict(failure), **told})
        print(f"  {failure.role} {failure.kind} at {failure.moment}, step {before}: {outcome}")
        self._note_id()
        if outcome in ("went on", "ended 0"):
            return False
        self._check_end(running, failure, outcome)
        # Half of the next starts meet what the last one has left behind.
        if rng.random() < 0.5:
            psutil.wait_procs([p for p in family if p.pid != running.process.pid], timeout=30)
        if outcome == "stuck":
            running.sweep(family)
        return True

    def _victims(self, running: Running, failure: Failure) -> list[psutil.Process]:
        """Processes of the role, as soon as there are any; all of them are struck together."""
        if failure.kind in ("fill", "jump"):
            return []
        if failure.moment == "start":
            return running.of("driver") if failure.role == "driver" else []
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
        outcome = "stuck"
        while time.monotonic() < struck + PATIENCE_S:
            code = running.process.poll()
            if time.monotonic() > struck + heal_after:
                self._condition.heal()
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
        what = f"{failure.role} {failure.kind} at {failure.moment}"
        if outcome == "stuck":
            self.faults.append(f"{what}: neither ended nor went on in {PATIENCE_S:.0f} s")
        elif "Traceback" in running.said():
            self.faults.append(f"{what}: a traceback on the console")

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
