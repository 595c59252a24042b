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

import pytest


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
