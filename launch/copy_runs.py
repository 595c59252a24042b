"""Copy a folder of runs to a bucket every few minutes: `python launch/copy_runs.py RUNS s3://B/runs`.

Only new and changed files are copied; nothing is deleted at the target. The file that declares a
checkpoint complete is copied after the rest, so a copy only counts once it is complete.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import tempfile
import time
from pathlib import Path

from olmrl import storage
from olmrl.checkpoint.manifest import COMPLETE

_UNFINISHED = ".partial"
"""Suffix of a checkpoint that is being written."""

Sent = dict[str, tuple[int, int]]
"""Size and modification time (ns) of every copied file, by its path under the folder."""


def changed(runs: Path, sent: Sent) -> list[tuple[str, tuple[int, int]]]:
    """Files to copy, in copying order, with size and modification time."""
    found = []
    for folder, names, files in os.walk(runs):
        names[:] = [name for name in names if not name.endswith(_UNFINISHED)]
        for file in files:
            path = Path(folder) / file
            try:
                stat = path.stat()
            except FileNotFoundError:  # pruned in the meantime
                continue
            relative = path.relative_to(runs).as_posix()
            state = (stat.st_size, stat.st_mtime_ns)
            if sent.get(relative) != state:
                found.append((relative, state))
    return sorted(found, key=lambda item: (Path(item[0]).name == COMPLETE, item[0]))


def copy(runs: Path, target: str, sent: Sent) -> int:
    """Copy what has changed since the last call.

    Returns:
        Number of files copied.
    """
    fs, root = storage.filesystem(target)
    count = 0
    for relative, state in changed(runs, sent):
        destination = f"{root}/{relative}"
        fs.makedirs(os.path.dirname(destination), exist_ok=True)
        try:
            fs.put_file(str(runs / relative), destination)
        except FileNotFoundError:  # pruned in the meantime
            continue
        sent[relative] = state
        count += 1
    return count


def repeat(runs: Path, target: str, every_s: float) -> None:
    """Copy forever; what fails on the network is copied in the next pass."""
    sent: Sent = {}
    while True:
        try:
            count = copy(runs, target, sent)
            sys.stderr.write(f"copy_runs.py: {count} files to {target}\n")
        except OSError as error:
            sys.stderr.write(f"copy_runs.py: {error}; trying again in {every_s:g} s\n")
        time.sleep(every_s)


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(prog="copy_runs.py")
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument("target", help="s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or a folder")
    parser.add_argument("--every", type=float, default=600.0, help="seconds to pause (default 600)")
    parser.add_argument("--once", action="store_true", help="copy once and exit")
    arguments = parser.parse_args(argv)
    if arguments.once:
        sys.stdout.write(f"{copy(arguments.runs, arguments.target, {})} files\n")
        return 0
    with open(Path(tempfile.gettempdir()) / f"olmrl-copy-runs-{os.getuid()}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # `ray up` on a running cluster starts everything a second time
            sys.stderr.write("copy_runs.py: already running on this machine\n")
            return 1
        repeat(arguments.runs, arguments.target, arguments.every)
    return 0


if __name__ == "__main__":
    sys.exit(main())
