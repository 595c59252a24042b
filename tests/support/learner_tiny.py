"""A tiny random Qwen2.5-VL, page-once groups over it, and the dense reference computation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from olmrl.models.patches import PUBLISHED, Normalisation
from olmrl.types import PackedBatch

IMAGE, VISION_START, VISION_END = 6, 3, 4
BANNED = (3, 4, 5, 6, 7)
VOCAB = 64
PATCH_BYTES = 3 * 14 * 14
PATCH_WIDTH = 2 * PATCH_BYTES


def make_config(hidden: int = 64, layers: int = 2, tie: bool = True) -> Qwen2_5_VLConfig:
    text = {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB,
        "max_position_embeddings": 2048,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": [hidden // 8 - 4, 2, 2],
        },
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": tie,
        "initializer_range": 0.2,
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": hidden,
        "patch_size": 14,
        "window_size": 56,
        "fullatt_block_indexes": [1],
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "initializer_range": 0.2,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE,
        video_token_id=7,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
        tie_word_embeddings=tie,
    )


def make_model(seed: int = 0, **kwargs) -> Qwen2_5_VLForConditionalGeneration:
    torch.manual_seed(seed)
    config = make_config(**kwargs)
    model = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    with torch.no_grad():  # norms and biases start as ones and zeros, which would hide mistakes
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.train()


@dataclass(frozen=True)
class Group:
    """One page with its completions."""

    grid: tuple[int, int]
    prompt: np.ndarray
    patches: np.ndarray
    completions: list[np.ndarray]
    advantages: list[float]


def pixels(group: Group, norm: Normalisation = PUBLISHED) -> torch.Tensor:
    """[V, 2 K] what transformers' own model takes, written out."""
    count, width = group.patches.shape
    levels = (group.patches.reshape(count, 3, 1, -1) * (1 / 255)).astype(np.float32)
    mean, std = (np.float32(v)[:, None, None] for v in (norm.mean, norm.std))
    return torch.from_numpy(((levels - mean) / std).repeat(2, axis=2).reshape(count, 2 * width))


def make_group(
    seed: int,
    grid: tuple[int, int],
    lengths: list[int],
    text: int = 5,
    patch_bytes: int = PATCH_BYTES,
) -> Group:
    rng = np.random.default_rng(seed)
    image = [VISION_START] + [IMAGE] * (grid[0] * grid[1] // 4) + [VISION_END]
    prompt = np.concatenate([rng.integers(8, VOCAB, text), image, rng.integers(8, VOCAB, 3)])
    return Group(
        grid=grid,
        prompt=prompt.astype(np.int64),
        # about a standard normal once it is normalised
        patches=(rng.normal(size=(grid[0] * grid[1], patch_bytes)) * 68 + 117)
        .clip(0, 255)
        .astype(np.uint8),
        completions=[rng.integers(8, VOCAB, n).astype(np.int64) for n in lengths],
        advantages=rng.normal(size=len(lengths)).tolist(),
    )


def positions(model, ids: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """[3, T] M-RoPE positions as transformers computes them for one sequence."""
    tokens = torch.from_numpy(ids)[None]
    found, _ = model.model.get_rope_index(
        tokens,
        mm_token_type_ids=(tokens == IMAGE).int(),
        image_grid_thw=torch.tensor([[1, *grid]]),
    )
    return found[:, 0].numpy()


def pack(model, groups: list[Group], page_once: bool = True, seed: int = 7) -> PackedBatch:
    """Page-once, or every completion behind its own prompt and image."""
    rng = np.random.default_rng(seed)
    fields: dict[str, list] = {
        k: [] for k in ("ids", "pos", "seg", "pre", "at", "tgt", "sid", "adv", "beh", "pix", "grid")
    }
    length = segment = sequence = 0

    def add(ids, pos, seg, pre):
        nonlocal length
        fields["ids"].append(ids)
        fields["pos"].append(pos)
        fields["seg"].append(np.full(len(ids), seg, np.int32))
        fields["pre"].append(np.full(len(ids), pre, np.int32))
        length += len(ids)

    for group in groups:
        prefix, start, size = segment, length, len(group.prompt)
        if page_once:
            add(group.prompt, positions(model, group.prompt, group.grid), segment, -1)
            fields["pix"].append(group.patches)
            fields["grid"].append([1, *group.grid])
            segment += 1
        for tokens, advantage in zip(group.completions, group.advantages, strict=True):
            whole = np.concatenate([group.prompt, tokens])
            pos = positions(model, whole, group.grid)
            if page_once:
                at = np.r_[start + size - 1, np.arange(length, length + len(tokens) - 1)]
                if len(tokens):
                    add(tokens, pos[:, size:], segment, prefix)
            else:
                at = np.arange(length + size - 1, length + len(whole) - 1)
                add(whole, pos, segment, -1)
                fields["pix"].append(group.patches)
                fields["grid"].append([1, *group.grid])
            segment += 1
            fields["at"].append(at[: len(tokens)])
            fields["tgt"].append(tokens)
            fields["sid"].append(np.full(len(tokens), sequence, np.int32))
            fields["adv"].append(np.full(len(tokens), advantage, np.float32))
            fields["beh"].append(-rng.random(len(tokens)).astype(np.float32) * 4)
            sequence += 1
    join = {k: np.concatenate(v, axis=-1) for k, v in fields.items() if k not in ("pix", "grid")}
    return PackedBatch(
        token_ids=join["ids"],
        position_ids=join["pos"].astype(np.int64),
        segment_ids=join["seg"],
        prefix_ids=join["pre"],
        predict_at=join["at"].astype(np.int64),
        targets=join["tgt"],
        sequence_ids=join["sid"],
        patches=np.concatenate(fields["pix"]),
        image_grid_thw=np.asarray(fields["grid"], np.int64),
        weights=np.ones(len(join["tgt"]), np.float32),
        advantages=join["adv"],
        behaviour_logprobs=join["beh"],
        page_ids=tuple(f"page{i}" for i in range(len(fields["grid"]))),
    )


def dense_logprobs(
    model, group: Group, tokens: np.ndarray, temperature: float, banned=BANNED, norm=PUBLISHED
):
    """[R] log-probs and entropies of one completion by transformers' own forward, one at a time."""
    ids = torch.from_numpy(np.concatenate([group.prompt, tokens]))[None]
    out = model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == IMAGE).int(),
        pixel_values=pixels(group, norm),
        image_grid_thw=torch.tensor([[1, *group.grid]]),
        use_cache=False,
    )
    logits = out.logits[0, len(group.prompt) - 1 : -1] / temperature
    logits[:, list(banned)] = -torch.inf
    logp = logits.log_softmax(-1)
    p = logp.exp()
    entropy = -(p * logp.masked_fill(p == 0, 0.0)).sum(-1)
    return logp.gather(-1, torch.from_numpy(tokens)[:, None])[:, 0], entropy
