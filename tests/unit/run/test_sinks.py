"""Trackers beside metrics.jsonl: what they are given, and what they may not do to a run."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from olmrl.config import ConfigError
from olmrl.config.schema import LoggingConfig
from olmrl.preflight import trackers
from olmrl.run.console import Console
from olmrl.run.directory import RunDirectory
from olmrl.run.sinks import TensorBoardSink, WandbSink, open_sinks
from olmrl.run.stop import StopRequest

ROW = {"reward/mean": 2.5, "policy/kl": math.nan, "policy/grad_norm": math.inf, "time/step": 3.0}


@pytest.fixture
def directory(tmp_path):
    found = RunDirectory(tmp_path / "run: 1")
    found.create("run: {}\n")
    found.report.write_text("<html>")
    found.write_evaluation(4, {"step": 4, "scores": {}})
    (found.path / "model").mkdir()
    (found.path / "model" / "config.json").write_text("{}")
    return found


class WandbRun:
    """Takes what W&B would take."""

    def __init__(self, error=None):
        self.kept, self._error = [], error

    def log_artifact(self, artifact):
        if self._error:
            raise self._error
        self.kept.append(artifact)

    def finish(self):
        pass


@pytest.mark.parametrize(
    ("asked", "kinds"), [("off", []), ("report", ["report"]), ("model", ["report", "model"])]
)
def test_a_finished_run_leaves_the_artifacts_that_were_asked_for(directory, asked, kinds):
    run = WandbRun()
    WandbSink(run, asked).keep(directory)
    assert [artifact.type for artifact in run.kept] == kinds
    files = [sorted(artifact.manifest.entries) for artifact in run.kept]
    assert files == [
        ["config.yaml", "evaluations/step-000004.json", "report.html"], ["config.json"],
    ][: len(kinds)]  # fmt: skip
    for artifact in run.kept:
        assert artifact.name.startswith(f"run--1-{directory.wandb_id()}-")


def test_artifacts_that_cannot_be_logged_do_not_take_the_run_down(directory, capsys):
    console = Console(directory, StopRequest(1.0))
    console._sinks = [WandbSink(WandbRun(RuntimeError("offline")), "model")]
    console.summary(directory, directory.report)
    console.close()
    assert "W&B missed 1 rows or artifacts" in capsys.readouterr().out


def events(folder):
    """(Name, step, value) of the scalars in TensorBoard's files, and steps purged from."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2", reason="needs tensorboardX")
    from tensorboardX.record_writer import masked_crc32c

    found, purged = [], []
    for path in sorted(Path(folder).glob("events.*")):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            body, data = data[12 : 12 + size], data[16 + size :]
            event = proto.Event.FromString(body)
            assert masked_crc32c(body)
            if event.WhichOneof("what") == "session_log":
                purged.append(event.step)
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
    return found, purged


def test_rows_become_events_and_repeated_steps_are_hidden(directory, monkeypatch):
    pytest.importorskip("tensorboardX", reason="needs tensorboardX")
    monkeypatch.setattr(trackers, "_WRITERS", {"tensorboardX": "tensorboardX"})
    _, sink = open_sinks(directory, LoggingConfig(wandb="off", tensorboard=True))
    assert isinstance(sink, TensorBoardSink)
    sink.write(7, ROW)
    sink.close()
    found, purged = events(directory.path / "tensorboard")
    assert found == [("reward/mean", 7, 2.5), ("time/step", 7, 3.0)]
    assert purged in ([], [0])


def test_without_a_package_for_tensorboard_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(trackers, "_WRITERS", {"tensorboard_that_is_not_there": "x"})
    with pytest.raises(ConfigError, match=r"logging.tensorboard: .* pip install tensorboard$"):
        trackers.tensorboard_module()


def test_torch_writes_events_if_tensorboard_is_there(directory, monkeypatch):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    _, sink = open_sinks(directory, LoggingConfig(wandb="off", tensorboard=True))
    sink.write(7, ROW)
    sink.close()
    assert list((directory.path / "tensorboard").glob("events.*"))


def test_sinks_are_light_until_they_are_asked_for():
    script = "import sys, json, olmrl.run.sinks; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"wandb", "torch", "tensorboardX", "tensorboard", "ray"}
