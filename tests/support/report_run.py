"""Run directories for the tests of reports: as a run writes them, without the run."""

import numpy as np

from olmrl.run.directory import RunDirectory
from olmrl.run.sinks import JsonlSink

CONFIG = "run:\n  steps: 40\nalgorithm:\n  max_staleness: 0\n"
PAGES = ("synth/a.pdf::1", "synth/b.pdf::1", "synth/c.pdf::2")


def new_run(folder, config=CONFIG):
    directory = RunDirectory(folder)
    directory.create(config)
    return directory


def write_steps(directory, first, last):
    """Rows of GRPO steps."""
    sink = JsonlSink(directory.metrics)
    for step in range(first, last + 1):
        sink.write(step, {
            "reward/mean": 1 + step / 100, "reward/std": 0.2, "time/step": 2.0,
            "time/lease_wait": 1.2, "time/learner": 0.6, "time/weight_sync": 0.2,
            "time/engine_busy": 1.0, "time/engine_sync": 0.1, "rollout/engines": 1,
        })  # fmt: skip


def rollout(text, passed, *, total=1.0, version="1.0", error=None, note=""):
    """A recorded completion."""
    return {
        "text": text,
        "finish_reason": "stop",
        "tokens": len(text.split()),
        "version": version,
        "total": total,
        "rewards": {"bench": None if error else sum(passed) / max(1, len(passed))},
        "errors": {"bench": error} if error else {},
        "verdicts": [
            {"id": f"t{k}{note}", "type": "present", "file": "p.jsonl", "passed": ok,
             "explanation": "" if ok else f"'word {k}' is missing{note}"}
            for k, ok in enumerate(passed)
        ],
    }  # fmt: skip


def image(directory, page_id, shade=200):
    """The picture of a page, written once."""
    return directory.page_image(page_id, lambda: np.full((60, 40, 3), shade, np.uint8))


def write_group(directory, step, rollouts, *, page_id=PAGES[0], fate="ready", truth="a b c", n=0):
    """A recorded prompt group; the name of its file."""
    from olmrl import storage

    value = {
        "step": step,
        "fate": fate,
        "page_id": page_id,
        "image": image(directory, page_id),
        "reference": truth,
        "rollouts": rollouts,
    }
    name = f"step-{step:06d}-{n:08x}.json"
    storage.write_json(directory.path / "rollouts" / name, value)
    return name


def write_evaluation(directory, step, passed, *, texts=None, counts=(4, 4, 4), truth="a b c"):
    """An evaluation of `PAGES`, of which each passed so many of its tests."""
    texts = texts or dict.fromkeys(PAGES[:2], f"a b c at {step}")
    rate = sum(passed) / sum(counts)
    directory.write_evaluation(step, {
        "step": step,
        "scores": {"greedy/pass_rate": rate, "greedy/pass_rate_error": 0.05,
                   "greedy/category/p.jsonl": rate, "greedy/type/present": rate,
                   "greedy/tokens": 30.0 - step / 10},
        "by_page": {
            "pages": list(PAGES),
            "sums": {"greedy/pass_rate": list(passed), "greedy/category/p.jsonl": list(passed)},
            "counts": {"greedy/pass_rate": list(counts), "greedy/category/p.jsonl": list(counts)},
        },
        "pages": [
            {"page_id": page_id, "image": image(directory, page_id), "reference": truth,
             "rollouts": {"greedy": [rollout(text, [True, step > 0])]}}
            for page_id, text in texts.items()
        ],
    })  # fmt: skip
