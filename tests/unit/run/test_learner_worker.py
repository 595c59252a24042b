"""The learner's loop without Ray: what it evaluates when it is stopped and continued."""

from types import SimpleNamespace

import pytest

from olmrl.metrics import Clock
from olmrl.run import worker
from olmrl.types import PolicyVersion


class Call:
    """An actor's method, answered at once."""

    def __init__(self, answer):
        self.remote = lambda *_: answer()


class Store:
    """One checkpoint in memory."""

    def __init__(self):
        self.saved = None

    def newest(self):
        return self.saved

    def load(self, newest, state):
        return SimpleNamespace(state=state, extra=newest.extra, blobs={})

    def save(self, step, state, *, extra, blobs):
        self.saved = SimpleNamespace(step=step, extra=extra)

    def wait(self):
        pass


class Learner(worker.LearnerWorker):
    """Makes four steps; every second is evaluated. Asked to end at step `stop_at`."""

    waits_for = "pages"

    def __init__(self, store, stop_at=None):
        self._version, self._rank = PolicyVersion(0, 0), 0
        self._saved_step = self._owed = -1
        self._store = store
        stopping = Call(lambda: self._version.step == stop_at)
        self._actor = SimpleNamespace(
            stopping=stopping,
            **dict.fromkeys(("say", "report", "all_written", "finish"), Call(lambda: None)),
        )
        run = SimpleNamespace(max_seconds=None)
        checkpoint = SimpleNamespace(every=0)
        config = SimpleNamespace(run=run, checkpoint=checkpoint, model_dump=lambda mode: {})
        self._task = SimpleNamespace(config=config, total_steps=4, run_dir="run")
        self._strategy = SimpleNamespace(
            state_dict=dict,
            load_state_dict=lambda state: None,
            max_over_ranks=lambda values: values,
            optim=SimpleNamespace(precision=None),
        )
        self._log = SimpleNamespace(write=lambda *a, **k: None)
        self._stop_at = stop_at
        self.evaluated = []

    def _build(self, device):
        raise NotImplementedError

    def _announce(self, restored):
        return PolicyVersion(1, self._store.saved.step if restored else 0)

    def _next(self):
        return None if self._version.step == self._stop_at else object()

    def _train(self, work, clock: Clock):
        clock.lap("learner")
        return {}

    def _commit(self, work, clock):
        return {}

    def _evaluate(self, *, last):
        step = self._version.step
        if not last and (step % 2 or step == 4):
            return None
        if step == self._stop_at:  # a run that ends waits for no evaluation
            self._owed = step
        else:
            self.evaluated.append(step)
        return False

    def _extras(self):
        return {}, {}


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    monkeypatch.setattr(worker.ray, "get", lambda answer: answer)
    monkeypatch.setattr(worker, "describe", lambda strategy: [])
    monkeypatch.setattr(worker, "export", lambda *a, **k: None)


def continued(stop_at):
    store = Store()
    first = Learner(store, stop_at)
    first.run()
    second = Learner(store)
    second.run()
    return first.evaluated, second.evaluated


def test_an_evaluation_that_was_due_at_the_stop_is_made_by_the_resumed_run():
    assert continued(stop_at=2) == ([0], [2, 4])


def test_a_resumed_run_evaluates_nothing_that_was_not_due():
    assert continued(stop_at=3) == ([0, 2], [4])
