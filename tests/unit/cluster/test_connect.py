"""Starting Ray on a machine that is too busy for Ray's own waits."""

import pytest

from olmrl.cluster.connect import start_patiently
from olmrl.errors import RunStopped

BUSY = "The current node timed out during startup. This could happen because"


def test_a_busy_machine_is_given_further_attempts():
    answers = [Exception(BUSY), Exception(BUSY), None]

    def start():
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return "address"

    assert start_patiently(start) == "address" and not answers


def test_an_overloaded_machine_is_told_so():
    def start():
        raise Exception(BUSY)

    with pytest.raises(RunStopped, match=r"overloaded \(load average [\d.]+ on \d+ cores\)"):
        start_patiently(start, patience_s=0.0)


def test_other_failures_are_not_retried():
    calls = []

    def start():
        calls.append(1)
        raise ValueError("no such address")

    with pytest.raises(ValueError, match="no such address"):
        start_patiently(start)
    assert calls == [1]
