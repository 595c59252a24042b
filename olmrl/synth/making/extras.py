"""What every way of making pages can do besides: options of its command, and what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from olmrl.mix.api import OPENAI
from olmrl.mix.prices import Price
from olmrl.mix.prices import parse as parse_price
from olmrl.synth.cleaning.licences import licence_of
from olmrl.synth.cleaning.redact import redact_document
from olmrl.synth.variants.kinds import PICTURED, SET, parse_variants
from olmrl.synth.web.document import Document


@dataclass(frozen=True)
class Reader:
    """Who reads the finished pages, and on what terms."""

    model: str
    """As its endpoint calls it."""
    base_url: str = OPENAI
    key_env: str = "OPENAI_API_KEY"
    price: Price | None = None
    """Of the user, or None for the list price."""
    max_usd: float | None = None
    """Dollars after which it is asked no more; pages that it has not read are left out."""
    share: float = 0.5
    """Share of a page's tests that it must pass."""
    strict: bool = False
    """Drop the tests that it fails."""
    prompt: str = "olmrl-v1"
    """What it is asked (`data.prompts.load_prompt`)."""
    side: int = 1288
    """Pixels of the longer side of a page."""
    max_tokens: int = 8192
    concurrency: int = 8
    tries: int = 6


@dataclass(frozen=True)
class Extras:
    """Chosen by the user."""

    variants: Mapping[str, float] = field(default_factory=dict)
    """Share of pages that get each kind of variant (`variants.kinds.parse_variants`)."""
    redact: bool = False
    """Mask personal data before a page is set."""
    licence: str | None = None
    """Of sources that state none."""
    against: tuple[str, ...] = ()
    """Bench folders; pages that overlap with them are dropped."""
    reader: Reader | None = None

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


def add_arguments(parser: argparse.ArgumentParser, kinds: Sequence[str] = PICTURED + SET) -> None:
    """Options of a command that makes pages.

    Args:
        parser: Of the command.
        kinds: Variants that it can make.
    """
    parser.add_argument(
        "--variants",
        type=partial(_variants, kinds=kinds),
        default={},
        metavar="KIND[=SHARE],...",
        help=f"further pages: {', '.join(sorted(kinds))}; "
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
    _add_reader_arguments(parser)


def _variants(text: str, kinds: Sequence[str]) -> dict[str, float]:
    try:
        return parse_variants(text, kinds)
    except ValueError as error:  # argparse would hide what it says
        raise argparse.ArgumentTypeError(str(error)) from error


def _add_reader_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reader", metavar="MODEL", help="a second model that reads every page; see --reader-share"
    )
    parser.add_argument("--reader-url", default=OPENAI, help="its OpenAI-compatible API")
    parser.add_argument(
        "--reader-key-env", default="OPENAI_API_KEY", help="variable with the key of that API"
    )
    parser.add_argument("--reader-price", help="IN,OUT dollars per million tokens")
    parser.add_argument("--reader-max-usd", type=float, help="ask it no more once this is spent")
    parser.add_argument(
        "--reader-share", type=float, default=0.5, help="share of a page's tests it must pass"
    )
    parser.add_argument(
        "--reader-prompt", default="olmrl-v1", help="olmrl-v1, olmocr-v4 or file:PATH"
    )
    parser.add_argument("--strict", action="store_true", help="drop the tests that it fails")


def from_options(options: argparse.Namespace) -> Extras:
    """The extras that a command line asks for.

    Raises:
        ValueError: a number is out of range, or --strict without --reader.
    """
    return Extras(
        options.variants,
        options.redact,
        options.licence,
        tuple(options.against),
        _reader(options),
    )


def _reader(options: argparse.Namespace) -> Reader | None:
    if not options.reader:
        if options.strict:
            raise ValueError("--strict drops the tests that a second reader fails: name a --reader")
        return None
    if not 0 <= options.reader_share <= 1:
        raise ValueError(f"--reader-share {options.reader_share:g} must be in 0..1")
    if options.reader_max_usd is not None and options.reader_max_usd <= 0:
        raise ValueError(f"--reader-max-usd {options.reader_max_usd:g} must be more than 0")
    return Reader(
        options.reader,
        base_url=options.reader_url,
        key_env=options.reader_key_env,
        price=parse_price(options.reader_price) if options.reader_price else None,
        max_usd=options.reader_max_usd,
        share=options.reader_share,
        strict=options.strict,
        prompt=options.reader_prompt,
    )


def told(report: Mapping[str, Any]) -> Iterator[str]:
    """Lines for the console on what came of the extras."""
    for kind, counts in report.get("variants", {}).items():
        rest = "; ".join(f"{count} x {why}" for why, count in counts.items() if why != "pages")
        yield f"  {kind}: {counts.get('pages', 0)} pages" + (f" ({rest})" if rest else "")
    known = report.get("in_benches", {})
    if known:
        name, reason = next(iter(known.items()))
        yield f"  {len(known)} pages occur in a bench and are dropped, e.g. {name} {reason}"
    read = report.get("reader")
    if read:
        dropped = f"{len(read['pages_dropped'])} pages dropped"
        failed = f"{read['tests_failed']} tests failed, {read['tests_dropped']} dropped"
        yield f"  {read['model']} read {read['pages_read']} pages: {dropped}; {failed}"
