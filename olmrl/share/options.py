"""Options that every push has, and what can be refused of them at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial

from olmrl.share import upload
from olmrl.share.cards import check_licence, check_repo


def add_sharing_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where it goes, who may see it, and under which licence."""
    parser.add_argument("repo", metavar="ORG/NAME", help="name on the Hub")
    parser.add_argument("--dry-run", action="store_true", help="show card and files, send nothing")
    parser.add_argument(
        "--public", action="store_true", help="for everybody; without it, it is private"
    )
    parser.add_argument(
        "--licence", "--license", metavar="ID", help="what it is shared under, as the Hub names it"
    )
    parser.add_argument("--licence-name", metavar="NAME", help="with --licence other")
    parser.add_argument("--licence-link", metavar="URL", help="with --licence other")


def sharing_checks(options: argparse.Namespace) -> Iterator[Callable[[], object]]:
    """For `errors.check_all`: name, licence and, unless it is a dry run, the right to send."""
    yield partial(check_repo, options.repo)
    yield partial(_check_licence, options)
    if not options.dry_run:
        yield upload.hub


def _check_licence(options: argparse.Namespace) -> None:
    licence = check_licence(options.licence)
    if licence == "other" and not (options.licence_name and options.licence_link):
        raise ValueError("--licence other: say which with --licence-name and --licence-link")
    if licence == "other" and not options.licence_link.startswith(("http://", "https://")):
        raise ValueError(f"--licence-link {options.licence_link}: must begin with https://")
    if licence != "other" and (options.licence_name or options.licence_link):
        raise ValueError(f"--licence {licence}: --licence-name and --licence-link are for `other`")
