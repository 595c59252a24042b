"""Saving, restoring, retention, and every way a save can be cut short."""

import importlib
import json
import os
import pickle
import random
import re
import resource
import signal

import numpy as np
import pytest
import torch
from children import CONTEXT, run_child
from trainee import Trainee

from olmrl.checkpoint import manifest, shards
from olmrl.checkpoint.manifest import CheckpointError, open_checkpoint
from olmrl.checkpoint.state import CheckpointStore


def saved(root, *steps, **options) -> CheckpointStore:
    store = CheckpointStore(root, **{"keep_last": 10, **options})
    trainee = Trainee()
    for step in steps:
        store.save(step, trainee.state(), extra={"step": step})
    store.wait()
    return store


@pytest.mark.parametrize("asynchronous", [False, True])
def test_continues_as_if_never_stopped(tmp_path, asynchronous):
    trainee = Trainee()
    random.seed(1)
    np.random.seed(1)
    for _ in range(3):
        trainee.train()
    store = CheckpointStore(tmp_path, asynchronous=asynchronous)
    store.save(3, trainee.state(), extra={"pages": [1, 2]}, blobs={"ready": b"\x00\xff"})
    expected = [trainee.train() for _ in range(3)]
    store.wait()

    other = Trainee(seed=99)
    restored = store.load(store.newest(), other.state())
    other.load(restored.state)
    assert [other.train() for _ in range(3)] == expected
    assert restored.step == 3
    assert restored.extra == {"pages": [1, 2]}
    assert restored.blobs == {"ready": b"\x00\xff"}
    assert restored.state["schedule"] == {
        "last_epoch": 3,
        "betas": (0.9, 0.99),
        "steps": {7: None},
    }


def test_restores_weights_alone(tmp_path):
    store = saved(tmp_path, 1)
    other = Trainee(seed=5)
    restored = store.load(store.newest(), {"model": other.state()["model"]}, restore_rng=False)
    assert set(restored.state) == {"model"}
    assert torch.equal(other.model.weight, Trainee().model.weight)


def test_an_optimizer_before_its_first_step_takes_the_saved_moments(tmp_path):
    store = saved(tmp_path, 1)
    template = {"model": Trainee(seed=5).model.state_dict(), "optim": {}}
    restored = store.load(store.newest(), template)
    other, whole = Trainee(seed=5), Trainee()
    other.load(restored.state)
    for state, expected in zip(
        other.optimizer.state.values(), whole.optimizer.state.values(), strict=True
    ):
        assert torch.equal(state["exp_avg"], expected["exp_avg"])


def test_keeps_the_last_and_the_best(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=2, keep_best=1, best_mode="min")
    for step, loss in [(1, 0.5), (2, 0.1), (3, 0.3), (4, 0.4), (5, float("nan"))]:
        store.save(step, Trainee().state(), extra={})
        store.record_score(step, loss)
    assert store.steps() == [2, 4, 5]
    assert store.best().step == 2
    assert store.newest().step == 5


def test_weights_are_to_be_saved_when_their_score_is_one_of_the_best(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=1, keep_best=2)
    kept = []
    for step, score in [(1, 0.5), (2, 0.1), (3, 0.3), (4, 0.4), (5, float("nan"))]:
        if store.record_score(step, score):
            kept.append(step)
            store.save(step, Trainee().state(), extra={})
    assert kept == [1, 2, 3, 4]
    assert store.steps() == [1, 4]
    none = CheckpointStore(tmp_path / "none", keep_best=0)
    assert not none.record_score(1, 0.5)


def test_the_score_of_a_save_in_progress_is_kept(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=1, keep_best=1)
    store.record_score(1, 0.9)
    (tmp_path / ".step-1.partial").mkdir()
    assert not store.record_score(2, 0.5)
    store.save(1, Trainee().state(), extra={})
    store.save(2, Trainee().state(), extra={})
    store.save(3, Trainee().state(), extra={})
    assert store.steps() == [1, 3] and store.best().step == 1


def test_scores_that_a_run_went_back_behind_do_not_count(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=1, keep_best=1)
    store.save(1, Trainee().state(), extra={})
    store.record_score(4, 0.9)
    assert store.record_score(2, 0.5)


def test_a_torn_save_is_never_picked_up(tmp_path):
    store = saved(tmp_path, 1)
    os.rename(tmp_path / "step-1", tmp_path / "keep")
    (tmp_path / "step-7").mkdir()
    (tmp_path / "step-7" / "__0_0.distcp").write_bytes(b"half")
    (tmp_path / ".step-8.partial").mkdir()
    assert store.newest() is None
    os.rename(tmp_path / "keep", tmp_path / "step-1")
    assert store.newest().step == 1
    store.recover()
    assert sorted(os.listdir(tmp_path)) == ["step-1"]


def test_leftovers_of_a_killed_save_do_not_enter_the_next(tmp_path):
    stale = tmp_path / ".step-1.partial"
    stale.mkdir()
    (stale / "__9_0.distcp").write_bytes(b"from a larger cluster")
    store = saved(tmp_path, 1)
    assert "__9_0.distcp" not in store.newest().files


def test_saving_a_step_again_replaces_it(tmp_path):
    store = saved(tmp_path, 1, 2)
    store.save(2, Trainee(seed=3).state(), extra={"step": "again"})
    assert store.newest().extra() == {"step": "again"}
    assert sorted(os.listdir(tmp_path)) == ["step-1", "step-2"]


def test_kill_between_the_two_renames_of_a_replacement(tmp_path):
    store = saved(tmp_path, 2)
    os.rename(tmp_path / "step-2", tmp_path / ".step-2.replaced")
    store.recover()
    assert store.newest().step == 2


def save_until_killed(root, asynchronous, owner, name, after):
    store = CheckpointStore(root, asynchronous=asynchronous)
    trainee = Trainee()
    store.save(1, trainee.state(), extra={})
    store.wait()
    owner = CheckpointStore if owner == "CheckpointStore" else importlib.import_module(owner)
    whole = getattr(owner, name)

    def killed(*args):
        if after:
            whole(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, killed)
    store.save(2, trainee.state(), extra={})
    store.wait()


@pytest.mark.parametrize(
    ("owner", "name", "after", "newest"),
    [
        (shards, "write", False, 1),
        (shards, "write", True, 1),
        (manifest, "complete", False, 1),
        (manifest, "complete", True, 1),
        (CheckpointStore, "prune", False, 2),
    ],
)
def test_kill_9_at_each_stage_of_a_save(tmp_path, owner, name, after, newest):
    asynchronous = name == "complete"
    code = run_child(save_until_killed, tmp_path, asynchronous, owner.__name__, name, after)
    assert code == -signal.SIGKILL
    store = CheckpointStore(tmp_path)
    assert store.newest().step == newest
    store.recover()
    trainee = Trainee(seed=4)
    trainee.load(store.load(store.newest(), trainee.state()).state)
    assert torch.equal(trainee.model.weight, Trainee().model.weight)


def save_on_a_full_disk(root, asynchronous, messages):
    store = CheckpointStore(root, asynchronous=asynchronous)
    big = {"model": {"w": torch.zeros(1 << 18)}}
    store.save(1, big, extra={})
    store.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        store.save(2, big, extra={})
        store.wait()
    except CheckpointError as error:
        messages.put(str(error))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, asynchronous):
    messages = CONTEXT.Queue()
    assert run_child(save_on_a_full_disk, tmp_path, asynchronous, messages) == 0
    message = messages.get(timeout=10)
    assert "saving step 2 failed" in message
    assert "step 1 is the newest" in message
    assert sorted(os.listdir(tmp_path)) == ["step-1"]
    assert CheckpointStore(tmp_path).newest().step == 1


def test_missing_shard_truncated_file_newer_format(tmp_path):
    store = saved(tmp_path, 1)
    shard = tmp_path / "step-1" / "__0_0.distcp"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=r"__0_0.distcp is truncated"):
        store.newest()
    shard.unlink()
    with pytest.raises(CheckpointError, match=r"__0_0.distcp is missing"):
        store.newest()
    shard.write_bytes(content)
    marker = tmp_path / "step-1" / "COMPLETE"
    newer = json.loads(marker.read_text()) | {"format": 99}
    marker.write_text(json.dumps(newer))
    with pytest.raises(CheckpointError, match="format 99 by a newer olmrl"):
        store.newest()
    marker.write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        store.newest()


def test_another_architecture_is_refused_by_name(tmp_path):
    store = saved(tmp_path, 1)
    wider = Trainee(width=5)
    with pytest.raises(CheckpointError, match=r"model/weight has shape \[3, 4\].*expects \[3, 5\]"):
        store.load(store.newest(), wider.state())
    with pytest.raises(CheckpointError, match="no tensor model/head"):
        store.load(store.newest(), {"model": {"head": torch.zeros(1)}})
    with pytest.raises(CheckpointError, match="tensor model/weight is not in the model"):
        store.load(store.newest(), {"model": {"bias": torch.zeros(3)}})
    with pytest.raises(CheckpointError, match="no checkpoint of step 8; complete: 1"):
        store.at(8)
    with pytest.raises(CheckpointError, match="not a complete checkpoint"):
        open_checkpoint(str(tmp_path / "nowhere"))


def test_unsaveable_values_are_named(tmp_path):
    store = CheckpointStore(tmp_path)
    with pytest.raises(CheckpointError, match="schedule/f: cannot save a function"):
        store.save(1, {"schedule": {"f": lambda: 0}}, extra={})
    with pytest.raises(CheckpointError, match="extra"):
        store.save(1, {}, extra={"x": object()})


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/olmrl-must-not-exist",)


def _short(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


def _call(module, name):
    """A pickle that calls something with a command."""
    asked = _short(module) + _short(name) + b"\x93"
    return b"\x80\x04" + asked + _short("touch /tmp/olmrl-must-not-exist") + b"\x85R."


_DCP = "torch.distributed.checkpoint.metadata"


@pytest.mark.parametrize(
    ("evil", "named"),
    [
        (pickle.dumps(Evil()), "posix.system"),
        (_call(_DCP, "os.system"), f"{_DCP}.os.system"),
        (_call(_DCP, "torch.serialization.os.system"), f"{_DCP}.torch.serialization.os.system"),
        (_call(_DCP, "os"), f"{_DCP}.os"),
        (_call("torch", "float32.__class__"), "torch.float32.__class__"),
        (_call("builtins", "eval"), "builtins.eval"),
    ],
)
def test_a_checkpoint_cannot_run_code(tmp_path, evil, named):
    store = saved(tmp_path, 1)
    metadata = tmp_path / "step-1" / ".metadata"
    marker = tmp_path / "step-1" / "COMPLETE"
    metadata.write_bytes(evil)
    listing = json.loads(marker.read_text())
    listing["files"][".metadata"] = len(evil)
    marker.write_text(json.dumps(listing))
    with pytest.raises(CheckpointError, match=f"{re.escape(named)} is not allowed"):
        store.load(store.newest(), Trainee().state())
    assert not os.path.exists("/tmp/olmrl-must-not-exist")


def test_remote_folders_work_alike():
    root = "memory://bucket/run/checkpoints"
    store = saved(root, 1, 2, 3, keep_last=2)
    assert store.steps() == [2, 3]
    other = Trainee(seed=8)
    other.load(store.load(store.newest(), other.state()).state)
    assert torch.equal(other.model.weight, Trainee().model.weight)
    store.save(3, Trainee(seed=2).state(), extra={"again": True})
    assert store.newest().extra() == {"again": True}
    store.recover()
    assert store.steps() == [2, 3]
