"""All living engines as one: calls go to all, and an engine that fails drops out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

import ray

from olmrl.errors import EngineBroken, LinkBroken, WeightMismatch
from olmrl.lost import LOST, why
from olmrl.metrics import Last, Measurements, Sum
from olmrl.models.family import Family
from olmrl.types import PolicyVersion
from olmrl.weight_sync import checksum
from olmrl.weight_sync.plan import EngineEntry

Result = TypeVar("Result")
_LOOK_EVERY_S = 0.5


class Fleet:
    """The engines registered in a WeightStore.

    Args:
        store: The WeightStore actor.
        in_flight: What running requests do at an update.
        timeout_s: Longest wait for one call.
        family: The model's; it knows the engines' names of weights.
    """

    def __init__(self, store: Any, in_flight: str, timeout_s: float, family: Family) -> None:
        self.store = store
        self.in_flight = in_flight
        self.family = family
        self._timeout_s = timeout_s
        self.engines: list[EngineEntry] = []
        self.failed: list[str] = []

    def refresh(self) -> None:
        """Update the list of engines."""
        self.failed = []
        self.engines = ray.get(self.store.engines.remote())
        self.call("version")  # drops those that do not answer

    def part(self, worker_id: str) -> Fleet:
        """One of the engines as a fleet; empty where this rank knows no engines."""
        alone = Fleet(self.store, self.in_flight, self._timeout_s, self.family)
        alone.engines = [engine for engine in self.engines if engine.worker_id == worker_id]
        return alone

    @property
    def members(self) -> frozenset[str]:
        """Ids of the participating engines."""
        return frozenset(engine.worker_id for engine in self.engines)

    def start(
        self, method: str, arguments: Callable[[EngineEntry], Sequence[Any]]
    ) -> dict[Any, EngineEntry]:
        """Call a method on every engine, without waiting."""
        return {
            getattr(engine.handle, method).remote(*arguments(engine)): engine
            for engine in self.engines
        }

    def collect(self, calls: dict[Any, EngineEntry]) -> dict[str, Any]:
        """Wait for calls; engines that are dead, broken or too slow drop out.

        Returns:
            Results by worker id, for those that answered.

        Raises:
            Exception: any other error of an engine (e.g. for an unknown weight).
        """
        if not calls:
            return {}
        ray.wait(list(calls), num_returns=len(calls), timeout=self._timeout_s)
        results: dict[str, Any] = {}
        for reference, engine in calls.items():
            try:
                results[engine.worker_id] = ray.get(reference, timeout=0)
            except (*LOST, ray.exceptions.GetTimeoutError, EngineBroken):
                self.failed.append(engine.worker_id)
        self.engines = [engine for engine in self.engines if engine.worker_id in results]
        return results

    def collect_while(self, calls: dict[Any, EngineEntry], work: Callable[[], Result]) -> Result:
        """Do the learner's part of a collective, then collect the engines' calls.

        Args:
            calls: the engines' parts, already started.
            work: the learner's part; runs in a thread, as it never returns once an engine is gone.

        Returns:
            What `work` returned.

        Raises:
            LinkBroken: an engine failed, or the collective took longer than `timeout_s`.
        """
        outcome: Future[Result] = Future()

        def run() -> None:
            try:
                outcome.set_result(work())
            except BaseException as error:
                outcome.set_exception(error)

        threading.Thread(target=run, name="collective", daemon=True).start()
        deadline = time.monotonic() + self._timeout_s
        while not wait([outcome], timeout=_LOOK_EVERY_S).done:
            reason = self._failure(calls)
            if reason is None and time.monotonic() > deadline:
                reason = f"no result within {self._timeout_s:.0f} s"
            if reason is not None:
                raise LinkBroken(f"a weight transfer failed: {reason}")
        result = outcome.result()
        self.collect(calls)
        return result

    def _failure(self, calls: dict[Any, EngineEntry]) -> str | None:
        """Which engine's call has failed so far, and why."""
        if not calls:
            return None
        done, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        for reference in done:
            try:
                ray.get(reference)
            except Exception as error:  # whatever it is, this engine no longer takes part
                return f"{calls[reference].worker_id}: {why(error)}"
        return None

    def call(
        self, method: str, arguments: Callable[[EngineEntry], Sequence[Any]] = lambda _: ()
    ) -> dict[str, Any]:
        """Call a method on every engine and collect the results."""
        return self.collect(self.start(method, arguments))

    def mark_synced(self, version: PolicyVersion) -> None:
        """Tell the store that these engines have the version."""
        ray.get([self.store.mark_synced.remote(e.worker_id, version) for e in self.engines])

    def measurements(self, num_bytes: int, seconds: float) -> Measurements:
        """The cost of a send.

        Args:
            num_bytes: Sent to each engine.
            seconds: Of the whole send.
        """
        moved = num_bytes * len(self.engines)
        return {
            "weight_sync/bytes": Sum(moved),
            "weight_sync/seconds": Sum(seconds),
            "weight_sync/gb_per_s": Last(moved / seconds / 1e9 if seconds else 0.0),
            "weight_sync/engines": Last(len(self.engines)),
            "weight_sync/failed_engines": Sum(len(self.failed)),
        }

    def verify(self, expected: checksum.Checksums) -> None:
        """Compare every engine's weights with the learner's.

        Raises:
            WeightMismatch: naming the engine and the first differing weights.
        """
        for worker_id, found in self.call("checksums").items():
            different = checksum.differences(expected, found, self.family)
            if different:
                raise WeightMismatch(
                    f"engine {worker_id}: {len(different)} of {len(expected)} weights differ from "
                    f"the learner's after the sync, first {', '.join(different[:3])}"
                )
