"""What every way of making pages can do besides: options of its command, and what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from olmrl.synth.licences import licence_of
from olmrl.synth.redact import redact_document
from olmrl.synth.variant_kinds import PICTURED, SET, parse_variants
from olmrl.synth.web_source import Document


@dataclass(frozen=True)
class Extras:
    """Chosen by the user."""

    variants: Mapping[str, float] = field(default_factory=dict)
    """Share of pages that get each kind of variant (`variant_kinds.parse_variants`)."""
    redact: bool = False
    """Mask personal data before a page is set."""
    licence: str | None = None
    """Of sources that state none."""
    against: tuple[str, ...] = ()
    """Bench folders; pages that overlap with them are dropped."""

    def shaping(self) -> dict[str, Any]:
        """What of this decides how pages are set; a folder keeps to it. None: as without."""
        own = {kind: share for kind, share in self.variants.items() if kind in SET}
        return {"variants": own or None, "redact": self.redact or None}

    def read(self, document: Document, data: bytes) -> dict[str, Any]:
        """Treat a document that was just read, in place.

        Args:
            document: What was read.
            data: Its file.

        Returns:
            What a manifest tells of it.
        """
        told: dict[str, Any] = {"licence": licence_of(data) or self.licence}
        if self.redact:
            told["redacted"] = redact_document(document)
        return told


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a command that makes pages."""
    parser.add_argument(
        "--variants",
        type=parse_variants,
        default={},
        metavar="KIND[=SHARE],...",
        help=f"further pages: {', '.join(sorted(PICTURED + SET))}; "
        "e.g. scan=0.5,rotate=0.1 (default share: all pages)",
    )
    parser.add_argument(
        "--redact",
        action="store_true",
        help="mask e-mail addresses, phone and card numbers and IBANs before a page is set",
    )
    parser.add_argument("--licence", help="licence of sources that state none, for the manifest")
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="DIR",
        help="bench folders: pages that overlap with one of theirs are dropped",
    )


def from_options(options: argparse.Namespace) -> Extras:
    """The extras that a command line asks for."""
    return Extras(options.variants, options.redact, options.licence, tuple(options.against))
