"""`python -m olmrl.quickstart`: pages, a tiny model, SFT warm-up, GRPO, report, on two CPU cores.

Runs the commands that a user would run, one after the other, each in its own process, and finally
says what improved. Pages and the warmed-up model are kept under data/quickstart and reused; every
call creates a new run directory under runs/.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

DATA = Path("data/quickstart")
RUNS = Path("runs")
SETTINGS = Path("configs/quickstart.yaml")


def main(argv: list[str] | None = None) -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(prog="python -m olmrl.quickstart", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="make pages and warm-up model again")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the GRPO run")
    arguments = parser.parse_args(argv)
    started = time.monotonic()
    settings = yaml.safe_load(SETTINGS.read_text("utf-8"))
    run = new_run("quickstart")
    try:
        prepare(settings, arguments.fresh)
        step(
            "GRPO",
            "olmrl.grpo",
            ["--config", settings["grpo"], f"run.dir={run}", *arguments.overrides],
        )
    except subprocess.CalledProcessError as error:
        return error.returncode
    sys.stdout.write(f"\nDone in {time.monotonic() - started:.0f} s. Open {run / 'report.html'}\n")
    return 0


def prepare(settings: dict[str, Any], fresh: bool) -> None:
    """Make what is missing of pages, random model and warmed-up model."""
    seed = ["--seed", str(settings["seed"])]
    pages = [*settings["pages"].split(), *seed]
    stamp = DATA / "made.json"
    wanted = json.dumps(settings, sort_keys=True)
    if fresh or not stamp.exists() or stamp.read_text("utf-8") != wanted:
        step("Pages", "olmrl.synth", ["pages", str(DATA / "pages"), *pages])
        texts = ["--texts", str(DATA / "pages"), "configs/prompts/tiny.txt"]
        step("Model", "olmrl.synth", ["model", str(DATA / "random"), *texts, *seed])
        for number, config in enumerate(settings["warm_up"], start=1):
            warm = new_run(f"warmup-{number}")
            start = DATA / ("random" if number == 1 else "warm")
            settled = [f"run.dir={warm}", f"model.path={start}"]
            step(f"SFT warm-up {number}", "olmrl.sft", ["--config", config, *settled])
            link(DATA / "warm", warm / "model")
        stamp.write_text(wanted, "utf-8")
    else:
        sys.stdout.write(f"Pages and warmed-up model: {DATA} (--fresh recreates them)\n")


def step(title: str, module: str, arguments: list[str]) -> None:
    """Print a heading and run one command."""
    sys.stdout.write(f"\n== {title}: python -m {module} {' '.join(arguments)}\n")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def new_run(name: str) -> Path:
    """A run directory that does not exist yet."""
    candidates = (RUNS / f"{name}-{number}" for number in itertools.count(1))
    return next(path for path in candidates if not path.exists())


def link(name: Path, target: Path) -> None:
    """Point a symlink at a folder, replacing an existing one."""
    name.unlink(missing_ok=True)
    name.symlink_to(target.resolve(), target_is_directory=True)


if __name__ == "__main__":
    sys.exit(main())
