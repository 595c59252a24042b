"""A teacher that would see other tokens, patches or chat is refused in one sentence."""

import json
import shutil

import pytest

from olmrl.data.encode import EncoderSpec
from olmrl.grpo.teacher import check_teacher


@pytest.fixture
def policy(tiny_model):
    return EncoderSpec(str(tiny_model), "file:configs/prompts/tiny.txt")


@pytest.fixture
def teacher(tiny_model, tmp_path):
    """A folder of its own, to be made different."""
    return shutil.copytree(tiny_model, tmp_path / "teacher")


def _edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def _refused(policy, teacher):
    with pytest.raises(ValueError, match=r"^algorithm\.teacher\.path: ") as refusal:
        check_teacher(policy, str(teacher))
    message = str(refusal.value)
    assert str(teacher) in message and "\n" not in message
    return message


def test_a_larger_model_with_the_same_processor_is_welcome(policy, teacher):
    _edit(teacher / "config.json", lambda c: c["text_config"].update(hidden_size=256))
    check_teacher(policy, str(teacher))


def test_a_config_that_leaves_defaults_out_is_the_same_grid(policy, teacher):
    _edit(teacher / "config.json", lambda c: c["vision_config"].pop("in_channels", None))
    _edit(teacher / "config.json", lambda c: c["vision_config"].pop("temporal_patch_size", None))
    check_teacher(policy, str(teacher))


def test_another_tokenizer(policy, teacher):
    def swap(values):
        vocabulary = values["model"]["vocab"]
        vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]

    _edit(teacher / "tokenizer.json", swap)
    assert "another tokenizer (2 tokens are not alike, e.g. 'a' is" in _refused(policy, teacher)


def test_one_more_token(policy, teacher):
    def add(values):
        values["added_tokens"].append(
            {
                "id": len(values["model"]["vocab"]),
                "content": "<|extra|>",
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        )

    _edit(teacher / "tokenizer.json", add)
    message = _refused(policy, teacher)
    assert "1 tokens are not alike" in message and "missing here" in message


def test_another_image_grid(policy, teacher):
    _edit(teacher / "config.json", lambda c: c["vision_config"].update(spatial_merge_size=4))
    file = teacher / "processor_config.json"
    _edit(file, lambda c: c["image_processor"].update(merge_size=4))
    assert "another image grid" in _refused(policy, teacher)


def test_another_chat_template(policy, teacher):
    template = teacher / "chat_template.jinja"
    template.write_text("You read pages.\n" + template.read_text())
    assert "another chat template ('You read pages." in _refused(policy, teacher)


def test_no_model_at_all(policy, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no config.json" in _refused(policy, tmp_path / "empty")
