"""Errors that cross rooms or processes: picklable, each with its meaning for a run."""

from __future__ import annotations


class RunStopped(RuntimeError):
    """The run ended early for a reason that the user can act on."""


class PageRefused(ValueError):
    """A valid page that the model cannot take under any configuration."""


class GuardFailure(ValueError):
    """Training on would be blind: no restart may go past this."""


class WeightMismatch(GuardFailure):
    """Learner and engine have different weights after a sync."""


class EngineBroken(RuntimeError):
    """The engine's state is unknown (a step or an update failed), so it must be replaced."""


class LinkBroken(RuntimeError):
    """An engine left a collective that the learner cannot leave; only a new process can go on."""
