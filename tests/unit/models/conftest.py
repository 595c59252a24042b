"""A folder of every family, and a copy of it to be changed."""

import shutil

import pytest

from olmrl.models.registry import FAMILIES
from olmrl.synth.model import make_model


@pytest.fixture(scope="module", params=FAMILIES)
def published(request, tmp_path_factory):
    """A folder of a family, written by transformers."""
    out = tmp_path_factory.mktemp("published") / request.param
    return make_model(["a page of words to read"] * 5, out, vocab_size=320, family=request.param)


@pytest.fixture
def folder(published, tmp_path):
    """A copy to be changed."""
    return shutil.copytree(published, tmp_path / published.name)
