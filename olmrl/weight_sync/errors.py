"""What can go wrong between a learner and an engine; picklable, as they cross processes."""

from __future__ import annotations

from olmrl.guards import GuardFailure


class EngineBroken(RuntimeError):
    """The engine's state is unknown (a step or an update failed): it must be replaced."""


class WeightMismatch(GuardFailure):
    """Learner and engine hold different weights after a sync."""
