"""Card and files on the console, and then to the Hub, unless it is a dry run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from olmrl.share import upload
from olmrl.share.upload import Item, Target

CARD = "README.md"


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def send(
    target: Target,
    card: str,
    items: Sequence[Item],
    what: str,
    *,
    dry_run: bool,
    left: Sequence[str],
) -> None:
    """Show what is shared, and share it.

    Args:
        target: The repository.
        card: Its card.
        items: The other files.
        what: What is shared, in words; the commit's message too, so without a path.
        dry_run: Show the card, and send nothing.
        left: Names of files that stay here.

    Raises:
        ValueError: no token, or the Hub refuses.
    """
    api = None if dry_run else upload.hub()
    everything = [Item(CARD, card.encode("utf-8")), *items]
    seen = "public" if target.public else "private"
    say(f"{target.repo}, a {seen} {target.kind}: {what}")
    if dry_run:
        say(f"\n----- {CARD}\n{card}-----\n")
    for line in upload.listing(everything):
        say(line)
    if left:
        say(f"stays here, as it is no part of the {target.kind}: {', '.join(left)}")
    if api is None:
        say("dry run: nothing was sent")
        return
    done = upload.push(api, target, everything, what)
    kept = f", {len(done.same)} were there already" if done.same else ""
    gone = f", of an earlier push removed: {', '.join(done.removed)}" if done.removed else ""
    say(f"{len(done.added)} files sent{kept}{gone}: {done.url}")
