"""vLLM has what olmrl asks of it, at both ends of the range of versions in pyproject.toml.

The CPU build that is installed is one end. The other's sources are those that `.ci/vllm_range`
fetches; without them its case is skipped.
"""

import importlib.util
import os
from pathlib import Path

import pytest
from vllm_sources import Sources, complaints


def installed():
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vllm is not installed")
    return Path(spec.origin).parents[1]


def fetched():
    folder = os.environ.get("OLMRL_VLLM_SOURCES")
    if not folder:
        pytest.skip("OLMRL_VLLM_SOURCES is not set: .ci/vllm_range fetches a version's sources")
    assert (Path(folder) / "vllm" / "__init__.py").is_file(), f"{folder} holds no vllm/"
    return Path(folder)


@pytest.mark.parametrize("where", [installed, fetched])
def test_vllm_has_what_is_asked_of_it(where):
    assert complaints(Sources(where())) == []


@pytest.fixture(scope="module")
def known():
    return Sources(installed())


class Changed(Sources):
    """Sources with some text replaced, in every file."""

    def __init__(self, known, old, new):
        super().__init__(known.folder)
        self._known, self._change = known, (old, new)

    def text(self, module):
        text = super().text(module)
        return text and text.replace(*self._change)

    def tree(self, module):
        changes = self.text(module) != self._known.text(module)
        return super().tree(module) if changes else self._known.tree(module)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("cache_salt", "salt", "mm_input takes no cache_salt"),
        ("weight_versions", "versions", "CompletionOutput has no weight_versions"),
        ("def shutdown_weight_transfer_engine", "def _gone", "vLLM's worker has no shutdown_weig"),
        ("class MultiModalKwargsItems", "class Gone", "vllm.multimodal.inputs has no MultiModalK"),
        ("sampling_metadata: SamplingMetadata", "metadata: SamplingMetadata", "PolicySampler.samp"),
        ("packed_num_buffers", "buffers", "NCCLWeightTransferInitInfo has no packed_num_buffers"),
    ],
)
def test_what_an_older_or_newer_one_lacks_is_named(known, old, new, said):
    assert any(said in line for line in complaints(Changed(known, old, new)))
