"""A run's GPUs are looked at once it has its cluster, and before anything of it starts."""

from types import SimpleNamespace

import pytest

from olmrl.cluster import PlanError, plan_sft
from olmrl.config import SftConfig, load
from olmrl.run import session
from olmrl.run.directory import RunDirectory


def test_gpus_that_cannot_be_used_end_a_run_before_it_begins(monkeypatch, tmp_path):
    done = []

    def refuse(plan, say, wait_s):
        done.append(("looked", plan.gpus, wait_s))
        raise PlanError("the GPU is a MIG slice")

    monkeypatch.setattr(session, "connect", lambda *_: done.append("connected"))
    monkeypatch.setattr(session, "check_gpus", refuse)
    monkeypatch.setattr(session, "divert_remarks", lambda *_: None)
    monkeypatch.setattr(session, "Console", lambda *_: SimpleNamespace(say=lambda line: None))
    keys = ["model.path=m", "data.train=[{root: d}]", "learner.workers=2", "cluster.wait_s=90"]
    config = load(SftConfig, None, keys)
    with pytest.raises(PlanError, match="MIG slice"):
        session.run_session(
            config,
            plan_sft(config),
            RunDirectory(str(tmp_path)),
            lambda *_: done.append("began"),
        )
    assert done == ["connected", ("looked", 2.0, 90.0)]
