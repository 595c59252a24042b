"""Metrics for Prometheus: every quantity of metrics.jsonl, and each engine's own, as Ray metrics.

Ray collects the metrics of all its processes and serves them on each node; Prometheus finds the
nodes in Ray's service discovery file. `launch/grafana/olmrl.json` shows them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Counter, Gauge

_TAGS = ("run", "key")


def gauge_name(key: str) -> str:
    """Name of a metric in Ray: `reward/bench/mean` -> `olmrl_reward_bench_mean`.

    Ray puts `ray_` in front of it on the way out.
    """
    return "olmrl_" + re.sub(r"[^A-Za-z0-9_]+", "_", key)


class PrometheusSink:
    """Sets one gauge per metric; a gauge keeps its value until the metric is measured again.

    The metric's own name is the tag `key`, so that two names that differ only in punctuation stay
    apart. Ray must be running.

    Args:
        run: name of the run, the tag `run` of every gauge.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._gauges: dict[str, Gauge] = {}

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Set the gauges of one row and `olmrl_step`; NaN and infinities are left out."""
        for key, value in {"step": step, **row}.items():
            if math.isfinite(value):
                self._gauge(key).set(value, tags={"run": self._run, "key": key})

    def close(self) -> None:
        """Nothing to flush: Ray reports on its own, and forgets the gauges with the process."""

    def _gauge(self, key: str) -> Gauge:
        name = gauge_name(key)
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, description=f"olmrl metric {key}", tag_keys=_TAGS)
        return self._gauges[name]


class EngineGauges:
    """What one vLLM engine says of itself after every step; Ray adds the tag `WorkerId`.

    vLLM makes it when it stands in `stat_loggers` of `LLMEngine.from_engine_args` and
    `disable_log_stats` is false. It has the methods of vLLM's `StatLoggerBase`.
    """

    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
        self._running = Gauge(gauge_name("engine/running"), "sequences being decoded")
        self._waiting = Gauge(gauge_name("engine/waiting"), "sequences waiting for room")
        self._cache = Gauge(gauge_name("engine/kv_cache_usage"), "share of the KV cache in use")
        self._tokens = Counter(gauge_name("engine/generated_tokens"), "tokens sampled")
        self._preempted = Counter(gauge_name("engine/preemptions"), "sequences put back for room")

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        """Take the figures of one engine step; vLLM leaves out what it did not measure."""
        if scheduler_stats is not None:
            self._running.set(scheduler_stats.num_running_reqs)
            self._waiting.set(scheduler_stats.num_waiting_reqs)
            self._cache.set(scheduler_stats.kv_cache_usage)
        if iteration_stats is not None:
            for counter, amount in (
                (self._tokens, iteration_stats.num_generation_tokens),
                (self._preempted, iteration_stats.num_preempted_reqs),
            ):
                if amount:  # Ray's counters refuse 0
                    counter.inc(amount)

    def log_engine_initialized(self) -> None:
        """Nothing to say."""

    def log(self) -> None:
        """Nothing to print: Prometheus reads the gauges."""

    def record_sleep_state(self, is_awake: int, level: int) -> None:
        """Not shown."""
