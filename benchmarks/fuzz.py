"""Damaged and hostile inputs for everything that reads what others wrote.

    python benchmarks/fuzz.py --minutes 5 --seed 1            # all parts, the time shared
    python benchmarks/fuzz.py --minutes 60 --seed 1 --parts pdf

Input N of a seed is always the same, so a finding is made again by
`--parts PART --seed S --first N --inputs 1`. A target may refuse an input with its own error (a bad
page, a sentence for the user); any other exception is a crash, and more than the part's deadline a
hang. What does either is kept below --findings, one file and its traceback for each kind. The
figures are added to results/fuzz.json.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")

from fuzzing.parts import PARTS
from fuzzing.record import Part, append, circumstances

RESULTS = Path(__file__).parent / "results" / "fuzz.json"


def main() -> int:
    """Runs the parts; the exit code is 1 after a crash or a hang."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=5.0, help="in all, shared by the parts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parts", nargs="+", choices=sorted(PARTS), default=sorted(PARTS))
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--inputs", type=int, help="stop after so many inputs of each part")
    parser.add_argument("--corpus", help="mutate the PDFs of a folder instead of made ones")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options.findings.mkdir(parents=True, exist_ok=True)
    bad = 0
    for name in options.parts:
        part = PARTS[name](options.seed, options.findings, options.corpus)
        try:
            part.run(
                options.first,
                time.monotonic() + 60 * options.minutes / len(options.parts),
                options.inputs,
            )
        except KeyboardInterrupt:
            print("stopped; the figures so far are kept", file=sys.stderr)
        finally:
            part.close()
        append(options.results, _row(part, options))
        bad += part.crashes.total() + part.hangs.total()
        print(_sentence(part))
    return int(bad > 0)


def _row(part: Part, options: argparse.Namespace) -> dict[str, object]:
    return {
        **part.row(),
        "first": options.first,
        "corpus": options.corpus or "made",
        **circumstances(),
    }


def _sentence(part: Part) -> str:
    row = part.row()
    return (
        f"{part.name}: {part.inputs} inputs in {part.seconds:.0f} s, "
        f"{part.crashes.total()} crashes, {part.hangs.total()} hangs, "
        f"{part.held.total()} held by the fence, peak {row['peak_mib']} MiB"
    )


if __name__ == "__main__":
    sys.exit(main())
