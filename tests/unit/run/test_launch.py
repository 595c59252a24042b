"""What a guard says ends a run; any other failure is Ray Train's to retry."""

import pytest
from ray.train.torch import TorchTrainer

from olmrl.errors import GuardFailure, LinkBroken, WeightMismatch
from olmrl.learner.optim import NonFiniteStep
from olmrl.learner.parity import ParityError
from olmrl.run import launch
from olmrl.run.launch import guarded, last_sentence


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize("kind", [GuardFailure, NonFiniteStep, ParityError, WeightMismatch])
def test_a_guards_reason_is_left_for_the_driver(tmp_path, kind):
    verdict = tmp_path / "stopped.txt"
    with pytest.raises(kind):
        guarded(raising(kind("the gap is 0.3")), str(verdict))
    assert verdict.read_text() == "the gap is 0.3"


@pytest.mark.parametrize("kind", [OSError, ValueError, LinkBroken])
def test_other_failures_are_left_to_the_restart(tmp_path, kind):
    verdict = tmp_path / "stopped.txt"
    with pytest.raises(kind):
        guarded(raising(kind("a rank died")), str(verdict))
    assert not verdict.exists()


def test_the_sentence_of_a_nested_traceback():
    text = "Traceback ...\n  File x\nolmrl.guards.GuardFailure: it is blind\n"
    assert last_sentence(text) == "it is blind"


def test_of_ray_trains_own_parts_two_are_not_started():
    ours, whole = (
        {type(part).__name__ for part in trainer(print)._create_default_callbacks()}
        for trainer in (launch._Trainer, TorchTrainer)
    )
    assert whole - ours == {"DatasetsCallback", "PlacementGroupCleanerCallback"}
