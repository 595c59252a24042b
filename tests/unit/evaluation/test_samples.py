"""Transcriptions as a table for W&B."""

import numpy as np
from PIL import Image

from olmrl.evaluation.samples import COLUMNS, log_samples
from olmrl.run.directory import RunDirectory
from olmrl.run.sinks import JsonlSink, WandbSink


class Log:
    """Takes what a W&B run would log."""

    def __init__(self):
        self.logged = []

    def log(self, values, step):
        self.logged.append((step, values))


def test_shown_pages_become_rows_of_one_table(tmp_path):
    (tmp_path / "pages").mkdir()
    Image.fromarray(np.zeros((4, 3, 3), np.uint8)).save(tmp_path / "pages/a.png")
    rollout = {"text": "b", "finish_reason": "stop", "rewards": {"x": 0.5, "y": None}}
    page = {"page_id": "p", "image": "pages/a.png", "reference": "a"}
    record = {"pages": [{**page, "rollouts": {"greedy": [rollout], "sampled": []}}]}
    log = Log()
    sinks = [JsonlSink(tmp_path / "metrics.jsonl"), WandbSink(log)]
    log_samples(sinks, 7, RunDirectory(tmp_path), record)
    ((step, values),) = log.logged
    (name, table), (row,) = *values.items(), values["eval/samples"].data
    assert (step, name, table.columns) == (7, "eval/samples", list(COLUMNS))
    assert [row[0], *row[2:]] == ["p", "a", "greedy", "b", "stop", "x 0.500, y failed"]
    assert row[1].image.size == (3, 4)
