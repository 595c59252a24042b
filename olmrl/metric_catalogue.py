"""Every quantity of metrics.jsonl: its name, unit, meaning and what a healthy run shows.

The documentation's table of metrics is made from this list, and tests hold that each name is one
that the code writes and that a run writes no other. `<...>` in a name stands for a part that the
run decides: a reward, a kind of test, a file, an evaluation set.

Ranges are what to expect, not bounds that anything checks; what stops a run is in `guards.*`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity, or a family of them."""

    name: str
    unit: str
    meaning: str
    healthy: str = ""
    """What to expect; empty where no value is better than another."""
    runs: str = "grpo"
    """Which runs write it: `grpo`, `sft` or `both`."""

    def matches(self, name: str) -> bool:
        """Whether a name in a row of metrics is this quantity, or one of this family."""
        return _pattern(self.name).fullmatch(name) is not None


_PARTS = {
    "mode": "greedy|sampled|selection|reported",
    "figure": "page_exact|reading|ended|tokens|category_mean|pass_rate",
    "file": ".+",
    "set": ".+",
}
"""What may stand for `<...>`; anything without a slash where nothing is said."""


@cache
def _pattern(name: str) -> re.Pattern[str]:
    parts = re.split(r"<(\w+)>", name)
    parts[::2] = map(re.escape, parts[::2])
    parts[1::2] = [f"(?:{_PARTS.get(part, '[^/]+')})" for part in parts[1::2]]
    return re.compile("".join(parts))


_TESTS = "share of unit tests"
_TOKENS = "tokens"
_NATS = "nats"
_SECONDS = "s"
_SHARE = "share"
_COUNT = "count"

_LEARNING = (
    Metric(
        "reward/mean",
        "weighted sum",
        "mean total reward of all scored groups, dropped ones included",
        "rises, fastest in the first tenth of a run; flat from the start: see reward/frac_zero_std",
    ),
    Metric(
        "reward/std",
        "weighted sum",
        "mean over groups of the deviation within the group: what there is to learn from",
        "well above 0; it shrinks as pages are solved",
    ),
    Metric(
        "reward/frac_zero_std",
        _SHARE,
        "groups whose completions all earned the same, which teach nothing",
        "below 0.5; above 0.8 most of the generation is thrown away",
    ),
    Metric("reward/<reward>/mean", "reward", "mean of one reward before its weight", "rises"),
    Metric(
        "reward/<reward>/std", "reward", "mean deviation of one reward within groups", "above 0"
    ),
    Metric(
        "reward/bench/type/<type>",
        _TESTS,
        "unit tests of one type passed in training",
        "all rise; one that falls is being traded for another",
    ),
    Metric(
        "reward/bench/file/<file>", _TESTS, "the same by JSONL file of the bench folder", "rise"
    ),
    Metric(
        "reward/<reward>/<part>",
        "reward",
        "a part that a reward reports of itself, such as reward/front_matter/readable",
    ),
    Metric(
        "reward/<reward>/weight/<category>",
        "weight",
        "weight of a category of tests at this step, with rewards[].curriculum",
        "follows the configuration",
    ),
    Metric(
        "completion/mean_length",
        _TOKENS,
        "mean length of a completion",
        "near the length of the truth; a steady fall means that saying less pays",
    ),
    Metric("completion/max_length", _TOKENS, "the longest completion of the step"),
    Metric(
        "completion/clipped_fraction",
        _SHARE,
        "completions cut off at rollout.sampling.max_tokens",
        "below 0.05; more: loops, or max_tokens is too small for the pages",
    ),
    Metric(
        "loss/policy",
        "loss",
        "the policy loss; its size says little, as advantages have mean 0",
        "small, around 0, finite",
    ),
    Metric("loss/kl", _NATS, "KL to the reference model, with algorithm.kl_beta", "grows slowly"),
    Metric("loss/sft", "nats per token", "loss on the pages of this step", "falls", "sft"),
    Metric("teacher/kl", "nats per token", "reverse KL to the teacher, used as a loss", "falls"),
    Metric(
        "policy/entropy",
        "nats per token",
        "entropy of the policy on the trained tokens",
        "GRPO: falls slowly and levels off; near 0 within tens of steps is a collapse",
        "both",
    ),
    Metric(
        "policy/grad_norm",
        "norm",
        "norm of the gradient before clipping",
        "steady; spikes of 10 times the median: lower the learning rate",
        "both",
    ),
    Metric("policy/lr", "per step", "the learning rate", "follows the schedule", "both"),
    Metric(
        "policy/kl",
        "nats per token",
        "how far this step's updates moved from the weights at its start",
        "0 with one update a step; else below 0.01",
    ),
    Metric(
        "policy/clip_fraction",
        _SHARE,
        "trained tokens whose ratio was clipped",
        "0 with one update a step; else below 0.05",
    ),
    Metric(
        "policy/correction",
        "weight",
        "mean weight that corrects for the engine having sampled the tokens",
        "0.95 to 1.05",
    ),
    Metric("policy/empty_steps", _COUNT, "steps without a token to train on", "absent", "both"),
)

_AGREEMENT = (
    Metric(
        "mismatch/logprob_mean_abs",
        _NATS,
        "mean gap between engine and learner on the same token",
        "float32: below 1e-4; bfloat16: below 0.02 (guards.max_mean_gap stops at more)",
    ),
    Metric("mismatch/logprob_max_abs", _NATS, "the largest such gap; logged, never judged"),
    Metric(
        "mismatch/outlier_fraction",
        _SHARE,
        "tokens with a gap above guards.outlier_gap",
        "below 0.01",
    ),
    Metric("mismatch/kl", _NATS, "KL of engine and learner, estimated (k3)", "near 0"),
    Metric(
        "mismatch/sequence_gap_square",
        "nats squared",
        "mean square of a completion's summed gap",
        "below 1; grows with length",
    ),
    Metric(
        "mismatch/effective_share",
        _SHARE,
        "effective sample size of the correction's weights",
        "above 0.8; below 0.5 most of the batch counts for nothing",
    ),
    Metric("mismatch/above_cap", _SHARE, "weights above algorithm.correction.cap", "below 0.05"),
    Metric("mismatch/below_floor", _SHARE, "weights below its floor", "below 0.1"),
    Metric("parity/mean_gap", _NATS, "the parity guard's mean gap on whole pages", "as mismatch"),
    Metric("parity/max_gap", _NATS, "its largest gap"),
    Metric(
        "parity/sequence_spread",
        _NATS,
        "root mean square of a completion's summed gap",
        "below guards.max_sequence_spread",
    ),
    Metric("parity/tokens", _TOKENS, "tokens that the guard compared"),
    Metric(
        "policy/staleness_mean",
        "steps",
        "age of the weights that made the trained tokens",
        "at most algorithm.max_staleness",
    ),
    Metric("policy/staleness_max", "steps", "the oldest of them", "at most max_staleness"),
)

_EVALUATION = (
    Metric(
        "eval/<mode>/pass_rate",
        _TESTS,
        "held-out unit tests passed; <mode> is greedy, sampled, selection or reported",
        "rises; trust `reported`, since `selection` chose the checkpoint",
    ),
    Metric(
        "eval/<mode>/pass_rate_error",
        _TESTS,
        "its standard error, pages being the sample",
        "a change below twice this is noise",
    ),
    Metric(
        "eval/<mode>/category_mean",
        _TESTS,
        "score as olmOCR-bench counts it: the mean over categories",
        "rises",
    ),
    Metric("eval/<mode>/category/<file>", _TESTS, "the same for one category", "rises"),
    Metric("eval/<mode>/type/<type>", _TESTS, "passes of one type of test", "rises"),
    Metric("eval/<mode>/page_exact", _SHARE, "transcriptions that pass all tests of their page"),
    Metric(
        "eval/<mode>/reading",
        "0 to 1",
        "similarity of the words alone to the reference",
        "rises; a fall beside a rising pass rate means that marks were learnt, not reading",
    ),
    Metric(
        "eval/<mode>/reading_error",
        "0 to 1",
        "its standard error, pages being the sample",
        "a change below twice this is noise",
    ),
    Metric("eval/<mode>/reward/<reward>", "reward", "mean of a reward on held-out pages", "rises"),
    Metric("eval/<mode>/ended", _SHARE, "transcriptions that ended by themselves", "above 0.98"),
    Metric("eval/<mode>/tokens", _TOKENS, "mean length of a transcription"),
    Metric("eval/failed", _COUNT, "held-out pages that could not be read or scored", "0"),
    Metric("eval/unscored_pages", _COUNT, "SFT: likewise", "0", "sft"),
    Metric(
        "eval/loss",
        "nats per token",
        "mean loss of the evaluation sets",
        "falls; a rise for several evaluations means too many epochs",
        "sft",
    ),
    Metric("eval/<set>/loss", "nats per token", "loss of one set", "falls", "sft"),
    Metric(
        "eval/edit_similarity",
        "0 to 1",
        "similarity of generated and true text, with evaluation.generate",
        "rises",
        "sft",
    ),
    Metric("eval/<set>/edit_similarity", "0 to 1", "the same of one set", "rises", "sft"),
    Metric(
        "eval/<figure>",
        "as above",
        "mean over sets of a figure of generated pages: pass_rate, page_exact, reading, ended, "
        "tokens, category_mean",
        "",
        "sft",
    ),
    Metric("eval/category/<file>", _TESTS, "likewise, of a category", "rises", "sft"),
    Metric("eval/type/<type>", _TESTS, "likewise, of a type of test", "rises", "sft"),
    Metric("eval/<set>/<figure>", "as above", "such a figure of one set", "", "sft"),
    Metric("eval/<set>/category/<file>", _TESTS, "a category of one set", "rises", "sft"),
    Metric("eval/<set>/type/<type>", _TESTS, "a type of test of one set", "rises", "sft"),
)

_GROUPS = (
    Metric("ledger/issued", _COUNT, "groups given to engines since the run began"),
    Metric("ledger/committed", _COUNT, "groups trained on"),
    Metric(
        "ledger/dropped/<reason>",
        _COUNT,
        "groups dropped, by reason",
        "only zero_variance, below half of issued; others name a fault",
    ),
    Metric("ledger/set_aside", _COUNT, "pages left out by data.selection"),
    Metric("selection/resting", _COUNT, "pages at rest now"),
    Metric("selection/<reason>", _COUNT, "of these: solved, failed or sure"),
    Metric("refill/dropped", _COUNT, "groups dropped while the next batch is filled"),
    Metric("refill/ready", _COUNT, "groups that are ready for it"),
    Metric("refill/<reason>", _COUNT, "of the dropped ones, by reason"),
    Metric("refill/reward/mean", "weighted sum", "mean reward of all scored for it"),
    Metric("refill/reward/std", "weighted sum", "deviation within their groups"),
    Metric("refill/completion/mean_length", _TOKENS, "their mean length"),
    Metric("reward/failed_groups", _COUNT, "groups that a reward failed on", "0"),
    Metric("reward/unscorable_completions", _COUNT, "completions that stalled every scorer", "0"),
    Metric("reward/timeouts", _COUNT, "scorer calls that were killed at their deadline", "near 0"),
    Metric("reward/worker_deaths", _COUNT, "scorer processes that died", "0"),
    Metric("reward/retries", _COUNT, "scorer calls that were repeated", "near 0"),
    Metric("reward/scored_completions", _COUNT, "completions that were scored"),
    Metric("reward/shared_completions", _COUNT, "completions equal to one scored already"),
    Metric("reward/scorer_busy_seconds", _SECONDS, "CPU seconds of all scorers"),
)

_ENGINES = (
    Metric("rollout/completions", _COUNT, "completions that engines made"),
    Metric("rollout/tokens", _TOKENS, "tokens sampled"),
    Metric("rollout/prompt_tokens", _TOKENS, "prompt tokens of these completions"),
    Metric("rollout/cached_tokens", _TOKENS, "of them taken from the prefix cache"),
    Metric(
        "rollout/cached_prompt_fraction",
        _SHARE,
        "share of prompt tokens that were cached",
        "up to (G - 1) / G; less where prompts are short or states are kept by block (Qwen3.5)",
    ),
    Metric("rollout/engines", _COUNT, "engines at work", "as configured"),
    Metric("rollout/unfinished", _COUNT, "completions in flight"),
    Metric("rollout/backlog", _COUNT, "groups that wait for an engine"),
    Metric("rollout/page_bytes", "bytes", "page data moved to engines"),
    Metric("rollout/aborted", _COUNT, "completions given up: oversampling, or a lost engine"),
    Metric("rollout/unwanted", _COUNT, "completions that came after their group was closed"),
    Metric("rollout/failed_groups", _COUNT, "groups that no engine could make", "0"),
    Metric("rollout/reissued", _COUNT, "completions asked of another engine", "0"),
    Metric("rollout/restarts", _COUNT, "engines that were lost and started again", "0"),
    Metric("rollout/stalls", _COUNT, "engines silent for rollout.stall_timeout_s", "0"),
    Metric("weight_sync/bytes", "bytes", "weights sent to engines"),
    Metric("weight_sync/seconds", _SECONDS, "from the first byte to the last engine"),
    Metric("weight_sync/gb_per_s", "GB/s", "their quotient"),
    Metric("weight_sync/engines", _COUNT, "engines that took the weights"),
    Metric("weight_sync/failed_engines", _COUNT, "engines that did not", "0"),
)

_TIME = (
    Metric("time/step", _SECONDS, "one step from row to row, evaluations excluded"),
    Metric(
        "time/lease_wait",
        _SECONDS,
        "learner waits for groups: generation and scoring are the bottleneck",
        "small beside time/step when asynchronous",
    ),
    Metric("time/data_wait", _SECONDS, "learner waits for pages", "near 0", "sft"),
    Metric("time/page_wait", _SECONDS, "engines wait for pages to be rendered", "near 0"),
    Metric("time/learner", _SECONDS, "the learner's whole step", "", "both"),
    Metric("time/forward_backward", _SECONDS, "of it, forward and backward", "", "both"),
    Metric("time/optim", _SECONDS, "of it, clipping and optimizer", "", "both"),
    Metric("time/old_logprobs", _SECONDS, "a pass for log-probs, with several updates a step"),
    Metric("time/reference_logprobs", _SECONDS, "the reference's pass, with algorithm.kl_beta"),
    Metric("time/teacher_logprobs", _SECONDS, "the teacher's pass, used as a reward"),
    Metric("time/pack", _SECONDS, "packing rows", "near 0", "both"),
    Metric("time/parity", _SECONDS, "the parity guard, on the steps that it looks at"),
    Metric("time/checkpoint", _SECONDS, "the learner stands still for a save", "", "both"),
    Metric("time/evaluation", _SECONDS, "the learner stands still for an evaluation", "", "both"),
    Metric("time/weight_sync", _SECONDS, "the learner stands still for sending weights"),
    Metric("time/weight_publish", _SECONDS, "of it, gathering and publishing"),
    Metric("time/weight_load", _SECONDS, "of it, until engines have loaded"),
    Metric("time/engine_busy", _SECONDS, "engines at work, summed over engines"),
    Metric("time/engine_sync", _SECONDS, "engines stand still for new weights, summed"),
    Metric("time/engine_start", _SECONDS, "start of engines, in the row after it"),
    Metric("time/score", _SECONDS, "mean wait of a finished group for its scores", "near 0"),
    Metric("throughput/completions_per_s", "1/s", "completions a second of the whole run"),
    Metric("throughput/completion_tokens_per_s", "tokens/s", "sampled tokens a second"),
    Metric(
        "throughput/learner_tokens_per_s",
        "tokens/s",
        "packed tokens a second of learner time, all ranks",
        "",
        "both",
    ),
    Metric("throughput/pages_per_s", "pages/s", "pages a second of learner time", "", "sft"),
    Metric(
        "throughput/mfu",
        _SHARE,
        "model FLOP/s over the data sheet's peak; only where that is known",
        "",
        "both",
    ),
    Metric("flops/step", "FLOP", "model FLOPs of a step, all ranks", "", "both"),
    Metric("tokens/packed", _TOKENS, "tokens that went through the model", "", "both"),
    Metric("tokens/trained", _TOKENS, "of them with a loss", "", "both"),
    Metric("tokens/patches", "patches", "image patches through the vision tower", "", "both"),
    Metric("learner/micro_batches", _COUNT, "rows of a rank, the most of all ranks", "", "both"),
)

_DATA = (
    Metric("data/epoch", "epochs", "position in the pages", "", "sft"),
    Metric("data/bad_pages", _COUNT, "pages that could not be used; see bad_pages.jsonl", "0"),
    Metric("data/pages_kept", _COUNT, "pages used since the last row", "", "sft"),
    Metric("data/pages_bad", _COUNT, "pages that could not be used", "0", "sft"),
    Metric("data/dropped/<step>", _COUNT, "pages that a data step left out", "", "sft"),
    Metric("data/eval/<set>/pages_kept", _COUNT, "the same of an evaluation set", "", "sft"),
    Metric("data/eval/<set>/pages_bad", _COUNT, "likewise", "0", "sft"),
    Metric("data/eval/<set>/dropped/<step>", _COUNT, "likewise", "", "sft"),
    Metric("data/page_bytes", "bytes", "size of a page on its way, mean", "", "both"),
    Metric("data/image_calls_per_page", _COUNT, "image-processor calls a page", "1", "both"),
)

CATALOGUE: dict[str, tuple[Metric, ...]] = {
    "Does it learn?": _LEARNING,
    "Do engine and learner agree?": _AGREEMENT,
    "Held-out pages": _EVALUATION,
    "Groups and scoring": _GROUPS,
    "Engines and weights": _ENGINES,
    "Time and throughput": _TIME,
    "Pages": _DATA,
}
"""By the question that the metrics answer, in the order in which to look."""

METRICS: tuple[Metric, ...] = tuple(metric for part in CATALOGUE.values() for metric in part)


def find(name: str) -> Metric | None:
    """The entry of a name in a row of metrics; an exact one before a family."""
    exact = next((metric for metric in METRICS if metric.name == name), None)
    return exact or next((metric for metric in METRICS if metric.matches(name)), None)


def unknown(names: set[str]) -> set[str]:
    """Names in a row of metrics that the catalogue does not have; `step` is none."""
    return {name for name in names - {"step"} if find(name) is None}
