"""A second start over as many page pairs as olmOCR-mix has, and the cost of the first one.

    python benchmarks/second_start.py [--pages 270000] [--first 4000]

`first` opens and judges pages that no run has seen, through Ray Data, as the start of an SFT run
does. `second` is the same start when all verdicts are known: find the pairs, stamp their files,
read the caches, and decide. Its pairs are hard links to a few pages, and its caches are written
from their stamps as a first start would have left them. Writes results/second_start.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", RAY_AUTH_MODE="disabled")

import ray
from rendering import STEPS, write_pages

from olmrl.cluster import Plan, Role
from olmrl.cluster.connect import connect
from olmrl.config.schema import SftDataConfig
from olmrl.data import text_rules, validate
from olmrl.data.page_sets import load_sets
from olmrl.data.sets import scan_sets

RESULTS = Path(__file__).parent / "results" / "second_start.json"
MODELS, FOLDER = 20, 1000


def link_pages(work: Path, root: Path, count: int) -> None:
    """Make pairs in folders of a thousand, as in an extracted mix."""
    models = sorted((work / "models").glob("*.pdf"))
    for number in range(count):
        folder = root / f"{number // FOLDER:04d}"
        if number % FOLDER == 0:
            folder.mkdir(parents=True)
        model = models[number % len(models)]
        os.link(model, folder / f"{number:06d}.pdf")
        os.link(model.with_suffix(".md"), folder / f"{number:06d}.md")


def settings(root: Path) -> SftDataConfig:
    return SftDataConfig(train=({"root": str(root)},), pipeline=STEPS)


def fill_caches(config: SftDataConfig, cache: Path) -> None:
    """Write the caches that a first start leaves: every pair good, every page kept."""
    train, _ = scan_sets(config)
    sources = [source for source, _ in train.items]
    found = {validate.stamp(source): "" for source in sources}
    validate.save_verdicts(str(cache / validate.CACHE_NAME), found)
    keys = text_rules._keys(train.items)
    judged = {key: "" for key in keys if key is not None}
    validate.save_verdicts(str(cache / text_rules.CACHE_NAME), judged)


def start(config: SftDataConfig, cache: Path) -> tuple[float, int]:
    """Seconds of a run's start, and the number of pairs that it opened."""
    begun = time.perf_counter()
    pages = load_sets(config, str(cache))
    return time.perf_counter() - begun, pages.opened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=270_000)
    parser.add_argument("--first", type=int, default=4000)
    arguments = parser.parse_args()
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        write_pages(work / "models", MODELS)
        link_pages(work, work / "few", arguments.first)
        link_pages(work, work / "many", arguments.pages)
        (work / "cache").mkdir()
        many = settings(work / "many")
        fill_caches(many, work / "cache")
        seconds, opened = start(many, work / "cache")
        assert opened == 0
        figures["second"] = {"pages": arguments.pages, "seconds": round(seconds, 1)}
        print(json.dumps(figures), flush=True)
        cpus = os.cpu_count() or 1
        role = Role("data", 1, float(cpus), 0.0)
        connect(None, cpus, Plan((role,), None), False)
        few = settings(work / "few")
        (work / "fresh").mkdir()
        seconds, opened = start(few, work / "fresh")
        assert opened == arguments.first
        figures["first"] = {
            "pages": arguments.first,
            "seconds": round(seconds, 1),
            "pages_per_s": round(arguments.first / seconds),
        }
        ray.shutdown()
    result = {
        **figures,
        "hardware": f"{os.cpu_count()} CPU cores ({platform.machine()})",
        "load_before": round(os.getloadavg()[0], 1),
        "date": datetime.date.today().isoformat(),
        "command": "python " + " ".join(sys.argv),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
