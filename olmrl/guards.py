"""What ends a run although parts of it could be started again."""

from __future__ import annotations


class GuardFailure(ValueError):
    """Training on would be blind (design.md, principle 4): no restart may go past this."""
