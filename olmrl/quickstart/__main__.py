"""Pages, a tiny model, SFT warm-up, GRPO, report, on two CPU cores.

Runs the commands that a user would run, one after the other, each in its own process, and finally
says what improved. Pages and the warmed-up model of each family are kept under data/quickstart and
reused. Ctrl-C stops it, and the next call goes on where it was, within the GRPO run too; otherwise
every call creates a new run directory under runs/.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from olmrl import shipped, storage
from olmrl.arguments import ArgumentParser
from olmrl.config.load import load
from olmrl.config.schema import GrpoConfig
from olmrl.door import behind_door
from olmrl.models.registry import FAMILIES
from olmrl.report.answer import all_changes, signed
from olmrl.run.directory import RunDirectory

DATA = Path("data/quickstart")
RUNS = Path("runs")
SETTINGS = "configs/quickstart.yaml"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHOWN = {
    "sampled/pass_rate": "held-out unit tests, sampled",
    "greedy/pass_rate": "held-out unit tests, greedy",
    "greedy/reading": "held-out reading, greedy",
}
"""Scores of the result, and what they are called."""
BENCHES = {"train": "train", "heldout": "heldout"}
"""Folders of pages by key of the data section."""
FAMILY = "qwen2_5_vl"
"""The family whose figures README gives; its models lie in `DATA` itself, as the configurations
expect them."""


def main(argv: list[str] | None = None, prog: str = "python -m olmrl.quickstart") -> int:
    """Command line entry."""
    parser = ArgumentParser(prog, description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="make pages and warm-up model again")
    parser.add_argument(
        "--family", choices=tuple(FAMILIES), default=FAMILY, help="of the tiny model (%(default)s)"
    )
    parser.add_argument(
        "--small",
        action="store_true",
        help="every part in a few minutes: fewer pages and steps, no warm-up on true labels",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the GRPO run")
    arguments = parser.parse_intermixed_args(argv)
    return behind_door(prog, lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    quick = Quickstart.of(read_yaml(SETTINGS), arguments.family, arguments.small)
    refuse_early(quick, arguments.overrides)
    try:
        prepare(quick, arguments.fresh)
        run = train(quick, arguments.overrides)
    except Stopped as stopped:
        if stopped.signalled:
            again = "the same command goes on from there"
            sys.stderr.write(f"stopped at {stopped.title}; {again}\n")
        return stopped.code
    sys.stdout.write(f"\nDone in {time.monotonic() - started:.0f} s.\n")
    sys.stdout.writelines(f"{line}\n" for line in result(run))
    return 0


def refuse_early(quick: Quickstart, overrides: list[str]) -> None:
    """What would otherwise be refused after minutes, when GRPO begins.

    Raises:
        ConfigError: a wrong override, or packages that olmrl cannot work with.
    """
    # Deferred: half a second of CPU, which --help and a wrong option need not wait for.
    from olmrl.doctor.facts import gather
    from olmrl.preflight.checks import require, troubles, versions

    config = load(GrpoConfig, quick.settings["grpo"], [*quick.grpo, *overrides])
    require(troubles([versions], config, gather()))


@dataclass(frozen=True)
class Quickstart:
    """What one call makes, and where."""

    settings: dict[str, Any]
    """Of configs/quickstart.yaml; those of `small` in place of others with --small."""
    family: str
    folder: Path
    """Holds pages, models of `FAMILY` and what was made so far."""
    warm_up: tuple[str, ...] = ()
    """Overrides of the SFT runs."""
    grpo: tuple[str, ...] = ()
    """Overrides of the GRPO run."""

    @classmethod
    def of(cls, settings: dict[str, Any], family: str, small: bool) -> Quickstart:
        """From the settings file."""
        less = settings.pop("small", {})
        if not small:
            start = () if family == FAMILY else keys_of(settings["grpo"], DATA, family)
            return cls(settings, family, DATA, grpo=tuple(start))
        folder, steps = DATA / "small", less["grpo_steps"]
        bench = [f"data.{name}={folder / 'pages' / place}" for name, place in BENCHES.items()]
        length = (f"run.steps={steps}", f"evaluation.every={steps}")
        return cls(
            {**settings, **less},
            family,
            folder,
            (f"run.steps={less['warm_up_steps']}", "data.evaluation=[]"),
            (*length, *bench, *keys_of(settings["grpo"], folder, family)),
        )

    @property
    def models(self) -> Path:
        """Folder of the family's models."""
        return models(self.folder, self.family)

    @property
    def journal(self) -> Path:
        """File with what was made so far."""
        return self.folder / "made.json"


def read_yaml(file: str) -> Any:
    """Values of a configuration, the user's own or one that comes with olmrl."""
    return yaml.safe_load(Path(shipped.find(file)).read_text("utf-8"))


def models(folder: Path, family: str) -> Path:
    """Folder of a family's models."""
    return folder if family == FAMILY else folder / family


def prepare(quick: Quickstart, fresh: bool) -> None:
    """Make what is missing of pages, random model and warmed-up model."""
    made = read_journal(quick.journal)
    if fresh or made.get("settings") != quick.settings:
        made = {"settings": quick.settings, "done": []}
        for folder in [*quick.folder.glob("warmup-*"), *quick.folder.glob("*/warmup-*")]:
            shutil.rmtree(folder)
        storage.write_json(quick.journal, made)
    wanted = stages(quick)
    if not {title for title, _, _ in wanted} - set(made["done"]):
        sys.stdout.write(f"Pages and warmed-up model: {quick.folder} (--fresh recreates them)\n")
    for title, module, arguments in wanted:
        if title not in made["done"]:
            step(title, module, arguments)
            made["done"].append(title)
            storage.write_json(quick.journal, made)
    warm = quick.models / "warm"
    warm.unlink(missing_ok=True)
    number = len(quick.settings["warm_up"])
    warm.symlink_to(Path(f"warmup-{number}", "model"), target_is_directory=True)


def train(quick: Quickstart, overrides: list[str]) -> Path:
    """Run GRPO in a new directory, or go on with the run that was stopped; returns the directory.

    Raises:
        Stopped: the run did not end well.
    """
    made = read_journal(quick.journal)
    words = ["--config", quick.settings["grpo"], *quick.grpo, *overrides]
    stopped = made.pop("stopped", None)
    goes_on = stopped is not None and stopped["words"] == words and Path(stopped["run"]).exists()
    run = Path(stopped["run"]) if goes_on else new_run("quickstart")
    storage.write_json(quick.journal, made)
    try:
        step("GRPO", "olmrl.grpo", ["--resume", "auto", *words, f"run.dir={run}"])
    except Stopped as error:
        if error.signalled:
            storage.write_json(quick.journal, made | {"stopped": {"run": str(run), "words": words}})
        raise
    return run


def read_journal(file: Path) -> dict[str, Any]:
    """What was made so far; nothing at first."""
    return dict(json.loads(file.read_text("utf-8"))) if file.exists() else {}


def result(run: Path) -> list[str]:
    """What improved, where the report is, and what to do with pages of one's own."""
    evaluations = RunDirectory(str(run)).evaluations()
    lines = []
    if len(evaluations) > 1:
        changes = {c.name: c for c in all_changes(evaluations[0], evaluations[-1])}
        lines = [
            f"{title}: {changes[name].before:.3f} -> {changes[name].after:.3f} "
            f"({signed(changes[name])})"
            for name, title in SHOWN.items()
            if name in changes
        ]
    report = (run / "report.html").absolute()
    return [
        *lines,
        f"report: {report.as_uri()}",
        "your own pages: olmrl init my-run --data FOLDER   (X.pdf + X.md, or a bench folder)",
    ]


def stages(quick: Quickstart) -> list[tuple[str, str, list[str]]]:
    """Title, module and arguments of the commands that make pages and warmed-up model."""
    settings, family = quick.settings, quick.family
    seed = ["--seed", str(settings["seed"])]
    pages = ["pages", str(quick.folder / "pages"), *settings["pages"].split(), *seed]
    folder, kind = quick.models, "" if family == FAMILY else f" of {family}"
    start = folder / "random"
    texts = ["--texts", str(quick.folder / "pages"), "configs/prompts/tiny.txt"]
    model = ["model", str(start), *texts, "--family", family, *seed]
    found = [("Pages", "olmrl.synth", pages), (f"Model{kind}", "olmrl.synth", model)]
    for number, config in enumerate(settings["warm_up"], start=1):
        run = folder / f"warmup-{number}"
        settled = ["--resume", "auto", f"run.dir={run}", f"model.path={start}", *quick.warm_up]
        settled += [] if quick.folder == DATA else [pairs_of(config, quick.folder)]
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


def keys_of(config: str, folder: Path, family: str) -> list[str]:
    """Overrides of a GRPO configuration: the family's warmed-up model, and pages at its scale."""
    side = read_yaml(config)["data"]["longest_side"]
    return [
        f"model.path={models(folder, family) / 'warm'}",
        f"data.longest_side={scaled(side, family)}",
    ]


def pairs_of(config: str, folder: Path) -> str:
    """Override of an SFT configuration's pages: those of its kind in another folder."""
    roots = [Path(pages["root"]).name for pages in read_yaml(config)["data"]["train"]]
    places = ", ".join(f"{{root: {folder / 'pages' / name}}}" for name in roots)
    return f"data.train=[{places}]"


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

    The command has a session of its own, so that Ctrl-C reaches it through here only: as SIGTERM,
    which makes a run save, and ends what only begins without a traceback. Further ones are passed
    on as they are.

    Raises:
        Stopped: it did not end well.
    """
    sys.stdout.write(f"\n== {title}: python -m {module} {' '.join(arguments)}\n")
    sys.stdout.flush()
    children: list[subprocess.Popen[bytes]] = []
    arrived: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        for child in children:
            child.send_signal(number if arrived else signal.SIGTERM)
        arrived.append(number)

    former = {number: signal.signal(number, forward) for number in SIGNALS}
    command = [sys.executable, "-m", module, *arguments]
    try:
        children.append(subprocess.Popen(command, start_new_session=True))
        code = children[0].wait()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if arrived:
        raise Stopped(title, 128 + arrived[0], signalled=True)
    if code:
        raise Stopped(title, abs(code), signalled=code < 0)


def new_run(name: str) -> Path:
    """A run directory that does not exist yet."""
    candidates = (RUNS / f"{name}-{number}" for number in itertools.count(1))
    return next(path for path in candidates if not path.exists())


if __name__ == "__main__":
    sys.exit(main())
