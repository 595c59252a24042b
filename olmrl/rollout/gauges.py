"""An engine's own counters for Prometheus, as Ray metrics (see `run.prometheus`)."""

from __future__ import annotations

from typing import Any

from ray.util.metrics import Counter, Gauge

from olmrl.metrics import gauge_name


class EngineGauges:
    """One vLLM engine's own figures after every step; Ray adds the tag `WorkerId`.

    vLLM makes it when it is listed in `stat_loggers` of `LLMEngine.from_engine_args` and
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
