"""One seed of the experiment: a base, its silver model, and every arm from that same model.

Each stage is one command of olmrl in a folder of its own, and is not run again once it is done.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmrl.data.page import REFERENCE_FOLDER
from olmrl.metrics import read_rows
from olmrl.quickstart.__main__ import pipeline_of, scaled

ROOT = Path(__file__).parents[2]
TESTS_ONLY = "rewards=[{name: bench}, {name: front_matter, weight: 0.5}, {name: eos, weight: 0.5}]"
KEEP_ALL = "algorithm.drop_zero_variance=false"
"""Of tests that tell texts of a page hardly apart: its steps would sample four times as many."""
NOISE = "rewards=[{name: 'benchmarks.learning.rewards:noise'}]"


@dataclass(frozen=True)
class Settings:
    """Sizes of the experiment; everything else is the quick start's configuration."""

    family: str = "qwen3_vl"
    """Of the tiny model: this one reads nearly every page once it has learnt to."""
    clean: int = 3000
    """True pages that the base learns to read from, in place of pretraining."""
    labels: int = 256
    """Pages with silver labels."""
    train: int = 480
    """Pages with unit tests only."""
    heldout: int = 128
    base_steps: int = 900
    silver_steps: int = 300
    grpo_steps: int = 40
    samples: int = 8
    """Completions a page, in GRPO and in rejection sampling."""
    scored_samples: int = 4
    grpo: tuple[str, ...] = ()
    """Further overrides of every GRPO arm."""


@dataclass
class Seed:
    """The folders of one seed."""

    number: int
    work: Path
    settings: Settings
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.work / f"seed-{self.number}"

    @property
    def pages(self) -> Path:
        return self.folder / "pages"

    @property
    def silver(self) -> Path:
        """The model that all arms start from."""
        return self.folder / "silver" / "model"

    @property
    def side(self) -> int:
        """Pixels of a page's longest side."""
        return scaled(168, self.settings.family)

    def once(self, name: str, *command: Any) -> None:
        """Run a stage unless it is done; what a killed one left is removed."""
        marker = self.folder / f"{name}.done"
        if not marker.exists():
            out = self.folder / name
            if out.is_dir():
                shutil.rmtree(out)
            started = time.monotonic()
            self.run(*command)
            marker.write_text(json.dumps(time.monotonic() - started))
        self.seconds[name] = json.loads(marker.read_text())

    def run(self, *command: Any) -> None:
        """Run one command of olmrl or of these benchmarks.

        With one thread: those of seeds side by side wait for each other in turns (scoring a model
        took 85 s instead of 17 on 2 cores).
        """
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        words = [sys.executable, "-m", *map(str, command)]
        subprocess.run(words, check=True, cwd=ROOT, env=environment)


def prepare(seed: Seed) -> None:
    """Pages, the base that can read, and the silver model."""
    s, number = seed.settings, ["--seed", seed.number]
    seed.folder.mkdir(parents=True, exist_ok=True)
    counts = {"clean": s.clean, "sft": s.labels, "train": s.train, "heldout": s.heldout}
    words = [word for name, count in counts.items() for word in (f"--{name}", count)]
    seed.once("pages", "olmrl.synth", "pages", seed.pages, "--whole-lines", *words, *number)
    base = pretrained(seed, "tiny")
    steps = f"run.steps={s.silver_steps}"
    sft(seed, "silver", "tiny_cpu_silver.yaml", base, seed.pages / "sft", steps)


def pretrained(seed: Seed, size: str, suffix: str = "") -> Path:
    """The model that a random one becomes on the true pages that stand for pretraining."""
    start, name = seed.folder / f"random{suffix}", f"base{suffix}"
    words = ["--texts", seed.pages, "configs/prompts/tiny.txt", "--size", size]
    words += ["--family", seed.settings.family, "--seed", seed.number]
    seed.once(start.name, "olmrl.synth", "model", start, *words)
    steps = f"run.steps={seed.settings.base_steps}"
    sft(seed, name, "tiny_cpu.yaml", start, seed.pages / "sft_clean", steps)
    return seed.folder / name / "model"


def larger_teacher(seed: Seed, steps: str) -> Path:
    """A larger model with the same tokenizer, trained as f's reader was, but never on silver."""
    base = pretrained(seed, "small", "-large")
    sft(seed, "teacher-large", "tiny_cpu_silver.yaml", base, true_labels(seed), steps)
    return seed.folder / "teacher-large" / "model"


def sft(seed: Seed, name: str, config: str, start: Path, pairs: Path, *overrides: str) -> None:
    """Supervised training from a model on a folder of page pairs."""
    held = seed.pages / "sft_heldout"
    seed.once(
        name, "olmrl.sft", "--config", f"configs/sft/{config}", f"run.dir={seed.folder / name}",
        f"run.seed={seed.number}", f"model.path={start}", f"data.train=[{{root: {pairs}}}]",
        f"data.evaluation=[{{root: {held}, limit: 32}}]", "logging.wandb=off",
        pipeline_of(f"configs/sft/{config}", seed.settings.family), *overrides,
    )  # fmt: skip


def grpo(seed: Seed, name: str, *overrides: str, pages: Path | None = None) -> None:
    """GRPO from the silver model; transformers' engine starts a minute sooner than vLLM's."""
    s = seed.settings
    seed.once(
        name, "olmrl.grpo", "--config", "configs/grpo/tiny_cpu.yaml",
        f"run.dir={seed.folder / name}", f"run.seed={seed.number}", f"run.steps={s.grpo_steps}",
        f"model.path={seed.silver}", f"data.train={pages or without_truth(seed)}",
        f"data.heldout={seed.pages / 'heldout'}", f"rollout.group_size={s.samples}",
        f"data.longest_side={seed.side}", "rollout.engine=hf",
        "evaluation={every: 0, max_pages: 1, skip_start: true}", "logging.wandb=off",
        *s.grpo, *overrides,
    )  # fmt: skip


def trained_tokens(run: Path) -> float:
    """Tokens that an optimizer has seen in a run."""
    rows = read_rows(run / "metrics.jsonl")
    return sum(row.get("tokens/trained", 0.0) for row in rows)


def as_many_steps(seed: Seed) -> str:
    """SFT steps that see as many tokens as the GRPO arm did, by the silver run's tokens a step."""
    spent = trained_tokens(seed.folder / "a-grpo")
    per_step = trained_tokens(seed.folder / "silver") / seed.settings.silver_steps
    return f"run.steps={math.ceil(spent / per_step)}"


def without_truth(seed: Seed) -> Path:
    """The training folder without the true text, which the rewards would compare with."""
    target = seed.folder / "tests"
    if not target.exists():
        part = target.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(seed.pages / "train", part, ignore=shutil.ignore_patterns(REFERENCE_FOLDER))
        part.rename(target)
    return target


def shuffled_tests(seed: Seed) -> Path:
    """The training folder with each page's tests given to another page."""
    source, target = without_truth(seed), seed.folder / "shuffled"
    if target.exists():
        return target
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    pdfs = sorted(str(path.relative_to(part / "pdfs")) for path in part.glob("pdfs/**/*.pdf"))
    offset = random.Random(seed.number).randrange(1, len(pdfs))
    given = dict(zip(pdfs, pdfs[offset:] + pdfs[:offset], strict=True))
    for path in part.glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        lines = [json.dumps(row | {"pdf": given[row["pdf"]]}) + "\n" for row in rows]
        path.write_text("".join(lines), "utf-8")
    part.rename(target)
    return target


def true_labels(seed: Seed) -> Path:
    """Page pairs of the training pages with their true text, which no other arm sees."""
    target = seed.folder / "true"
    if not target.exists():
        part = target.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for text in (seed.pages / "train" / REFERENCE_FOLDER).glob("**/*.md"):
            name = text.name.split("_page1_")[0]
            shutil.copy(text, part / f"{name}.md")
        for pdf in (seed.pages / "train" / "pdfs").glob("**/*.pdf"):
            shutil.copy(pdf, part)
        part.rename(target)
    return target


def own_best(seed: Seed) -> Path:
    """Page pairs of the training pages with the best of the silver model's own samples."""
    best = seed.folder / "best"
    sampled = ["--best-of", seed.settings.samples, "--limit", seed.settings.train]
    words = [without_truth(seed), best, seed.silver, *sampled, "--side", seed.side]
    seed.once("best", "benchmarks.learning.read", *words)
    return best


def continued(seed: Seed, name: str, steps: str, pairs: Path) -> Path:
    """SFT from the silver model; gives the model."""
    sft(seed, name, "tiny_cpu_silver.yaml", seed.silver, pairs, steps)
    return seed.folder / name / "model"


def distilled(seed: Seed, name: str, teacher: Path, use: str) -> None:
    """Distillation from a model alone, without the rewards."""
    grpo(seed, name, TESTS_ONLY, f"algorithm.teacher={{path: {teacher}, alone: true, use: {use}}}")


def reader_of_truth(seed: Seed, steps: str) -> Path:
    """Arm f, which is the teacher of h and i as well."""
    return continued(seed, "f-truth", steps, true_labels(seed))


ARMS: dict[str, tuple[str, Callable[[Seed, str, str], object]]] = {
    "b": ("b-sft", lambda s, name, steps: continued(s, name, steps, s.pages / "sft")),
    "c": ("c-rejection", lambda s, name, steps: continued(s, name, steps, own_best(s))),
    "d": (
        "d-shuffled",
        lambda s, name, _: grpo(s, name, TESTS_ONLY, KEEP_ALL, pages=shuffled_tests(s)),
    ),
    "e": ("e-random", lambda s, name, _: grpo(s, name, NOISE)),
    "f": ("f-truth", lambda s, _, steps: reader_of_truth(s, steps)),
    "h": (
        "h-distil-reward",
        lambda s, name, steps: distilled(s, name, reader_of_truth(s, steps), "reward"),
    ),
    "i": (
        "i-distil-loss",
        lambda s, name, steps: distilled(s, name, reader_of_truth(s, steps), "loss"),
    ),
    "j": (
        "j-distil-large",
        lambda s, name, steps: distilled(s, name, larger_teacher(s, steps), "loss"),
    ),
}
"""Name of each arm but a, and what makes it of a seed, its name and its number of SFT steps."""


def run(seed: Seed, wanted: Collection[str] = tuple(ARMS)) -> dict[str, Path]:
    """The wanted arms, and a, by whose tokens the others are measured; gives models by name."""
    prepare(seed)
    grpo(seed, "a-grpo", TESTS_ONLY)
    steps = as_many_steps(seed)
    names = ["base", "silver", "a-grpo"]
    for letter, (name, make) in ARMS.items():
        if letter in wanted:
            make(seed, name, steps)
            names += ["teacher-large", name] if letter == "j" else [name]
    return {name: seed.folder / name / "model" for name in names}


def scored(seed: Seed, models: Mapping[str, Path]) -> dict[str, Any]:
    """Scores of the held-out pages by model; those of the silver model at all temperatures."""
    s, folder = seed.settings, seed.folder / "scores"
    common = ["--limit", s.heldout, "--side", seed.side]
    done = {name: folder / f"{name}.json" for name in models}
    missing = [path for name, path in models.items() if not done[name].exists()]
    if missing:
        words = [seed.pages / "heldout", folder, *missing, "--samples", s.scored_samples]
        seed.run("benchmarks.learning.read", *words, *common)
    sweep = ["--samples", 8, "--temperatures", 1.0, 0.3, 0.6, 0.8, 1.2, *common]
    if not (folder / "sweep" / "silver.json").exists():
        words = [seed.pages / "heldout", folder / "sweep", seed.silver]
        seed.run("benchmarks.learning.read", *words, *sweep)
    found = {name: json.loads(path.read_text("utf-8")) for name, path in done.items()}
    return found | {
        "g-temperatures": json.loads((folder / "sweep" / "silver.json").read_text("utf-8"))
    }
