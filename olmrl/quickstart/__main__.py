"""Pages, a tiny model, SFT warm-up, GRPO, report, on two CPU cores.

Runs the commands that a user would run, one after the other, each in its own process, and finally
says what improved. Pages and the warmed-up model of each family are kept under data/quickstart and
reused; one that was stopped while it made them goes on where it was. Every call creates a new run
directory under runs/.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from olmrl import shipped, storage
from olmrl.models.registry import FAMILIES

DATA = Path("data/quickstart")
RUNS = Path("runs")
SETTINGS = "configs/quickstart.yaml"
FAMILY = "qwen2_5_vl"
"""The family whose figures README gives; its models lie in `DATA` itself, as the configurations
expect them."""


def main(argv: list[str] | None = None, prog: str = "python -m olmrl.quickstart") -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(prog, description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="make pages and warm-up model again")
    parser.add_argument(
        "--family", choices=tuple(FAMILIES), default=FAMILY, help="of the tiny model (%(default)s)"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the GRPO run")
    arguments = parser.parse_intermixed_args(argv)
    started = time.monotonic()
    settings = read_yaml(SETTINGS)
    family = arguments.family
    run = new_run("quickstart")
    start = [] if family == FAMILY else keys_of(settings["grpo"], family)
    grpo = ["--config", settings["grpo"], f"run.dir={run}", *start, *arguments.overrides]
    try:
        prepare(settings, family, arguments.fresh)
        step("GRPO", "olmrl.grpo", grpo)
    except Stopped as stopped:
        if stopped.signalled and stopped.title == "GRPO":
            again = f"python -m olmrl.grpo --resume auto {' '.join(grpo)}"
            sys.stderr.write(f"stopped; {again} goes on with this run\n")
        elif stopped.signalled:
            sys.stderr.write(f"stopped at {stopped.title}; the same command goes on from there\n")
        return stopped.code
    sys.stdout.write(f"\nDone in {time.monotonic() - started:.0f} s. Open {run / 'report.html'}\n")
    return 0


def read_yaml(file: str) -> Any:
    """Values of a configuration, the user's own or one that comes with olmrl."""
    return yaml.safe_load(Path(shipped.find(file)).read_text("utf-8"))


def models(family: str) -> Path:
    """Folder of a family's models."""
    return DATA if family == FAMILY else DATA / family


def prepare(settings: dict[str, Any], family: str, fresh: bool) -> None:
    """Make what is missing of pages, random model and warmed-up model."""
    journal = DATA / "made.json"
    made = json.loads(journal.read_text("utf-8")) if journal.exists() else {}
    if fresh or made.get("settings") != settings:
        made = {"settings": settings, "done": []}
        for folder in [*DATA.glob("warmup-*"), *DATA.glob("*/warmup-*")]:
            shutil.rmtree(folder)
        storage.write_json(journal, made)
    wanted = stages(settings, family)
    if not {title for title, _, _ in wanted} - set(made["done"]):
        sys.stdout.write(f"Pages and warmed-up model: {DATA} (--fresh recreates them)\n")
    for title, module, arguments in wanted:
        if title not in made["done"]:
            step(title, module, arguments)
            made["done"].append(title)
            storage.write_json(journal, made)
    warm = models(family) / "warm"
    warm.unlink(missing_ok=True)
    warm.symlink_to(Path(f"warmup-{len(settings['warm_up'])}", "model"), target_is_directory=True)


def stages(settings: dict[str, Any], family: str) -> list[tuple[str, str, list[str]]]:
    """Title, module and arguments of the commands that make pages and warmed-up model."""
    seed = ["--seed", str(settings["seed"])]
    pages = ["pages", str(DATA / "pages"), *settings["pages"].split(), *seed]
    folder, kind = models(family), "" if family == FAMILY else f" of {family}"
    start = folder / "random"
    texts = ["--texts", str(DATA / "pages"), "configs/prompts/tiny.txt"]
    model = ["model", str(start), *texts, "--family", family, *seed]
    found = [("Pages", "olmrl.synth", pages), (f"Model{kind}", "olmrl.synth", model)]
    for number, config in enumerate(settings["warm_up"], start=1):
        run = folder / f"warmup-{number}"
        settled = ["--resume", "auto", f"run.dir={run}", f"model.path={start}"]
        settled += [] if family == FAMILY else [pipeline_of(config, family)]
        title = f"SFT warm-up {number}{kind}"
        found.append((title, "olmrl.sft", ["--config", config, *settled]))
        start = run / "model"
    return found


def scaled(side: int, family: str) -> int:
    """Pixels of a page side that give a family as many image tokens as `FAMILY` has.

    Words of the pages stand on a grid of merged patches, without which a tiny model does not learn
    to read in minutes.
    """

    def unit(known: str) -> int:
        settings = FAMILIES[known].image_settings
        return settings.patch_size * settings.merge_size

    return side * unit(family) // unit(FAMILY)


def keys_of(config: str, family: str) -> list[str]:
    """Overrides of a GRPO configuration: the family's warmed-up model, and pages at its scale."""
    side = read_yaml(config)["data"]["longest_side"]
    return [f"model.path={models(family) / 'warm'}", f"data.longest_side={scaled(side, family)}"]


def pipeline_of(config: str, family: str) -> str:
    """Override of an SFT configuration's steps: pages are rendered at the family's scale."""
    steps = read_yaml(config)["data"]["pipeline"]
    for step in steps:
        if "target_longest_image_dim" in step:
            step["target_longest_image_dim"] = scaled(step["target_longest_image_dim"], family)
    return f"data.pipeline={json.dumps(steps)}"


class Stopped(Exception):
    """A command failed, or a signal ended it."""

    def __init__(self, title: str, code: int, signalled: bool) -> None:
        super().__init__(title)
        self.title = title
        self.code = code
        self.signalled = signalled


def step(title: str, module: str, arguments: list[str]) -> None:
    """Print a heading and run one command.

    Raises:
        Stopped: it did not end well.
    """
    sys.stdout.write(f"\n== {title}: python -m {module} {' '.join(arguments)}\n")
    sys.stdout.flush()
    child = subprocess.Popen([sys.executable, "-m", module, *arguments])
    signalled = False
    while True:
        try:
            code = child.wait()
            break
        except KeyboardInterrupt:  # the command has it too: it saves its work, then ends
            signalled = True
    if code or signalled:
        raise Stopped(title, abs(code) or 130, signalled)


def new_run(name: str) -> Path:
    """A run directory that does not exist yet."""
    candidates = (RUNS / f"{name}-{number}" for number in itertools.count(1))
    return next(path for path in candidates if not path.exists())


if __name__ == "__main__":
    sys.exit(main())
