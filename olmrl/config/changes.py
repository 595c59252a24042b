"""What differs between a checkpoint's configuration and the one it is resumed with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_ABSENT = "(absent)"


def config_diff(
    old: Mapping[str, Any], new: Mapping[str, Any], ignore: Sequence[str] = ()
) -> list[str]:
    """List changed keys as `section.key: old -> new`, in the order of the keys.

    Args:
        old: `model_dump(mode="json")` of the configuration in the checkpoint.
        new: the same for the run that is to continue.
        ignore: keys or whole sections (`logging`, `run.steps`) whose change does not matter.
    """
    return [
        f"{key}: {before!r} -> {after!r}"
        for key, before, after in _changes("", old, new)
        if not any(key == i or key.startswith(f"{i}.") for i in ignore)
    ]


def _changes(prefix: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _changes(
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
