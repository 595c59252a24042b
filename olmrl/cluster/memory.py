"""Bytes that each component of a run holds, by formula."""

from __future__ import annotations

from olmrl.cluster.shape import ModelShape
from olmrl.config.schema import LearnerConfig, ModelConfig, RolloutConfig

GIB = 2.0**30
_BYTES = {"bfloat16": 2, "float32": 4}


def learner_memory(
    shape: ModelShape, model: ModelConfig, learner: LearnerConfig, with_reference: bool
) -> dict[str, float]:
    """GiB per learner rank by component (formula in the module docstring)."""
    count, ranks = shape.parameters, learner.workers
    compute, master = _BYTES[model.dtype], _BYTES[model.master_dtype]
    tokens = learner.token_budget
    per_layer = tokens * shape.hidden * compute
    inner = tokens * (4 * shape.hidden + 3 * shape.intermediate) * compute
    activations = per_layer * shape.layers + inner
    if not learner.activation_checkpointing:
        activations = inner * shape.layers
    host = learner.cpu_offload
    memory = {
        "weights": 0.0 if host else count * master / ranks,
        "gradients": 0.0 if host else count * 4 / ranks,
        "optimizer": 0.0 if host else count * 2 * master / ranks,
        "unsharded blocks": 2 * shape.block_parameters * compute if ranks > 1 else 0.0,
        "activations": float(activations),
        "logits": 2.0 * learner.logprob_chunk * shape.vocabulary * 4,
        "vision": 4.0 * tokens * shape.vision_hidden * shape.vision_layers * compute,
    }
    if with_reference:
        memory["reference"] = count * compute / ranks
    return {name: size / GIB for name, size in memory.items() if size}


def engine_memory(shape: ModelShape, rollout: RolloutConfig) -> dict[str, float]:
    """GiB per engine GPU: weights, and the KV cache of `max_num_seqs` full-length sequences."""
    size = _BYTES[rollout.dtype]
    per_token = 2 * shape.layers * (shape.hidden // shape.heads) * shape.kv_heads * size
    prompt_and_completion = min(rollout.max_model_len, 2500 + rollout.sampling.max_tokens)
    wanted = per_token * prompt_and_completion * rollout.max_num_seqs
    split = rollout.tensor_parallel_size
    return {
        "weights": shape.parameters * size / split / GIB,
        "KV cache (full)": wanted / split / GIB,
    }
