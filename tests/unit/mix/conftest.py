"""Fixtures of the mix tests."""

import pytest

from olmrl.mix.__main__ import main


@pytest.fixture
def mix():
    """Run a verb in this process and give its exit code."""
    return lambda *arguments: main([str(argument) for argument in arguments])


@pytest.fixture
def api_key(monkeypatch):
    """The key that the test server accepts."""
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
