"""Coverage-guided fuzzing of what reads text: the targets of fuzz.py under atheris (libFuzzer).

    python benchmarks/fuzz_guided.py --part front_matter --minutes 10 --corpus /tmp/corpus

atheris is not a dependency of olmrl: install it where this is run. Inputs that reach new branches
are kept in the corpus, so that a later call goes on from there. A crash ends the run, with its
input in --findings; the figures are added to results/fuzz.json.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")

import atheris

with atheris.instrument_imports(include=["olmrl"]):
    from fuzzing.text_targets import TEXT_PARTS

from fuzzing.record import Part, append, circumstances

RESULTS = Path(__file__).parent / "results" / "fuzz.json"
_PARTS = {part.name: part for part in TEXT_PARTS}
_SEEDS = 50
"""Inputs of fuzz.py that a new corpus begins with."""


def main() -> None:
    """Fuzzes one part until the time is over or an input crashes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--part", choices=sorted(_PARTS), required=True)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    for folder in (options.corpus, options.findings):
        folder.mkdir(parents=True, exist_ok=True)
    part = _PARTS[options.part](options.seed, options.findings, None)
    if not any(options.corpus.iterdir()):
        for number in range(_SEEDS):
            (options.corpus / f"seed-{number}").write_bytes(part.make(number))
    began, until = time.monotonic(), time.monotonic() + 60 * options.minutes

    def one(data: bytes) -> None:
        if part.name != "tar":  # the others are given texts
            data = data.decode("utf-8", "replace").encode("utf-8")
        for _ in part.targets(data):
            pass
        part.inputs += 1
        if time.monotonic() > until:
            # libFuzzer never returns to Python, nor runs its exit handlers
            _record(part, options, time.monotonic() - began)
            os._exit(0)

    words = [sys.argv[0], str(options.corpus), f"-seed={options.seed}", "-timeout=60"]
    atheris.Setup([*words, f"-artifact_prefix={options.findings}/"], one)
    atheris.Fuzz()


def _record(part: Part, options: argparse.Namespace, seconds: float) -> None:
    row = part.row() | {
        "seconds": round(seconds, 1),
        "guided_by": f"coverage (atheris), {sum(1 for _ in options.corpus.iterdir())} inputs kept",
        **circumstances(),
    }
    append(options.results, row)
    print(f"{part.name}: {part.inputs} inputs in {seconds:.0f} s, no crash, no hang", flush=True)


if __name__ == "__main__":
    main()
