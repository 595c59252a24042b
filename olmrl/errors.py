"""Errors that cross rooms or processes: picklable, each with what it means for a run."""

from __future__ import annotations


class RunStopped(RuntimeError):
    """A run that ended early for a reason the user can act on."""


class PageRefused(ValueError):
    """A good page that the model cannot be given, whatever the configuration."""


class GuardFailure(ValueError):
    """Training on would be blind: no restart may go past this."""


class WeightMismatch(GuardFailure):
    """Learner and engine hold different weights after a sync."""


class EngineBroken(RuntimeError):
    """The engine's state is unknown (a step or an update failed): it must be replaced."""


class LinkBroken(RuntimeError):
    """An engine left a collective that the learner cannot leave: only a new process can go on."""
