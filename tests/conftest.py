"""Shared by all tests: quiet, offline, one thread; a tiny data set and a tiny model, made once."""

import os

os.environ.update(
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_AUTH_MODE="disabled",
    RAY_worker_niceness="0",
    WANDB_MODE="offline",
)

import signal
import sys

import pytest

import olmrl  # noqa: F401  (sets Ray's start-up waits, which Ray reads when it is imported)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # a shell's job in the background: whatever it starts, runs of tests too, would ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

_status = 0


def pytest_sessionfinish(exitstatus):
    global _status
    _status = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure():
    """End without the interpreter's teardown.

    After several Ray sessions beside torch in one process, native threads have crashed in it (exit
    code 139 with every test passed). What is decided by then is only the exit code.
    """
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_status)


@pytest.fixture(scope="session")
def ray_head():
    """The Ray head of all modules that need one in this process."""
    import ray
    from shared_ray import start_head

    head = start_head()
    yield head
    ray.shutdown()  # a job that a failed test left open would keep its node
    head.shutdown()


@pytest.fixture(scope="module")
def ray_job(ray_head, request):
    """`with ray_job(cpus=2):` makes this process a job of the shared head."""
    from shared_ray import job

    return lambda **settings: job(ray_head, request.path.parent, **settings)


@pytest.fixture(scope="module")
def ray_node(ray_job):
    """Ray as a single node with metrics twice a second; gives `ray.nodes()[0]`."""
    import ray

    with ray_job():
        (node,) = [node for node in ray.nodes() if node["Alive"]]
        yield node


@pytest.fixture(scope="session")
def tiny_pages(tmp_path_factory):
    """Synthetic pages: `train/`, `heldout/` (bench folders) and `sft/` (page pairs)."""
    from olmrl.synth.pages import write_data_set

    return write_data_set(
        tmp_path_factory.mktemp("pages"), train=24, heldout=8, sft=24, seed=3, difficulty=1
    )


@pytest.fixture(scope="session")
def tiny_model(tiny_pages, tmp_path_factory):
    """A tiny random Qwen2.5-VL whose tokenizer knows those pages."""
    from olmrl.synth.model import gather_texts, make_model

    texts = gather_texts([tiny_pages / "sft"])
    return make_model(texts, tmp_path_factory.mktemp("model") / "tiny", vocab_size=512)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny true Qwen2.5-VL of little vocabulary."""
    from olmrl.synth.model import make_model

    folder = tmp_path_factory.mktemp("tiny") / "model"
    make_model(["# Title\n\nthe quick brown fox | a | b |\n"] * 4, folder)
    return str(folder)
