"""Bytes held by each component of a run, by formula; tested against measured allocations.

Symbols: N parameters, M learner ranks, m bytes of a master weight, c bytes of the compute dtype;
T tokens and V patches of one packed row; h hidden width, k key width, I MLP width, L blocks (the
same letters with a v for the vision tower). Every figure is the peak of one rank or GPU.

    at rest    weights N m / M; gradients and two Adam moments of what is trained, sharded alike;
               for bfloat16 masters also the lower halves of what is trained (split_weights)
    gathered   FSDP2 holds its root unit (embedding, head, merger) and two blocks unsharded
    kept       checkpointed: a block's input, T h c; else all that its backward pass reads
    inside     the block whose backward pass runs, recomputed first where it is checkpointed
    head       chunk x vocabulary logits in float32, three of them, and the head's float32 gradient

The peak is at rest + gathered + the largest of three moments of the backward pass (in the head, in
the last language block, in the last vision block), or the moment when Muon holds the updates of
its shard beside it (AdamW is fused and needs no room). Before training each rank loads the whole
model (`loading_bytes`); to transcribe evaluation pages it holds a whole one again
(`transcription_memory`).
"""

from __future__ import annotations

from dataclasses import dataclass

from olmrl.cluster.workload import Workload
from olmrl.config.schema import (
    GrpoConfig,
    LearnerConfig,
    LoraConfig,
    ModelConfig,
    RolloutConfig,
    TranscriptionConfig,
)
from olmrl.hardware import GIB
from olmrl.models.shape import ModelShape

BYTES = {"bfloat16": 2, "float32": 4}

Memory = dict[str, float]
"""Bytes by component."""

_DECODED_TOKEN_BYTES = 96
"""Measured: ids, masks and positions of one token in transformers' generation."""
_GRAPH_BYTES = 1.5 * GIB
"""Assumed: vLLM's CUDA graphs and kernels' workspaces."""
RUNTIME_BYTES = 2.0 * GIB
"""Assumed: CUDA context, NCCL buffers and the allocator's slack of a process on a GPU."""


@dataclass(frozen=True, slots=True)
class Row:
    """One packed micro-batch."""

    tokens: int
    patches: int
    predicted: int
    """Tokens the loss is taken on."""
    keys: int
    """Keys of all segments; those of a prompt count once per completion that attends to it."""

    @classmethod
    def of(cls, work: Workload, budget: int, completions: int) -> Row:
        """The row that a token budget fills with pages and their completions."""
        pages = work.pages_in(budget, completions)
        predicted = max(1, budget - pages * work.prompt)
        behind = round(predicted / work.completion) if completions > 1 else 0
        return cls(budget, pages * work.patches, predicted, budget + behind * work.prompt)


@dataclass(frozen=True, slots=True)
class Teacher:
    """A frozen model beside the policy, to distil from."""

    shape: ModelShape
    headless: bool
    """Its head is applied beside the policy's (`algorithm.teacher.use: loss`)."""


def total(memory: Memory) -> float:
    """Bytes of all components."""
    return sum(memory.values())


def at_rest(
    shape: ModelShape,
    model: ModelConfig,
    learner: LearnerConfig,
    with_reference: bool,
    teacher: Teacher | None = None,
) -> Memory:
    """Weights, gradients and optimizer state of one rank, off-loaded or not."""
    master, ranks = BYTES[model.master_dtype], learner.workers
    trained = shape.trained(model)
    adamw = trained
    if learner.optimizer.name == "muon":
        # Muon keeps one moment for matrices inside the blocks, which are nearly all parameters.
        adamw = min(trained, (1 if shape.tied else 2) * shape.vocabulary * shape.hidden)
    # AdamW's second moment is float32 for bfloat16 weights too.
    moments = trained * master + adamw * BYTES["float32"]
    memory = {
        "weights": shape.parameters * master / ranks,
        "gradients": trained * master / ranks,
        "optimizer": moments / ranks,
    }
    if model.master_dtype == "bfloat16":
        memory["lower bits"] = trained * 2 / ranks  # what bfloat16 weights are rounded by
    if learner.strategy == "deepspeed" and model.dtype == "bfloat16":
        # ZeRO keeps bfloat16 weights besides the float32 masters; in stage 2, whole ones.
        copies = shape.parameters * 2 / (1 if learner.zero_stage == 2 else ranks)
        memory["compute weights"] = copies
    sharded = learner.strategy == "fsdp" or learner.zero_stage == 3
    held = BYTES[learner.frozen_dtype(model)] / (ranks if sharded else 1)
    if with_reference and model.lora is None:
        memory["reference"] = shape.parameters * held
    if teacher is not None:
        memory["teacher"] = teacher.shape.parameters * held
    return memory


def on_device(state: Memory, learner: LearnerConfig) -> Memory:
    """The part of `at_rest` that is not off-loaded."""
    if not learner.use_gpu:
        return state
    if learner.cpu_offload:
        return {}
    off = [name for name in ("reference", "teacher") if getattr(learner, f"{name}_offload")]
    return {name: size for name, size in state.items() if name not in off}


def learner_memory(
    shape: ModelShape,
    model: ModelConfig,
    learner: LearnerConfig,
    row: Row,
    *,
    with_reference: bool = False,
    teacher: Teacher | None = None,
) -> Memory:
    """Peak of one rank by component, at the moment it is reached; see the module's docstring."""
    state = at_rest(shape, model, learner, with_reference, teacher)
    resident = on_device(state, learner)
    if teacher is not None and teacher.headless:
        resident |= {"teacher's head": _teacher_head(teacher.shape, model, learner, row)}
    training = (
        resident | _gathered(shape, model, learner) | _largest_moment(shape, model, learner, row)
    )
    peaks = [training]
    if teacher is not None:
        peaks.append(
            resident | {"teacher's pass": _teacher_pass(teacher.shape, model, learner, row)}
        )
    if learner.use_gpu and not learner.cpu_offload and learner.optimizer.name == "muon":
        peaks.append(resident | {"optimizer step": shape.trained(model) * 4 / learner.workers})
    largest = max(peaks, key=total)
    return {name: size for name, size in largest.items() if size}


def is_sharded(model: ModelConfig, learner: LearnerConfig) -> bool:
    """Whether weights are gathered to be used (`strategy_fsdp.shard` leaves a lone rank alone)."""
    alone = learner.workers == 1 and model.dtype == model.master_dtype
    return not alone or (learner.cpu_offload and learner.use_gpu)


def loading_bytes(
    shape: ModelShape,
    model: ModelConfig,
    learner: LearnerConfig,
    with_reference: bool,
    teacher: Teacher | None = None,
) -> float:
    """The whole model before a rank shards it; reference and teacher are loaded next to what is
    sharded by then."""
    held = on_device(at_rest(shape, model, learner, with_reference, teacher), learner)
    frozen = BYTES[learner.frozen_dtype(model)]
    peaks = [float(shape.parameters * BYTES[model.master_dtype])]
    if with_reference and model.lora is None:
        peaks.append(held.get("weights", 0.0) + shape.parameters * frozen)
    if teacher is not None:
        beside = held.get("weights", 0.0) + held.get("reference", 0.0)
        peaks.append(beside + teacher.shape.parameters * frozen)
    return max(peaks)


def _teacher_pass(shape: ModelShape, model: ModelConfig, learner: LearnerConfig, row: Row) -> float:
    """A forward pass of a teacher: its gathered weights, and what one block and the head hold."""
    compute = BYTES[model.dtype]
    gathered = _gathered(shape, model, learner).get("gathered weights", 0.0)
    block = row.tokens * max(4 * shape.hidden, 3 * shape.language.inner) * compute
    tower = row.patches * shape.vision.saved[compute]
    logits = 8.0 * min(learner.logprob_chunk, row.predicted) * shape.vocabulary
    return gathered + max(float(block), float(tower), logits)


def _teacher_head(shape: ModelShape, model: ModelConfig, learner: LearnerConfig, row: Row) -> float:
    """A teacher's gathered root unit and its hidden states at the predicted tokens."""
    compute = BYTES[model.dtype]
    hidden = 1.0 * row.predicted * shape.hidden * compute
    if not is_sharded(model, learner):
        return hidden
    blocks = sum(stack.count * stack.parameters for stack in shape.stacks)
    blocks += shape.vision.count * shape.vision.parameters
    root = shape.parameters - (blocks if learner.wrap == "block" else 0)
    return hidden + root * compute


def _gathered(shape: ModelShape, model: ModelConfig, learner: LearnerConfig) -> Memory:
    """Unsharded weights in the compute dtype, and unsharded gradients of the head and a block."""
    compute = BYTES[model.dtype]
    trained = shape.trained(model) > 0 and model.lora is None and not model.freeze.language
    head = shape.vocabulary * shape.hidden if trained else 0
    if not is_sharded(model, learner):
        return {}
    blocks = sum(stack.count * stack.parameters for stack in shape.stacks)
    largest = max(stack.parameters for stack in shape.stacks)
    vision = shape.vision.count * shape.vision.parameters
    root = shape.parameters - blocks - vision
    if learner.wrap == "root":
        return {"gathered weights": (shape.parameters * compute) * (2 if trained else 1)}
    gradients = largest * (compute + 4) if trained else 0
    return {
        "gathered weights": (root + 2 * largest) * compute,
        "gathered gradients": head * compute + gradients,
    }


def _largest_moment(
    shape: ModelShape, model: ModelConfig, learner: LearnerConfig, row: Row
) -> Memory:
    """Activations, vision features and logits when the backward pass holds most of them."""
    compute = BYTES[model.dtype]
    saved = [row.tokens * stack.saved[compute] for stack in shape.stacks]
    saved[-1] += 2 * compute * _copied_keys(shape, learner, row)
    vision_block = row.patches * shape.vision.saved[compute]
    kept = 1.0 * row.tokens * shape.layers * shape.hidden * compute
    vision_kept = 1.0 * row.patches * shape.vision.count * shape.vision.width * compute
    *recurrent, inside = saved
    vision_inside = float(vision_block)
    if not learner.activation_checkpointing:
        counts = (stack.count for stack in shape.stacks)
        kept = sum(count * block for count, block in zip(counts, saved, strict=True))
        vision_kept = shape.vision.count * vision_block
        recurrent, inside, vision_inside = [], 0.0, 0.0
    if model.freeze.vision and model.freeze.projector:
        vision_kept = vision_inside = 0.0
    ends = (row.tokens + row.predicted) * shape.hidden * (16 if compute == 4 else 10)
    # One of the two equal frames in bytes, and both normalised.
    pixels = row.patches * (shape.patch_width * (0.5 + compute) + 6 * shape.vision.width * 4)
    # what further mergers keep beside the last one's, which is in the six widths above
    pixels += 3.0 * row.patches * shape.vision.width * compute * (shape.merger.count - 1)
    features = row.patches / shape.merge**2 * shape.hidden * compute * shape.merger.count
    head = _head_bytes(shape, model, learner, row)
    around: Memory = {"vision features": vision_kept + pixels + features}
    moments: list[Memory] = [
        around | {"activations": kept + ends, "logits": head},
        around | {"activations": kept + ends + inside},
        # the last block attends; behind it half of the ends is gone
        *(around | {"activations": kept + ends / 2 + block} for block in recurrent),
        {"vision features": around["vision features"] + vision_inside, "activations": ends / 2},
    ]
    return max(moments, key=total)


def _copied_keys(shape: ModelShape, learner: LearnerConfig, row: Row) -> int:
    """Numbers in the copies of keys that attention makes in a block: of a prompt for each of its
    completions, or on a GPU, where it is more, of every key for each query head (`FlexPlan`)."""
    gathered = row.keys * shape.language.keys
    repeated = row.tokens * shape.language.queries
    shared = row.keys > row.tokens
    return max(gathered, repeated) if learner.use_gpu and shared else gathered


def _head_bytes(shape: ModelShape, model: ModelConfig, learner: LearnerConfig, row: Row) -> float:
    """Logits of one chunk, and the float32 sum of the head's gradient.

    Either the next chunk's logits are made beside those and the probabilities of the last one, or
    both lie beside their product with the hidden states, in the compute dtype.
    """
    compute = BYTES[model.dtype]
    logits = 4.0 * min(learner.logprob_chunk, row.predicted) * shape.vocabulary
    trained = model.lora is None and not model.freeze.language
    gradient = 4.0 * shape.vocabulary * shape.hidden if trained else 0.0
    rounded = logits / 2 if compute == 2 else 0.0
    return gradient + max(3 * logits, 2 * logits + rounded + gradient * compute / 4)


def transcription_memory(
    shape: ModelShape,
    model: ModelConfig,
    learner: LearnerConfig,
    work: Workload,
    generate: TranscriptionConfig,
) -> Memory:
    """Peak of one rank while it reads evaluation pages (`learner.generation`).

    Weights and optimizer at rest; one whole copy of the model of (N + h vocabulary, if tied) c
    bytes; for B pages of V patches, P prompt tokens and L of text their pixels, and the largest of

        gathering  the largest tensor whole, in the master dtype
        vision     one block: V B h_v c, times 11 in float32, 18 in bfloat16
        prefill    the prompts' keys and values, and one MLP: P B (3 I + 4.6 h) c
        decoding   keys and values of all tokens, and once more the keys of one layer
    """
    compute = BYTES[model.dtype]
    state = at_rest(shape, model, learner, with_reference=False)
    if learner.strategy == "fsdp":
        del state["gradients"]  # freed between steps
    resident = on_device(state, learner)
    matrix = shape.vocabulary * shape.hidden
    copied = shape.parameters + (matrix if shape.tied else 0)
    prompts = generate.batch_pages * work.prompt
    tokens = prompts + generate.batch_pages * generate.max_tokens
    patches = generate.batch_pages * work.patches
    kv = kv_bytes_per_token(shape, model.dtype)
    states = 1.0 * generate.batch_pages * state_bytes(shape)
    in_mlp = 3 * shape.language.inner + 4.6 * shape.hidden
    in_vision = (11 if compute == 4 else 18) * shape.vision.width
    gathered = float(matrix * BYTES[model.master_dtype]) if is_sharded(model, learner) else 0.0
    moments: list[Memory] = [
        {"gathered tensor": gathered},
        {"vision features": 1.0 * patches * in_vision * compute},
        {"KV cache": prompts * kv + states, "activations": prompts * in_mlp * compute},
        {
            "KV cache": tokens * kv * (1 + 0.5 / shape.language.count) + states,
            "activations": 1.0 * tokens * _DECODED_TOKEN_BYTES,
        },
    ]
    pages = {
        "whole copy": 1.0 * copied * compute,
        "pixels": patches * shape.patch_width * (0.5 + compute),
    }
    return resident | pages | max(moments, key=total)


def kv_bytes_per_token(shape: ModelShape, dtype: str) -> int:
    """Keys and values of one token over all layers."""
    return 2 * shape.language.count * shape.language.keys * BYTES[dtype]


def state_bytes(shape: ModelShape) -> int:
    """Recurrent state of one sequence over all layers, in float32."""
    return sum(stack.count * stack.state * 4 for stack in shape.stacks)


def adapter_parameters(shape: ModelShape, lora: LoraConfig) -> int:
    """Of adapters in the language model."""
    targets = lora.target_modules
    return sum(stack.count * stack.adapters(lora.rank, targets) for stack in shape.stacks)


def sent_bytes(config: GrpoConfig, shape: ModelShape) -> int:
    """Of a weight sync to one engine: the adapters alone, or at most the whole model."""
    adapter = config.synced_adapter
    sent = adapter_parameters(shape, adapter) if adapter else shape.parameters
    return sent * BYTES[config.rollout.dtype]


def engine_memory(
    shape: ModelShape,
    rollout: RolloutConfig,
    work: Workload,
    gpu_bytes: float | None,
    *,
    rounded: int = 0,
    adapter: LoraConfig | None = None,
) -> Memory:
    """One engine GPU (or CPU engine) by component.

    The KV cache is what vLLM takes: `rollout.kv_cache_gb` if set, else on a GPU the rest of
    `gpu_memory_utilization`; without either, what `max_num_seqs` mean sequences need.

    Args:
        shape: the model.
        rollout: engine settings.
        work: an average page.
        gpu_bytes: memory of one GPU; None on CPU, or if unknown.
        rounded: weights that take one byte each (`Family.quantised_parameters`).
        adapter: adapters that the engine holds beside its weights.
    """
    split = rollout.tensor_parallel_size
    size = BYTES[rollout.dtype]
    memory: Memory = {"weights": (shape.parameters * size - rounded * (size - 1)) / split}
    if adapter is not None:
        room = adapter.model_copy(update={"rank": adapter.engine_rank})
        memory["adapters"] = adapter_parameters(shape, room) * size
    if gpu_bytes is not None:
        widest = max(2 * shape.language.inner, shape.vocabulary // 8)
        memory["activations"] = (
            rollout.max_batched_tokens * (widest / split + 4 * shape.hidden) * size
        )
        memory["vision features"] = work.patches * shape.vision.saved[size]
        memory["CUDA graphs (assumed)"] = _GRAPH_BYTES
    if rollout.kv_cache_gb is not None:
        memory["KV cache"] = rollout.kv_cache_gb * GIB
    elif gpu_bytes is not None:
        memory["KV cache"] = max(0.0, rollout.gpu_memory_utilization * gpu_bytes - total(memory))
    else:
        memory["KV cache"] = kv_cache_wanted(shape, rollout, work) / split
    return memory


def kv_cache_wanted(shape: ModelShape, rollout: RolloutConfig, work: Workload) -> float:
    """Bytes that `max_num_seqs` sequences of mean length need, each group's prompt once."""
    groups = -(-rollout.max_num_seqs // rollout.group_size)
    tokens = groups * work.prompt + rollout.max_num_seqs * work.completion
    # a recurrence keeps a state per sequence, and one at the end of each cached prompt
    states = (groups + rollout.max_num_seqs) * state_bytes(shape)
    return tokens * kv_bytes_per_token(shape, rollout.dtype) + states
