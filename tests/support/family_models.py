"""A tiny model of any family, with nothing in it that would hide a mistake."""

import torch
from learner_tiny import Group, make_group

from olmrl.models.family import TinySize
from olmrl.models.registry import FAMILIES

IMAGE, VISION_START, VISION_END = 6, 3, 4
SIZE = TinySize(64, 3, 4, 2, 128, 32, 2, 2, 64)
IDS = {
    "<|endoftext|>": 0,
    "<|im_end|>": 2,
    "<|vision_start|>": VISION_START,
    "<|vision_end|>": VISION_END,
    "<|image_pad|>": IMAGE,
    "<|video_pad|>": 7,
}
MOST_VARIED = {
    "qwen2_5_vl": {"window_size": 56, "fullatt_block_indexes": [1]},
    "qwen3_vl": {"deepstack_visual_indexes": [0, 1]},
}
"""Settings of the vision tower under which a family shows all that it can do."""


def make_family_config(model_type: str):
    """Configuration of 64 words, the tower with windows and deepstack where the family has them."""
    config = FAMILIES[model_type].tiny_config(SIZE, IDS, 64, 0.2)
    for name, value in MOST_VARIED.get(model_type, {}).items():
        setattr(config.vision_config, name, value)
    return config


def make_page(model_type: str, seed: int, grid: tuple[int, int], lengths: list[int]) -> Group:
    """A page with its completions, its patches as large as the family's are."""
    patch = FAMILIES[model_type].image_settings.patch_size
    return make_group(seed, grid, lengths, patch_bytes=3 * patch**2)


def make_family_model(model_type: str, seed: int = 0):
    """A random model in training mode; norms and biases off their neutral values."""
    torch.manual_seed(seed)
    family = FAMILIES[model_type]
    model = family.model_class()._from_config(
        make_family_config(model_type), attn_implementation="sdpa"
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for name, parameter in model.named_parameters():
            if name.endswith("A_log"):  # decays of 0.2 to 0.99, as in trained models
                parameter.copy_(torch.linspace(-4, 0.5, parameter.numel()))
    return model.train()
