"""Texts of a model on a bench folder's pages, and what they are worth.

    python -m benchmarks.learning.read PAGES OUT MODEL... --samples 4   scores of held-out pages
    python -m benchmarks.learning.read PAGES OUT MODEL --best-of 8      its own best samples

The first writes OUT/RUN.json for each RUN/model. Scores are those of `olmrl.bench`, by which
nothing is trained; the best samples are chosen by the tests as training rewards see them. One
engine in this process, no Ray: transformers' own, which draws vLLM's tokens and loads sooner.
"""

from __future__ import annotations

import argparse
import json
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from olmrl.config.schema import RewardConfig, RolloutConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.page import PageSource, load_page, scan_bench
from olmrl.evaluation.figures import reading
from olmrl.rewards.registry import build_all
from olmrl.rollout.engine_hf import HfEngine
from olmrl.rollout.requests import GenerationRequest
from olmrl.types import Completion, Page, RewardResult, SamplingSpec

BENCH = RewardConfig(name="bench", options={"integrity": False})
TRAINING = RewardConfig(name="bench")
MAX_TOKENS = 96
PROMPT = "file:configs/prompts/tiny.txt"


class Reader:
    """One engine."""

    def __init__(self, model: str, side: int) -> None:
        self._side = side
        self._encoder = EncoderSpec(model, PROMPT).build()
        config = RolloutConfig(engine="hf", dtype="float32", max_model_len=256, max_num_seqs=128)
        self._engine = HfEngine(self._encoder, config)

    def read(
        self, sources: Sequence[PageSource], temperature: float, samples: int, seed: int
    ) -> Iterator[tuple[Page, list[Completion]]]:
        """Each page with its completions, in the order of `sources`; temperature 0 is greedy."""
        sampling = SamplingSpec(temperature or 1.0, 1.0, MAX_TOKENS, greedy=temperature == 0)
        pages: dict[str, Page] = {}
        for source in sources:
            rendered = load_page(source, self._side)
            pages[source.page_id] = rendered.page
            first = zlib.crc32(f"{seed}/{source.page_id}".encode())
            seeds = tuple(first + number for number in range(samples))
            page = self._encoder.encode_page(rendered)
            self._engine.submit(GenerationRequest(source.page_id, page, sampling, seeds))
        found: dict[str, list[Completion]] = {page_id: [] for page_id in pages}
        missing = samples * len(pages)
        while missing:
            for done in self._engine.poll(1.0):
                if not isinstance(done, Completion):
                    raise RuntimeError(f"{done.group_id}: {done.reason}")
                found[done.group_id].append(done)
                missing -= 1
        for page_id, page in pages.items():
            yield page, sorted(found[page_id], key=lambda completion: completion.index)

    def close(self) -> None:
        self._engine.close()


def tests_of(page: Page, completions: Sequence[Completion], config: RewardConfig) -> Any:
    """A `RewardResult` for each completion."""
    (bench,) = build_all([config])
    return bench.reward.score_group(page, completions)


def figures(page: Page, completion: Completion, result: RewardResult) -> dict[str, Any]:
    """What one text is worth."""
    types: dict[str, list[int]] = {}
    for verdict in result.verdicts:
        types.setdefault(verdict.type, []).append(int(verdict.passed))
    return {
        "types": types,
        "reading": reading(completion.text, page.reference or ""),
        "exact": int(all(verdict.passed for verdict in result.verdicts)),
        "tokens": len(completion.token_ids),
    }


def score(
    reader: Reader, sources: Sequence[PageSource], out: Path, options: argparse.Namespace
) -> None:
    """Write {"greedy": {page: [figures]}, "T=...": {page: [figures of each sample]}}."""
    modes: dict[str, Any] = {}
    for temperature in (0.0, *options.temperatures):
        samples = options.samples if temperature else 1
        name = f"T={temperature:g}" if temperature else "greedy"
        modes[name] = {
            page.page_id: [
                figures(page, completion, result)
                for completion, result in zip(
                    completions, tests_of(page, completions, BENCH), strict=True
                )
            ]
            for page, completions in reader.read(sources, temperature, samples, options.seed)
        }
    write(out, modes)


def keep_best(reader: Reader, sources: Sequence[PageSource], options: argparse.Namespace) -> None:
    """Write a folder of page pairs: each page with the sample that passes most tests, if any does.

    Ties go to the first. A text that did not end is not learnt from.
    """
    folder = options.out
    folder.mkdir(parents=True, exist_ok=True)
    paths = {source.page_id: source.pdf_path for source in sources}
    for page, completions in reader.read(sources, 1.0, options.best_of, options.seed):
        results = tests_of(page, completions, TRAINING)
        ended = [
            (result.value, -completion.index, completion.text)
            for completion, result in zip(completions, results, strict=True)
            if completion.finish_reason == "stop"
        ]
        value, _, text = max(ended, default=(0.0, 0, ""))
        if value > 0:
            name = Path(paths[page.page_id]).stem
            shutil.copy(paths[page.page_id], folder / f"{name}.pdf")
            (folder / f"{name}.md").write_text(text, "utf-8")


def write(path: Path, values: Any) -> None:
    """JSON that is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values), "utf-8")
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", type=str)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--side", type=int, default=168, help="pixels of a page's longest side")
    parser.add_argument("--limit", type=int, default=128)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0])
    parser.add_argument("--best-of", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sources = scan_bench(options.pages)[: options.limit]
    for model in options.models:
        reader = Reader(str(model), options.side)
        if options.best_of:
            keep_best(reader, sources, options)
        else:
            score(reader, sources, options.out / f"{model.parent.name}.json", options)
        reader.close()


if __name__ == "__main__":
    main()
