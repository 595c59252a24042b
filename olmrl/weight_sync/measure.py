"""The cost of a weight sync, under the run's metric names."""

from __future__ import annotations

from olmrl.metrics import Last, Measurements, Sum


def sync_measurements(num_bytes: int, seconds: float, engines: int, failed: int) -> Measurements:
    """Bytes count once per engine that received them; seconds are for the whole send."""
    moved = num_bytes * engines
    return {
        "weight_sync/bytes": Sum(moved),
        "weight_sync/seconds": Sum(seconds),
        "weight_sync/gb_per_s": Last(moved / seconds / 1e9 if seconds else 0.0),
        "weight_sync/engines": Last(engines),
        "weight_sync/failed_engines": Sum(failed),
    }
