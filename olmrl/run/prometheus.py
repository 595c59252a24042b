"""Metrics for Prometheus: every quantity of metrics.jsonl as a Ray metric.

Ray collects the metrics of all its processes and serves them on each node; Prometheus finds the
nodes in Ray's service discovery file. `launch/grafana/olmrl.json` shows them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ray.util.metrics import Gauge

from olmrl.metrics import gauge_name

_TAGS = ("run", "key")


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
        """Nothing to flush: Ray exports the gauges itself and drops them with the process."""

    def _gauge(self, key: str) -> Gauge:
        name = gauge_name(key)
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, description=f"olmrl metric {key}", tag_keys=_TAGS)
        return self._gauges[name]
