import os
import signal
import threading

import pytest

from olmrl.errors import RunStopped
from olmrl.run.stop import StopRequest


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_sigterm_asks_once_and_keeps_the_process_alive():
    stop = StopRequest(grace_s=60)
    stop.install()
    assert not stop.requested()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested()
    assert stop.exit_code == 143


def test_a_second_ctrl_c_ends_at_once():
    stop = StopRequest(grace_s=60)
    stop.install()
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.requested() and stop.exit_code == 130
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(1)


def test_the_grace_period_ends():
    stop = StopRequest(grace_s=1e-9)
    stop.install()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(RunStopped, match=r"SIGTERM: not saved within checkpoint.grace_s=1e-09"):
        stop.requested()
