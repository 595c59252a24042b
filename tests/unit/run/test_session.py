"""A run's GPUs are looked at once it has its cluster, and before anything of it starts."""

import logging
import signal
from types import SimpleNamespace

import pytest
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import ActorDiedError, NodeDiedError, RayError, RayTaskError

from olmrl.cluster import PlanError, plan_sft
from olmrl.config import SftConfig, load
from olmrl.errors import Interrupted, RunStopped
from olmrl.run import session
from olmrl.run.directory import RunDirectory


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that runs another one in place of the training, with no Ray."""
    for name in ("connect", "check_gpus", "divert_remarks"):
        monkeypatch.setattr(session, name, lambda *_: None)
    quiet = SimpleNamespace(say=lambda line: None, close=lambda: None)
    monkeypatch.setattr(session, "Console", lambda *_: quiet)
    config = load(SftConfig, None, ["model.path=m", "data.train=[{root: d}]"])
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    level = logging.getLogger("ray.data").level

    def started(runner):
        return session.run_session(config, plan_sft(config), RunDirectory(str(tmp_path)), runner)

    yield started
    for number, handler in before.items():
        signal.signal(number, handler)
    logging.getLogger("ray.data").setLevel(level)


DIED = ActorDiedError(
    ActorDiedErrorContext(class_name="RolloutBuffer", actor_id=b"1" * 16, pid=7, error_message="x")
)
NODE = NodeDiedError("The node of the task has died.")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DIED, "RolloutBuffer: The actor died unexpectedly before finishing this task"),
        (NODE, r"\(The node of the task has died\)"),
        (RayTaskError("take", "Traceback ...", NODE), r"\(The node of the task has died\)"),
    ],
    ids=["actor", "node", "node of a task"],
)
def test_what_a_run_cannot_replace_ends_it_with_a_sentence(run, error, told):
    def lose(*_):
        raise error

    with pytest.raises(RunStopped, match=f"Ray lost a part of the run.*{told}.*--resume auto"):
        run(lose)


FAULT = RayTaskError("render", "Traceback (most recent call last) ...", KeyError("x"))


@pytest.mark.parametrize("fault", [FAULT, ActorDiedError(FAULT)], ids=["task", "actor's birth"])
def test_a_fault_of_our_own_in_another_process_keeps_its_traceback(run, fault):
    def fail(*_):
        raise fault

    with pytest.raises(RayError) as caught:
        run(fail)
    assert caught.value is fault


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
@pytest.mark.parametrize("replaced", [False, True], ids=["raised", "replaced by Ray"])
def test_a_signal_before_the_learner_begins_keeps_its_exit_code(run, number, code, replaced):
    """Ray's blocking calls raise KeyboardInterrupt for whatever a signal's handler raises."""

    def wait(*_):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:
            raise (KeyboardInterrupt() if replaced else error) from None

    with pytest.raises(Interrupted, match=signal.Signals(number).name) as caught:
        run(wait)
    assert caught.value.code == code


def test_threads_of_ray_data_that_outlive_a_run_say_nothing(run):
    run(lambda *_: None)
    assert not logging.getLogger("ray.data._internal.stats").isEnabledFor(logging.ERROR)


def test_gpus_that_cannot_be_used_end_a_run_before_it_begins(monkeypatch, tmp_path):
    done = []

    def refuse(plan, say, wait_s):
        done.append(("looked", plan.gpus, wait_s))
        raise PlanError("the GPU is a MIG slice")

    monkeypatch.setattr(session, "connect", lambda *_: done.append("connected"))
    monkeypatch.setattr(session, "check_gpus", refuse)
    monkeypatch.setattr(session, "divert_remarks", lambda *_: None)
    monkeypatch.setattr(
        session,
        "Console",
        lambda *_: SimpleNamespace(say=lambda line: None, close=lambda: None),
    )
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
