"""The engine thread: closures between steps, outputs as they come, and breakdown told to all."""

from __future__ import annotations

import threading
import time

import pytest

from olmrl.errors import EngineBroken
from olmrl.rollout.loop import EngineLoop


class Countdown:
    """An engine that needs `left` steps and hands out their numbers."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.fail_at = -1
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()

    def step(self) -> list[int]:
        self.gate.wait()
        self.threads.add(threading.get_ident())
        if self.left == self.fail_at:
            raise ZeroDivisionError("a kernel failed")
        self.left -= 1
        return [self.left]

    def loop(self) -> EngineLoop[int]:
        loop = EngineLoop(self.step, lambda: self.left > 0)
        loop.start()
        return loop


def drain(loop: EngineLoop[int], number: int) -> list[int]:
    found: list[int] = []
    while len(found) < number:
        found += loop.poll(5.0)
    return found


def test_steps_and_closures_share_one_thread() -> None:
    engine = Countdown(50)
    loop = engine.loop()
    engine.threads.add(loop.call(threading.get_ident))
    assert drain(loop, 50) == list(range(49, -1, -1))
    engine.threads.add(loop.call(threading.get_ident))
    assert len(engine.threads) == 1
    assert threading.get_ident() not in engine.threads
    assert loop.steps == 50
    loop.close()


def test_poll_without_work_returns_after_the_timeout() -> None:
    loop = Countdown(0).loop()
    assert loop.poll(0.05) == []
    loop.close()


def test_a_failing_closure_harms_only_its_caller() -> None:
    engine = Countdown(0)
    loop = engine.loop()
    with pytest.raises(KeyError):
        loop.call(lambda: {}["nothing"])
    loop.call(lambda: setattr(engine, "left", 3))
    assert drain(loop, 3) == [2, 1, 0]
    loop.close()


def test_a_failing_step_delivers_what_was_done_and_then_breaks_every_call() -> None:
    engine = Countdown(5)
    engine.fail_at = 2
    loop = engine.loop()
    assert drain(loop, 3) == [4, 3, 2]
    with pytest.raises(EngineBroken, match="a kernel failed"):
        loop.poll(5.0)
    with pytest.raises(EngineBroken, match="a kernel failed"):
        loop.call(lambda: None)


def test_paused_means_no_step() -> None:
    engine = Countdown(1000)
    engine.gate.clear()
    loop = engine.loop()
    threading.Timer(0.05, engine.gate.set).start()

    def pause() -> int:
        loop.paused = True
        return engine.left

    left = loop.call(pause)
    time.sleep(0.1)
    assert loop.call(lambda: engine.left) == left
    loop.call(lambda: setattr(loop, "paused", False))
    assert len(drain(loop, 1000)) == 1000
    loop.close()


def test_idle_time_grows_only_while_work_stands_still() -> None:
    engine = Countdown(1)
    engine.gate.clear()
    loop = engine.loop()
    time.sleep(0.3)
    assert loop.idle_s > 0.1
    engine.gate.set()
    assert drain(loop, 1) == [0]
    assert loop.idle_s == 0.0
    loop.close()


def test_a_closed_loop_refuses_calls() -> None:
    loop = Countdown(0).loop()
    loop.close()
    with pytest.raises(EngineBroken, match="closed"):
        loop.call(lambda: None)
