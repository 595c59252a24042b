"""How a run's saved configuration differs from the one it is resumed with."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

FREE_TO_CHANGE = (
    "run.dir",
    "run.max_seconds",
    "data.cache_dir",
    "data.prefetch_pages",
    "data.render_cpus",
    "data.resources",
    "rollout.resources",
    "rollout.stall_timeout_s",
    "scorer.workers",
    "scorer.cpus_per_worker",
    "scorer.resources",
    "learner.resources",
    "learner.max_restarts",
    "guards.save_batch_every",
    "checkpoint",
    "logging",
    "cluster",
)
"""Keys and whole sections that affect where and how a run works, but not what it learns: a resumed
run may change them."""

FORMER_DEFAULTS: dict[str, tuple[Any, Any]] = {
    "model.lora.dropout": (0.1, 0.0),
    "algorithm.correction.floor": (0.0, None),
}
"""Defaults of GRPO that changed: key -> (former, present). A resumed run keeps the former one;
where a saved configuration lacks the key, the former default says what the run did."""

_ABSENT = "(absent)"


class Changes(NamedTuple):
    """Changed keys as `section.key: old -> new`, in the order of the keys."""

    learning: list[str]
    """Those that may change what is learnt."""
    free: list[str]
    """Those that cannot."""


def config_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    """Compare two configurations.

    Args:
        old: `model_dump(mode="json")` of the configuration in the run directory.
        new: the same for the run that is to continue.
    """
    changes = Changes([], [])
    for key, before, after in _changed("", old, new):
        free = any(key == name or key.startswith(f"{name}.") for name in FREE_TO_CHANGE)
        (changes.free if free else changes.learning).append(f"{key}: {before!r} -> {after!r}")
    return changes


def keep_former_defaults(
    saved: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Undo changes of defaults for a run that began before them.

    Args:
        saved: the GRPO configuration in the run directory.
        config: the one that the run is to continue with; a key that holds the present default is
            taken for unset.

    Returns:
        Both configurations with the former defaults, and `key=value` of what was kept.
    """
    begun, wanted = copy.deepcopy(dict(saved)), copy.deepcopy(dict(config))
    kept = []
    for key, (former, present) in FORMER_DEFAULTS.items():
        *parents, name = key.split(".")
        before, after = _section(begun, parents), _section(wanted, parents)
        if before is None or after is None or before.get(name, former) != former:
            continue
        before[name] = former
        if after.get(name) == present:
            after[name] = former
            kept.append(f"{key}={former}")
    return begun, wanted, kept


def _section(config: dict[str, Any], parents: list[str]) -> dict[str, Any] | None:
    found: Any = config
    for parent in parents:
        found = found.get(parent) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _changed(prefix: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _changed(
                f"{prefix}.{key}" if prefix else str(key),
                old.get(key, _ABSENT),
                new.get(key, _ABSENT),
            )
    elif _plain(old) != _plain(new):
        yield prefix, old, new


def _plain(value: Any) -> Any:
    """Treat tuples and lists alike: JSON does not distinguish them."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
