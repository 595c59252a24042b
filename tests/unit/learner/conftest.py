"""A tiny random Qwen2.5-VL and hand-made packed batches over it."""

from __future__ import annotations

import pytest
from tiny import make_model


@pytest.fixture()
def model():
    return make_model()
