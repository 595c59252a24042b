"""What can go wrong between a learner and an engine; picklable, as they cross processes."""

from __future__ import annotations

from olmrl.guards import GuardFailure


class EngineBroken(RuntimeError):
    """The engine's state is unknown (a step or an update failed): it must be replaced."""


class LinkBroken(RuntimeError):
    """An engine left a collective that the learner cannot leave: only a new process can go on."""


class WeightMismatch(GuardFailure):
    """Learner and engine hold different weights after a sync."""
