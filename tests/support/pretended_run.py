"""A run that only pretends, for tests of what watches runs: files and signals as olmrl's, no Ray.

    python pretended_run.py RUN_DIR MODE

Each step appends its rows and its event; every second step is saved. It resumes from the newest
checkpoint as olmrl does. In the mode `forgetful` it takes the one before, and leaves the rows
behind it standing.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

STEPS, PAGES, BATCH, EVALUATE = 36, 12, 2, 6


def rows(path):
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def append(path, row):
    with path.open("a") as stream:
        stream.write(json.dumps(row) + "\n")


def save(out, step):
    folder = out / "checkpoints" / f".step-{step}.partial"
    folder.mkdir(parents=True)
    counts = {"committed": step * BATCH}
    (folder / "extra.json").write_text(json.dumps({"ledger": {"counts": counts}}))
    time.sleep(0.02)
    folder.rename(out / "checkpoints" / f"step-{step}")


def resume(out, forgetful):
    (out / "logs").mkdir(parents=True, exist_ok=True)
    (out / "checkpoints").mkdir(exist_ok=True)
    for leftover in out.glob("checkpoints/.step-*"):
        for file in leftover.iterdir():
            file.unlink()
        leftover.rmdir()
    saved = sorted(int(path.name[5:]) for path in out.glob("checkpoints/step-*"))
    step = [0, 0, *saved][-2 if forgetful else -1]
    for name in ("metrics.jsonl", "steps.jsonl"):
        kept = [row for row in rows(out / name) if row["step"] <= step or forgetful]
        (out / name).write_text("".join(json.dumps(row) + "\n" for row in kept))
    if not (out / "wandb_id").exists():
        (out / "wandb_id").write_text(str(os.getpid()))
    return step


def main(out, mode):
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(143))
    step = resume(out, mode == "forgetful")
    while step < STEPS and not stopped:
        time.sleep(0.03)
        first = step * BATCH
        pages = [divmod(place, PAGES) for place in range(first, first + BATCH)]
        step += 1
        append(out / "steps.jsonl", {"step": step, "pages": [[e, i, f"p{i}"] for e, i in pages]})
        append(out / "metrics.jsonl", {"step": step, "policy/lr": 1.0})
        append(out / "logs" / "learner-0.jsonl", {"event": "step", "version": f"1.{step}"})
        if step % EVALUATE == 0:
            time.sleep(0.1)
            append(out / "metrics.jsonl", {"step": step, "eval/loss": 1.0})
        if step % 2 == 0:
            save(out, step)
    if stopped:
        sys.exit(stopped[0])
    (out / "model").mkdir(exist_ok=True)
    (out / "model" / "model.safetensors").write_text("weights")
    (out / "model" / "config.json").write_text("{}")
    (out / "report.html").write_text("done")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
