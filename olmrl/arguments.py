"""The argument parser of every command."""

from __future__ import annotations

import argparse
from typing import Any


class ArgumentParser(argparse.ArgumentParser):
    """Takes every option by its whole name only, and so do the parsers of its verbs.

    A shortened option would change its meaning with the next option that begins alike.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """As for `argparse.ArgumentParser`."""
        super().__init__(*arguments, **settings | {"allow_abbrev": False})
