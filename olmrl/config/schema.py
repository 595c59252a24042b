"""Every run-level knob of olmrl, on one page.

`SftConfig` and `GrpoConfig` are what `python -m olmrl.sft` and `python -m olmrl.grpo` read.
Unknown keys are errors, values are checked, instances are frozen, and each default is defined
here and nowhere else. Numbers of the published recipes come from
docs/formats.md#published-sft-recipe and docs/formats.md#published-grpo-recipe.
"""

from __future__ import annotations

import math
import os
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from olmrl.config.annotations import types_in
from olmrl.config.registered import LOSSES, REWARDS, STEPS, TRANSPORTS

_MOST = 10**9
"""Largest number of anything countable; beyond it a figure is a slip of the keyboard."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, le=_MOST)]
Count = Annotated[int, Field(ge=1, le=_MOST)]
StepNumber = Annotated[int, Field(ge=0, le=_MOST)]
NonNegative = Annotated[float, Field(ge=0.0, le=_MOST)]
Pixels = Annotated[int, Field(ge=1, le=16_384)]
Processes = Annotated[int, Field(ge=1, le=65_536)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Resources = dict[str, NonNegative]
Dtype = Literal["bfloat16", "float32"]
RewardScaling = Literal["group", "batch", "none", "per_reward"]
RewardName = Annotated[str, AfterValidator(REWARDS.check), Field(examples=REWARDS.names)]
LossName = Annotated[str, AfterValidator(LOSSES.check), Field(examples=LOSSES.names)]
TransportName = Annotated[str, AfterValidator(TRANSPORTS.check), Field(examples=TRANSPORTS.names)]


def _known_step(step: dict[str, Any]) -> dict[str, Any]:
    STEPS.check(step.get("name"))
    return step


_STEP_SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "examples": STEPS.names}},
    "required": ["name"],
}
StepConfig = Annotated[
    dict[str, Any], AfterValidator(_known_step), WithJsonSchema(_STEP_SCHEMA)  # for editors
]
"""`{name: ..., parameter: value}`; the step itself checks its parameters."""


def _at_home(path: str) -> str:
    """A path with its `~` spelt out.

    Raises:
        ValueError: it is empty, or the user of `~user` has no home folder here.
    """
    if not path.strip():
        raise ValueError(f"{path!r}: must be a folder or a name")
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise ValueError(f"{path!r}: no such user; ~ begins a home folder, ./~ is a plain name")
    return found


Place = Annotated[str, AfterValidator(_at_home)]
"""A folder here or remote, or a name on the Hub; `~` is the home folder."""


class Section(BaseModel):
    """A strict, frozen group of keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_switches(cls, value: Any, field: ValidationInfo) -> Any:
        if isinstance(value, bool):
            taken = types_in(cls.model_fields[str(field.field_name)].annotation)
            if bool not in taken and {int, float}.intersection(taken):
                raise ValueError(f"must be a number, not {str(value).lower()}")
        return value


class LoraConfig(Section):
    """Low-rank adapters through peft, instead of training all weights."""

    rank: Count = 8
    """Rank of the adapters."""
    alpha: Positive = 32.0
    """Scale numerator; the update is scaled by alpha / rank."""
    dropout: Fraction = 0.1
    """Dropout on adapter inputs; in GRPO 0 unless set, as it makes ratios and mismatch noisy."""
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Linear layers that get adapters."""

    @property
    def engine_rank(self) -> int:
        """Rank that vLLM makes room for: the next one that its kernels take."""
        return next((rank for rank in ENGINE_RANKS if rank >= self.rank), self.rank)


ENGINE_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Of the adapters that vLLM's kernels take (its `MaxLoRARanks`)."""


class FreezeConfig(Section):
    """Parts of the model that are not trained."""

    vision: bool = False
    """Freeze the vision tower (patch embedding and blocks)."""
    projector: bool = False
    """Freeze the vision-to-text merger."""
    language: bool = False
    """Freeze the language model."""


class ModelConfig(Section):
    """The policy."""

    path: Place
    """Hugging Face name or folder of a vision-language model of a family that olmrl trains."""
    dtype: Dtype = "bfloat16"
    """Precision of the forward and backward computation."""
    master_dtype: Dtype = "float32"
    """Precision of the weights that the optimizer updates. bfloat16 takes 12 bytes a weight instead
    of 16: the bits that it rounds away are kept beside it, so that no update is lost."""
    attention: Literal["auto", "sdpa", "flash", "flex"] = "auto"
    """Kernel; auto: on a GPU flash-attn if installed, else FlexAttention; SDPA on CPU."""
    trust_remote_code: bool = False
    """Run code shipped with the checkpoint."""
    chat: dict[str, bool | int | float | str] = {}
    """Arguments of the model's chat template, beside and before those that its family sets."""
    freeze: FreezeConfig = FreezeConfig()
    """Parts that are not trained."""
    lora: LoraConfig | None = None
    """Adapters; null trains all weights."""


class SelectionConfig(Section):
    """Pages that teach little are set aside for some epochs, and then come back."""

    rest_epochs: StepNumber = 0
    """Epochs that a page is left out after all its completions were solved, or all failed; 0: no
    page is left out."""
    reward: str = "bench"
    """Reward that says what is solved; pages to which it does not apply are never left out."""
    solved: Fraction = 1.0
    """Least value of a completion that solves its page."""
    failed: Fraction = 0.0
    """Largest value of a completion that fails."""
    min_entropy: NonNegative = 0.0
    """Pages whose sampled tokens have a lower entropy are left out, too: nats a token, estimated as
    the mean of -log-prob over the group. 0: whatever their entropy."""

    @model_validator(mode="after")
    def _coherent(self) -> SelectionConfig:
        if self.failed >= self.solved:
            raise ValueError(
                f"data.selection.failed: {self.failed} must be below data.selection.solved="
                f"{self.solved}"
            )
        return self


class DataConfig(Section):
    """Pages of a GRPO run."""

    train: Place
    """Bench folder of training pages (pdfs/ and *.jsonl)."""
    heldout: Place | None = None
    """Bench folder scored before, during and after training."""
    longest_side: Pixels = 1288
    """Pixels of the longer page side after rendering."""
    prompt: str = "olmrl-v1"
    """Prompt name: olmrl-v1, olmocr-v4 (read from the olmocr package), or file:PATH."""
    prompt_order: Literal["text_first", "image_first"] = "text_first"
    """Whether the instruction comes before or after the page image."""
    anchor_text_len: StepNumber = 0
    """Characters of PDF anchor text put into the prompt; 0: none."""
    max_pages: Count | None = None
    """Use at most this many training pages: a sample by run.seed, spread over the JSONL files."""
    file_pattern: str | None = None
    """Case-insensitive regular expression that JSONL file names must match."""
    max_bad_fraction: Fraction = 0.05
    """Largest share of bad pages; above it the run stops."""
    prefetch_pages: Count = 32
    """Rendered pages held ready ahead of the rollouts (bounds memory)."""
    render_cpus: Positive = 1.0
    """Logical CPUs of one rendering task."""
    resources: Resources = {}
    """Custom Ray resources of a rendering task (keeps it on the CPU nodes that have them)."""
    selection: SelectionConfig = SelectionConfig()
    """Pages that are always or never solved."""


class SamplingConfig(Section):
    """How completions are drawn."""

    temperature: Annotated[float, Field(gt=0.0, le=2.0)] = 0.8
    """Softmax temperature; also applies to log-probabilities."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Nucleus mass; if below 1, log-probabilities are still those of the full vocabulary."""
    max_tokens: Count = 3000
    """Maximum completion tokens."""


class WorkerRange(Section):
    """An elastic number of engines."""

    min: Processes = 1
    """The run continues as long as at least this many are alive."""
    max: Processes = 1
    """Maximum number started."""


_COLOCATED_SHARE = 0.51
"""More than half, or Ray would put two engines on one GPU and two ranks on the next."""


class RolloutConfig(Section):
    """Engines that generate completions."""

    engine: Literal["vllm", "hf"] = "vllm"
    """vllm, or transformers' own generation (Macs, debugging, parity)."""
    workers: Processes | WorkerRange = 1
    """Number of engines (Ray actors), or {min, max}."""
    group_size: Count = 28
    """Completions per page, G."""
    oversample: StepNumber = 0
    """Extra completions per page; the slowest of a group are aborted once G are done, which favours
    short ones."""
    sampling: SamplingConfig = SamplingConfig()
    """Temperature, top_p and length."""
    max_model_len: Count = 16384
    """Maximum prompt plus completion tokens of a sequence."""
    max_num_seqs: Count = 256
    """Sequences decoded together by one engine."""
    max_batched_tokens: Count = 8192
    """Tokens of one forward pass of an engine; longer prefills are split."""
    tensor_parallel_size: Count = 1
    """GPUs per engine."""
    gpu_memory_utilization: Fraction = 0.9
    """Share of GPU memory that an engine may use."""
    kv_cache_gb: Positive | None = None
    """KV cache in GiB; null: what `gpu_memory_utilization` leaves, or vLLM's default on a CPU."""
    dtype: Dtype = "bfloat16"
    """Engine precision."""
    quantization: Literal["fp8"] | None = None
    """fp8: vLLM rounds the language model's linear layers to 8 bits, at load and at every sync; the
    rest, and all weights where null, stay in dtype."""
    enforce_eager: bool = False
    """Do not capture CUDA graphs."""
    cpus_per_worker: Positive = 1.0
    """Logical CPUs reserved for one engine."""
    resources: Resources = {}
    """Custom Ray resources of an engine (heterogeneous clusters)."""
    colocate: bool = False
    """Share the learner's GPUs, one engine per rank: engines sleep while the learner works.
    Leave room for what the learner keeps there (gpu_memory_utilization, learner.cpu_offload)."""
    stall_timeout_s: Positive = 300.0
    """Seconds after which an engine that has work but produces no token is replaced."""

    @property
    def gpu_share(self) -> float:
        """Fraction of a GPU that Ray counts for an engine."""
        return _COLOCATED_SHARE if self.colocate else 1.0

    @property
    def learner_gpu_share(self) -> float:
        """Fraction of a GPU that Ray counts for a learner rank."""
        return 1.0 - _COLOCATED_SHARE if self.colocate else 1.0

    @property
    def min_workers(self) -> int:
        """Engines that the run needs in order to continue."""
        return self.workers if isinstance(self.workers, int) else self.workers.min

    @property
    def max_workers(self) -> int:
        """Engines the run may use."""
        return self.workers if isinstance(self.workers, int) else self.workers.max


class RewardConfig(Section):
    """One reward. Options beyond name and weight go to the reward's constructor."""

    name: RewardName
    """A registered reward, or `package.module:callable`."""
    weight: Annotated[float, Field(ge=-_MOST, le=_MOST)] = 1.0
    """Factor in the weighted sum."""
    options: dict[str, Any] = {}
    """Constructor arguments, e.g. {average: macro} for bench."""
    curriculum: dict[str, Annotated[dict[StepNumber, NonNegative], Field(min_length=1)]] = {}
    """For bench: weight of a unit-test category by step, linear in between and constant beyond;
    1 for others. E.g. {type/table: {0: 0, 100: 1}} or {file/old_scans.jsonl: {0: 0.2, 50: 1}}."""


class ScorerConfig(Section):
    """Worker processes that compute rewards."""

    workers: Processes = 2
    """Number of scorer processes."""
    timeout_s: Positive = 30.0
    """Hard deadline of one scoring call, in seconds; then the worker is killed and replaced."""
    retries: StepNumber = 1
    """Retries after a failure, each in another process. A text that stalls or kills every one gets
    the lowest rewards; if a reward itself fails, the group is dropped."""
    max_completion_chars: Count = 200_000
    """Longer completions get the lowest rewards without being read."""
    cpus_per_worker: Positive = 1.0
    """Logical CPUs reserved for one scorer."""
    resources: Resources = {}
    """Custom Ray resources of a scorer (heterogeneous clusters)."""
    max_memory_gb: Positive = 4.0
    """Private memory in GB that a scorer may allocate on top of what it starts with (Linux)."""


class CorrectionConfig(Section):
    """Importance correction of the rollout/learner log-prob mismatch."""

    level: Literal["none", "token", "sequence"] = "sequence"
    """Ratio per token, per sequence, or no correction."""
    mode: Literal["truncate", "mask"] = "mask"
    """Truncate ratios at cap and floor, or mask what lies outside."""
    cap: Positive = 3.0
    """Largest allowed ratio."""
    floor: NonNegative | None = None
    """Smallest allowed ratio; null: 1 / cap for mask, none (0) for truncate."""

    @property
    def least(self) -> float:
        """`floor`, or its default."""
        if self.floor is not None:
            return self.floor
        return 1.0 / self.cap if self.mode == "mask" else 0.0

    @model_validator(mode="after")
    def _ordered(self) -> CorrectionConfig:
        if self.cap < 1.0 or self.least > 1.0:
            raise ValueError(
                f"algorithm.correction: needs floor <= 1 <= cap, as a ratio of 1 is no mismatch at "
                f"all; floor is {self.least:g} and cap is {self.cap:g}"
            )
        return self


class TeacherConfig(Section):
    """On-policy distillation: a frozen teacher judges the policy's own tokens."""

    path: Place
    """Hugging Face name or folder of a model with the policy's tokenizer, image grid and chat."""
    weight: Positive = 1.0
    """Factor of the reverse KL, per token, beside the rewards' advantages."""
    use: Literal["reward", "loss"] = "reward"
    """reward: log-ratio of each sampled token, added to its advantage; loss: KL over the whole
    vocabulary at each position, added to the loss (FSDP only)."""
    clip: Positive = 10.0
    """Largest |log-ratio| of a token as a reward, in nats."""
    alone: bool = False
    """Learn from the teacher only; rewards are measured."""


class AlgorithmConfig(Section):
    """GRPO (Shao et al., arXiv 2402.03300) and its published variants."""

    pages_per_step: Count = 7
    """Prompt groups in one batch."""
    loss: LossName = "bnpo"
    """How ratios are clipped and per-token losses averaged: grpo, bnpo, dr_grpo, dapo, cispo, or
    your own as `package.module:callable`."""
    loss_options: dict[str, Any] = {}
    """Constructor arguments of a loss of your own."""
    importance_level: Literal["token", "sequence"] = "token"
    """Ratio per token (GRPO) or per sequence (GSPO, arXiv 2507.18071)."""
    clip_low: NonNegative = 0.2
    """Lower clip distance of the ratio."""
    clip_high: NonNegative = 0.2
    """Upper clip distance of the ratio."""
    clip_dual: Annotated[NonNegative, Field(gt=1.0)] | None = None
    """Ratio beyond which a token of negative advantage counts as if it had this one (dual clip,
    arXiv 1912.09729; not for cispo, which is capped anyway); null: no bound."""
    reward_scaling: RewardScaling = "group"
    """Standard deviation that advantages are divided by: of the group's or the batch's totals, or
    none. per_reward: each reward is standardised within its group before the weighted sum, and the
    sum divided by its deviation over the batch (GDPO, arXiv 2601.05242)."""
    epochs_per_batch: Count = 1
    """Passes over each batch, mu."""
    minibatches: Count = 1
    """Optimizer steps per pass over a batch, at most pages_per_step. Each pass shuffles the prompt
    groups with the run's seed; a group stays whole, and every token weighs alike."""
    kl_beta: NonNegative = 0.0
    """Weight of the KL term against the reference policy; 0 loads no reference."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """KL estimator (Schulman, 2020). On-policy, the expected gradient of k1 is zero, that of k2 is
    KL(policy || reference)'s, and that of k3, the published one, KL(reference || policy)'s."""
    correction: CorrectionConfig = CorrectionConfig()
    """Rollout/learner correction."""
    entropy_bonus: NonNegative = 0.0
    """Weight of each token's entropy, added to its objective and averaged as the loss averages."""
    overlong: Literal["keep", "mask", "shape"] = "keep"
    """Truncated completions (at max_tokens or max_model_len): train on, mask, or shape their reward
    (DAPO)."""
    overlong_buffer: StepNumber = 0
    """Tokens before max_tokens over which `shape` lowers the reward linearly to -1."""
    max_staleness: StepNumber = 0
    """Policy versions a batch may lag; 0 is synchronous."""
    drop_zero_variance: bool = True
    """Drop and refill groups whose reward range is <= 1e-6; with a teacher none is dropped."""
    max_refills: Count | None = None
    """Groups that may be dropped while one batch is filled; then the run saves, ends and says why.
    null: 100 times pages_per_step."""
    max_length_for_dr_grpo: Count | None = None
    """Constant normaliser of dr_grpo; null takes sampling.max_tokens."""
    teacher: TeacherConfig | None = None
    """Model to learn from, besides the rewards or instead of them; null: none."""

    @model_validator(mode="after")
    def _cuttable(self) -> AlgorithmConfig:
        if self.minibatches > self.pages_per_step:
            raise ValueError(
                f"algorithm.minibatches: {self.minibatches} minibatches cannot be cut from "
                f"algorithm.pages_per_step={self.pages_per_step} prompt groups, which stay whole"
            )
        return self

    @property
    def refill_limit(self) -> int:
        """`max_refills`, or its default."""
        return self.max_refills or 100 * self.pages_per_step

    @property
    def updates_per_step(self) -> int:
        """Optimizer updates that a batch is used for."""
        return self.epochs_per_batch * self.minibatches

    @property
    def teacher_passes(self) -> int:
        """Forward passes of the teacher over a batch."""
        if self.teacher is None:
            return 0
        return self.epochs_per_batch if self.teacher.use == "loss" else 1

    @property
    def drops_zero_variance(self) -> bool:
        """Whether groups of equal rewards teach nothing and are dropped; a teacher teaches."""
        return self.drop_zero_variance and self.teacher is None


class LrMultipliers(Section):
    """Factors on `lr` (public Muon recipes use 11, 30 and 2)."""

    head: Positive = 1.0
    """Output head, if it is not tied to the embedding."""
    embedding: Positive = 1.0
    """Token and patch embeddings."""
    scalar: Positive = 1.0
    """Norms and biases."""


ScheduleName = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
]
"""Schedules of transformers whose rate is a function of the step alone."""


class OptimizerConfig(Section):
    """AdamW, or Muon for matrices with AdamW for the rest."""

    name: Literal["adamw", "muon"] = "adamw"
    """Optimizer."""
    lr: Positive = 2e-6
    """Peak learning rate (of the AdamW groups)."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Adam moment decays."""
    eps: Positive = 1e-8
    """Adam epsilon."""
    weight_decay: NonNegative = 0.0
    """Decoupled decay; norms and biases are exempt by module type."""
    muon_lr: Positive | None = None
    """Learning rate of Muon matrices; null takes lr."""
    muon_momentum: Fraction = 0.95
    """Momentum of Muon."""
    lr_multipliers: LrMultipliers = LrMultipliers()
    """Learning rates of everything but hidden matrices, relative to lr."""
    schedule: ScheduleName = "linear"
    """transformers.get_scheduler name."""
    warmup_steps: StepNumber = 0
    """Linear warm-up in optimizer steps."""
    warmup_ratio: Fraction = 0.0
    """Warm-up as a share of all steps, if warmup_steps is 0."""
    schedule_options: dict[str, Any] = {}
    """Extra arguments of the schedule, e.g. num_decay_steps."""
    max_grad_norm: Positive = 1.0
    """Gradient clipping."""

    @model_validator(mode="after")
    def _warms_up(self) -> OptimizerConfig:
        if self.schedule == "constant" and (self.warmup_steps or self.warmup_ratio):
            raise ValueError(
                "learner.optimizer.schedule: constant has no warm-up, but warmup_steps="
                f"{self.warmup_steps} and warmup_ratio={self.warmup_ratio:g}; use "
                "constant_with_warmup, or leave the warm-up out"
            )
        return self


class LearnerConfig(Section):
    """The Ray Train worker group that updates the weights."""

    strategy: Literal["fsdp", "deepspeed"] = "fsdp"
    """How the model is sharded."""
    workers: Processes = 1
    """Ranks."""
    use_gpu: bool = True
    """One GPU per rank; false trains on CPU over gloo."""
    cpus_per_worker: Positive = 1.0
    """Logical CPUs reserved for one rank."""
    resources: Resources = {}
    """Custom Ray resources of a rank."""
    token_budget: Count = 16384
    """Packed tokens per micro-batch and rank (gradient accumulation follows from it)."""
    page_once: bool = True
    """Run prompt and vision tower once per group; false repeats them per completion."""
    activation_checkpointing: bool = True
    """Recompute block activations in the backward pass."""
    compile: bool = False
    """torch.compile the blocks."""
    logprob_chunk: Count = 1024
    """Predicted tokens per LM-head chunk (limits the T x V logits)."""
    fp32_lm_head: bool = False
    """Compute logits from float32 weights and activations."""
    wrap: Literal["block", "root"] = "block"
    """FSDP unit: every block, or the whole model (fastest for tiny models)."""
    cpu_offload: bool = False
    """Keep sharded parameters and optimizer state in host memory."""
    reference_offload: bool = False
    """Keep the KL term's reference policy in host memory, wherever the policy is."""
    teacher_offload: bool = False
    """Likewise the teacher's weights (`algorithm.teacher`)."""
    zero_stage: Literal[2, 3] = 3
    """DeepSpeed ZeRO stage."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizer and schedule."""
    max_restarts: StepNumber = 3
    """Worker-group restarts before the run fails."""

    def frozen_dtype(self, model: ModelConfig) -> Dtype:
        """Precision of the weights of reference and teacher. They are never updated, so that of the
        computation, which would round them anyway, suffices; but a float32 head reads them
        unrounded."""
        return model.master_dtype if self.fp32_lm_head else model.dtype


class WeightSyncConfig(Section):
    """Learner to engines."""

    transport: TransportName = "auto"
    """nccl, ipc, object_store, nccl_m2n, sharded_rdt or your own as `package.module:callable`; auto
    takes nccl between GPUs, ipc when colocated, object_store on CPU and for adapters."""
    bucket_mb: Positive = 256.0
    """MiB moved per message."""
    in_flight: Literal["recompute", "keep_kv"] = "recompute"
    """At an update, running requests re-prefill or continue on the old KV (mixed tokens)."""
    checksum: bool = False
    """After each update, verify that engines and learner hold equal weights."""
    lora: Literal["merged", "adapter"] = "merged"
    """With model.lora: send the adapted weights, merged, or the adapters alone."""


class GuardConfig(Section):
    """Checks that stop a run when something is wrong."""

    parity_every: StepNumber = 50
    """Compare engine and learner log-probs every k steps (and at start); 0: never."""
    parity_pages: Count = 2
    """Number of pages for this check."""
    max_mean_gap: Positive | None = None
    """Bound on the mean |log-prob gap|; null takes 1e-3 for float32, 0.05 for bfloat16."""
    outlier_gap: Positive = 1.0
    """A token is an outlier if its |gap| exceeds this."""
    max_outlier_fraction: Fraction = 0.02
    """Bound on the share of outliers."""
    max_sequence_spread: Positive | None = None
    """Bound on the root mean square of a completion's summed log-prob gap; null: 2 if
    algorithm.correction weighs whole sequences, else none."""
    save_batch_every: StepNumber = 0
    """Save the learner's batches of every k-th step for `--replay`; 0: of failed steps only."""


class CheckpointConfig(Section):
    """What is saved, and when."""

    every: StepNumber = 50
    """Save every k steps; 0: only at the end, and whenever `keep_best` asks for it."""
    keep_last: Count = 3
    """Number of newest checkpoints kept."""
    keep_best: StepNumber = 1
    """Number of best checkpoints kept, by the evaluation metric; weights that score among them are
    saved regardless of `every`."""
    asynchronous: bool = True
    """Write while training continues."""
    grace_s: Positive = 300.0
    """Seconds that a run may take to finish its step and save after SIGTERM or Ctrl-C."""


class EvaluationConfig(Section):
    """Held-out evaluation inside a run."""

    every: StepNumber = 0
    """Evaluate every k steps; 0: only before and after."""
    max_pages: Count | None = None
    """Pages scored at most, a sample by run.seed, spread over the JSONL files; null: all."""
    greedy: bool = True
    """Score greedy transcriptions."""
    sampled: bool = True
    """Score transcriptions drawn at the training temperature."""
    samples_per_page: Count = 1
    """Sampled transcriptions per page. Of 16 held-out pages or more, one half chooses the best
    checkpoint and the other reports; with several samples a page they do both."""
    skip_start: bool = False
    """Do not evaluate before the first step."""


class LoggingConfig(Section):
    """Where metrics and samples go, apart from metrics.jsonl."""

    wandb: Literal["off", "offline", "online"] = "offline"
    """Weights & Biases mode; online needs a key in the environment."""
    wandb_project: str = "olmrl"
    """W&B project."""
    wandb_entity: str | None = None
    """W&B entity."""
    wandb_artifacts: Literal["off", "report", "model"] = "off"
    """Artifacts that W&B gets when the run ends: report.html, configuration and evaluations; model:
    the weights in model/ as well."""
    tensorboard: bool = False
    """Write events to tensorboard/ of the run; needs the package tensorboard or tensorboardX."""
    rollout_groups: StepNumber = 1
    """Prompt groups written to rollouts/ at each step, before any drop."""
    prometheus: bool = False
    """Set a Ray gauge per metric, for Prometheus and launch/grafana/olmrl.json; a Ray that the run
    starts then has its dashboard, which lists the nodes for Prometheus."""
    timeline_steps: StepNumber = 10
    """GRPO steps drawn in timeline.json, a Chrome trace; 0: none."""


class ClusterConfig(Section):
    """The Ray cluster."""

    address: str | None = None
    """Ray address; null joins the cluster of the job or starts a local one."""
    wait_s: StepNumber = 0
    """Seconds to wait for the cluster's autoscaler to start missing nodes; 0: refuse to run."""
    local_cpus: Count | None = None
    """Logical CPUs of a local cluster; null takes what the plan needs."""
    dashboard: bool = False
    """Ray dashboard of a local cluster, on loopback; starting it takes ten CPU seconds."""


class EquationsConfig(Section):
    """How formulas are rendered for comparison."""

    renderer: Literal["katex", "chromium"] = "katex"
    """Embedded KaTeX layout, or a real browser as a (slow) cross-check."""


class MarkupConfig(Section):
    """What transcriptions say."""

    equations: EquationsConfig = EquationsConfig()


class RunConfig(Section):
    """Identity of the run."""

    dir: Place = "runs/run"
    """Run directory."""
    seed: Seed = 42
    """Seed of page order, sampling and initialisation."""
    steps: Count | None = None
    """Steps, each learning from one batch of pages; null: as many as `epochs` gives."""
    epochs: Positive = 1.0
    """Passes over the pages, if steps is null."""
    max_seconds: Positive | None = None
    """Stop (and save) after this many seconds of training."""

    def total_steps(self, pages: float, pages_per_step: int) -> int:
        """Steps of a whole run: `steps`, or as many as the pages of all epochs give.

        Args:
            pages: Pages of all epochs together.
            pages_per_step: Pages of a step.
        """
        return self.steps or max(1, math.ceil(pages / pages_per_step))

    def is_past_end(self, epoch: int, index: int, pages: int) -> bool:
        """Whether a position in the page order is past the end; False if `steps` decides the end.

        Args:
            epoch: Epoch of the position, from 0.
            index: Place in the epoch, from 0.
            pages: Pages of an epoch.
        """
        return self.steps is None and epoch * pages + index >= self.epochs * pages


class GrpoConfig(Section):
    """`python -m olmrl.grpo`."""

    run: RunConfig = RunConfig()
    model: ModelConfig
    data: DataConfig
    rollout: RolloutConfig = RolloutConfig()
    rewards: tuple[RewardConfig, ...] = (
        RewardConfig(name="bench"),
        RewardConfig(name="front_matter"),
        RewardConfig(name="eos"),
    )
    scorer: ScorerConfig = ScorerConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    learner: LearnerConfig = LearnerConfig()
    weight_sync: WeightSyncConfig = WeightSyncConfig()
    guards: GuardConfig = GuardConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    logging: LoggingConfig = LoggingConfig()
    cluster: ClusterConfig = ClusterConfig()
    markup: MarkupConfig = MarkupConfig()

    @model_validator(mode="before")
    @classmethod
    def _no_dropout(cls, values: Any) -> Any:
        """Adapters of a policy have no dropout by default: it is noise in ratio and mismatch."""
        model = values.get("model") if isinstance(values, dict) else None
        if not isinstance(model, dict) or not isinstance(model.get("lora"), dict):
            return values
        lora = {"dropout": 0.0} | model["lora"]
        return values | {"model": model | {"lora": lora}}

    @model_validator(mode="after")
    def _coherent(self) -> GrpoConfig:
        if not self.rewards:
            raise ValueError("rewards: needs at least one reward")
        names = [r.name for r in self.rewards]
        if len(set(names)) != len(names):
            raise ValueError(f"rewards: duplicate name in {names}")
        teacher = self.algorithm.teacher
        if self.rollout.group_size < 2 and not (teacher and teacher.alone):
            raise ValueError("rollout.group_size: must be >= 2, as advantages compare completions")
        if teacher and teacher.use == "loss" and self.learner.strategy == "deepspeed":
            raise ValueError(
                "algorithm.teacher.use: loss needs learner.strategy=fsdp; deepspeed has reward"
            )
        if self.rollout.colocate:
            self._check_colocation()
        if self.data.selection.rest_epochs:
            self._check_selection(names)
        if self.rollout.quantization is not None:
            self._check_quantization()
        if self.weight_sync.lora == "adapter":
            self._check_adapter()
        return self

    def _check_selection(self, names: list[str]) -> None:
        wanted = self.data.selection.reward
        if wanted not in names:
            raise ValueError(
                f"data.selection.reward: there is no reward {wanted!r}; rewards has "
                f"{', '.join(names)}"
            )
        if self.run.steps is None and self.run.epochs <= 1:
            raise ValueError(
                "data.selection.rest_epochs: needs run.epochs above 1 (or run.steps), as pages are "
                "left out of later epochs"
            )

    @property
    def synced_adapter(self) -> LoraConfig | None:
        """The adapters that engines hold beside the base model's weights, if any."""
        return self.model.lora if self.weight_sync.lora == "adapter" else None

    def _check_quantization(self) -> None:
        rollout, key = self.rollout, "rollout.quantization"
        if rollout.engine != "vllm":
            raise ValueError(f"{key}: needs rollout.engine: vllm, got {rollout.engine}")
        if rollout.dtype == "float32":
            raise ValueError(f"{key}: needs rollout.dtype: bfloat16, got float32")
        if rollout.colocate:
            raise ValueError(
                f"{key}: cannot go with rollout.colocate, as sleeping engines lose what 8-bit "
                "kernels keep beside the weights"
            )
        if self.algorithm.correction.level != "token":
            raise ValueError(
                f"{key}: engines then sample from another policy than the learner's, and gaps add "
                "up over a completion; set algorithm.correction.level=token"
            )

    def _check_adapter(self) -> None:
        if self.model.lora is None:
            raise ValueError("weight_sync.lora: adapter needs model.lora; set merged")
        if self.model.lora.rank > ENGINE_RANKS[-1]:
            raise ValueError(
                f"model.lora.rank: must be at most {ENGINE_RANKS[-1]} with weight_sync.lora: "
                f"adapter, got {self.model.lora.rank}; set merged"
            )
        if self.rollout.colocate:
            raise ValueError(
                "weight_sync.lora: adapter cannot go with rollout.colocate, as sleeping engines "
                "drop the base model's weights; set merged"
            )

    def _check_colocation(self) -> None:
        rollout = self.rollout
        if self.algorithm.max_staleness:
            raise ValueError("rollout.colocate: needs algorithm.max_staleness=0, as engines sleep")
        if rollout.tensor_parallel_size > 1:
            raise ValueError("rollout.colocate: needs rollout.tensor_parallel_size=1")
        if rollout.workers != self.learner.workers:
            raise ValueError(
                f"rollout.colocate: needs one engine per learner rank, but rollout.workers is "
                f"{rollout.workers} and learner.workers is {self.learner.workers}"
            )


class DatasetConfig(Section):
    """One set of page pairs."""

    root: Place
    """Folder of .pdf/.md pairs, searched recursively."""
    name: str | None = None
    """Name in metrics; null takes the folder's name."""
    repeat: Count = 1
    """Times each page occurs per epoch (upsampling)."""
    limit: Count | None = None
    """Use at most this many pages: a sample by run.seed, spread over the folders below root."""
    pipeline: tuple[StepConfig, ...] | None = None
    """Steps of this set (name plus parameters); null takes data.pipeline."""

    @property
    def title(self) -> str:
        """Name of the set: its own, or that of its folder."""
        return self.name or folder_name(self.root)


class SftDataConfig(Section):
    """Pages of an SFT run."""

    train: tuple[DatasetConfig, ...] = Field(min_length=1)
    """Training sets, concatenated."""
    evaluation: tuple[DatasetConfig, ...] = ()
    """Evaluation sets; not augmented or filtered unless their own pipeline says so."""
    pipeline: tuple[StepConfig, ...] = ()
    """Steps applied to each page, in order."""
    max_tokens: Count = 8192
    """Longer pages are dropped and counted, never truncated."""
    max_bad_fraction: Fraction = 0.05
    """Largest share of bad pages; above it the run stops."""
    cache_dir: Place | None = None
    """Folder of the validation cache; null: the run directory's parent."""
    prefetch_pages: Count = 64
    """Encoded pages held ready per rank."""
    resources: Resources = {}
    """Custom Ray resources of a task that validates or encodes pages."""


class TrainingConfig(Section):
    """SFT loop."""

    pages_per_step: Count = 32
    """Pages in one step, over all ranks."""
    shuffle_seed: Seed | None = None
    """Seed of the page order; null takes run.seed."""

    def seed(self, run: RunConfig) -> int:
        """Seed of page order and augmentation."""
        return run.seed if self.shuffle_seed is None else self.shuffle_seed


class TranscriptionConfig(Section):
    """Evaluation pages that the policy transcribes greedily, to be scored.

    Each rank reads its share with a full copy of the weights in `model.dtype` and a KV cache, both
    held only during evaluation; `--dry-run` includes them (7B in bfloat16: 15.4 and about 3 GiB).
    """

    pages: Count = 32
    """Pages per evaluation set, drawn with run.seed and spread over folders or JSONL files; always
    the same ones."""
    every: StepNumber = 0
    """Transcribe every k steps (and at start and end); 0: only start and end."""
    max_tokens: Count = 3000
    """Maximum tokens per transcription."""
    batch_pages: Count = 8
    """Pages that a rank transcribes at a time."""
    bench: Place | None = None
    """Bench folder whose pages are transcribed too and scored by their unit tests."""


class SftEvaluationConfig(Section):
    """Evaluation of an SFT run."""

    every: StepNumber = 500
    """Loss every k steps (and at start and end); 0: only start and end."""
    generate: TranscriptionConfig | None = None
    """Also transcribe and score a sample of pages; null: do not."""
    best_metric: str = "eval/loss"
    """Figure that selects the best checkpoint: eval/FIGURE, or eval/SET/FIGURE for one set, where
    FIGURE is loss or, with `generate`, edit_similarity, reading or pass_rate."""
    best_mode: Literal["min", "max"] | None = None
    """Whether smallest or largest is best; null: the smallest loss, the largest score."""

    @property
    def mode(self) -> Literal["min", "max"]:
        """`best_mode`, or the default for the metric."""
        return self.best_mode or ("min" if self.best_metric.endswith("loss") else "max")


class SftConfig(Section):
    """`python -m olmrl.sft`."""

    run: RunConfig = RunConfig()
    model: ModelConfig
    data: SftDataConfig
    training: TrainingConfig = TrainingConfig()
    learner: LearnerConfig = LearnerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig(every=500, keep_last=5)
    evaluation: SftEvaluationConfig = SftEvaluationConfig()
    logging: LoggingConfig = LoggingConfig()
    cluster: ClusterConfig = ClusterConfig()
    markup: MarkupConfig = MarkupConfig()

    @model_validator(mode="after")
    def _coherent(self) -> SftConfig:
        generate, metric = self.evaluation.generate, self.evaluation.best_metric
        titles = [entry.title for entry in self.data.evaluation]
        known = {"eval/loss", *(f"eval/{title}/loss" for title in titles)}
        if generate is not None:
            if generate.bench is not None:
                titles.append(folder_name(generate.bench))
            if not titles:
                raise ValueError("evaluation.generate: needs pages, from data.evaluation or bench")
            scores = ("edit_similarity", "reading", *(["pass_rate"] if generate.bench else []))
            known |= {f"eval/{score}" for score in scores}
            known |= {f"eval/{title}/{score}" for title in titles for score in scores}
        twice = [title for title in titles if titles.count(title) > 1]
        if twice:
            raise ValueError(
                f"data.evaluation: two sets are called {twice[0]!r}; give each its own name"
            )
        if metric not in known:
            raise ValueError(
                f"evaluation.best_metric: {metric!r} is not measured; "
                f"allowed: {', '.join(sorted(known))}"
            )
        return self


def folder_name(path: str) -> str:
    """Last part of a local path or URL."""
    return PurePosixPath(path.rstrip("/")).name
