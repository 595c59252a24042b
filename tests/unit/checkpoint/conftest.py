"""A tiny true Qwen2.5-VL, made once for all tests of the room."""

import pytest

from olmrl.synth.model import make_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    make_model(["# Title\n\nthe quick brown fox | a | b |\n"] * 4, folder)
    return str(folder)
