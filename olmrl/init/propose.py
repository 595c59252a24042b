"""A configuration that fits pages, model and machine; pure, but for the model's own files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from olmrl.cluster import Plan, PlanError, Resources, check, make_plan
from olmrl.cluster.advise import (
    TINY,
    Change,
    better_split,
    changed,
    fits,
    remedy,
    speeds_for,
    step_seconds,
)
from olmrl.config.load import validate
from olmrl.config.schema import GrpoConfig, SftConfig
from olmrl.init.data import PagesFound
from olmrl.models.registry import FAMILIES, described
from olmrl.preflight.machine import Machine
from olmrl.progress import in_words
from olmrl.read.model import Taught

_SMALL_SET = 2000
"""Pages below which a set is passed over several times."""
_LARGEST = 10e9
"""Parameters of the largest model that is proposed for a family."""
_SHORT, _LONG = 4096, 16384
"""Windows of tiny and of published models, in tokens."""
_LEAST_EVERY = 10
"""Steps between checkpoints and evaluations, at least."""
_TOO_LONG_S = 8 * 3600.0
"""Seconds of a run on CPUs above which it is called too slow: a night."""
_TRY_TINY = (
    "; to try olmrl out on a CPU, make a tiny model with `olmrl synth model tiny --texts PAGES` "
    "and give --model tiny"
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A configuration with the reasons for it."""

    values: dict[str, Any]
    """What is written; the rest is default."""
    notes: dict[str, str]
    """Why, by dotted key."""
    lines: tuple[str, ...]
    """For the head of the file."""
    too_slow: bool = False
    """It fits, and would take more than a night on this CPU."""


def _in_words(parameters: float) -> str:
    if parameters < 1e8:
        return f"{parameters / 1e6:.2g} million"
    return f"{parameters / 1e9:.2g} billion"


def models_of(name: str) -> list[str]:
    """The models that a name stands for: itself, or a family's published ones, largest first."""
    if name not in FAMILIES:
        return [name]
    family = FAMILIES[name]
    sizes = {model: family.shape(config).parameters for model, config in family.published.items()}
    return sorted((m for m in sizes if sizes[m] <= _LARGEST), key=lambda m: -sizes[m])


def propose(
    found: PagesFound, model: str, taught: Taught, machine: Machine, run_dir: str
) -> Proposal:
    """Choose model size and training so that the plan fits the machine.

    Of a family the largest model that fits is taken, with all its weights or else with adapters.

    Args:
        found: the pages.
        model: folder, name on the Hub, or a family.
        taught: how the model was trained to read, if that is known.
        machine: where it will run.
        run_dir: the run directory.

    Raises:
        PlanError: nothing fits (says what the smallest would need).
    """
    refused: dict[str, PlanError] = {}
    sizes = models_of(model)
    # A CPU is slow with any published model, so that there the smallest is the one to try.
    for name in sizes if machine.on_gpu else sizes[::-1]:
        for lora in (False, True):
            values = _values(found, name, taught, machine, run_dir, lora)
            try:
                return _fitted(values, found, name, machine, lora)
            except PlanError as error:
                refused[name] = error
    smallest = sizes[-1]
    small = "" if machine.on_gpu else _TRY_TINY
    raise PlanError(f"{smallest} on {machine.title}: {refused[smallest]}{small}")


def _fitted(
    values: dict[str, Any], found: PagesFound, model: str, machine: Machine, lora: bool
) -> Proposal:
    schema = GrpoConfig if found.method == "grpo" else SftConfig
    config: Any = validate(schema, values, "proposal")
    resources, notes = machine.resources, {}
    plan = make_plan(config, resources)
    shape = plan.shape
    if shape is None:
        raise PlanError(f"{model}: its size is not known here; name a local folder of it")
    if not fits(plan, resources):
        changes = remedy(plan, resources)
        if changes is None or not all(_harmless(change, resources) for change in changes):
            check(plan, resources)
        for change in changes or ():
            values.setdefault(change.section, {})[change.key] = change.value
            notes[f"{change.section}.{change.key}"] = "so that it fits"
        plan = make_plan(changed(config, *(changes or ())), resources)
    if isinstance(plan.config, GrpoConfig) and machine.on_gpu:
        speeds = speeds_for(plan.config, resources)
        better = better_split(plan, resources, speeds) if speeds else None
        if better is not None:
            split, gain = better
            values["rollout"]["workers"] = split.engines
            values["learner"]["workers"] = split.learners
            notes["rollout.workers"] = f"this split is {gain:.1f} x as fast as another, simulated"
    final: Any = validate(schema, values, "proposal")
    plan = make_plan(final, resources)
    check(plan, resources)
    pace, too_slow = _pace(plan, found, machine)
    lines = [
        f"{_in_words(shape.parameters)} parameters, "
        + ("low-rank adapters, as whole weights do not fit" if lora else "all weights trained"),
        f"{found.pages} training pages"
        + (f" (beside them {found.lone})" if found.lone else "")
        + ("" if found.held_out else "; no held-out pages were found, so that nothing shows "
           "whether the model only learns them by heart: set some aside"),
        *pace,
    ]  # fmt: skip
    return Proposal(values, notes, tuple(lines), too_slow)


def _pace(plan: Plan, found: PagesFound, machine: Machine) -> tuple[list[str], bool]:
    """A line on how long the run takes, as far as that is known, and whether it is too long."""
    each, config = step_seconds(plan, machine.resources), plan.config
    if each is None or config is None:
        return [], False
    if isinstance(config, SftConfig):
        pages, how = config.training.pages_per_step, "computed"
    else:
        pages, how = config.algorithm.pages_per_step, "simulated"
    steps = config.run.total_steps(found.pages * config.run.epochs, pages)
    step = f"{each:.2g} s" if each < 2 else in_words(each)
    told = f"{step} a step, {in_words(each * steps)} in all ({steps:,} steps), {how}"
    if machine.on_gpu or each * steps < _TOO_LONG_S:
        return [f"about {told}"], False
    return [f"TOO SLOW ON A CPU: about {told}; it is a run for GPUs"], True


def _harmless(change: Change, resources: Resources) -> bool:
    """Whether a change costs neither accuracy nor memory that nobody knows of."""
    if change.key == "cpu_offload":
        return all(node.memory is not None for node in resources.nodes)
    return change.key != "master_dtype"


def _values(
    found: PagesFound, model: str, taught: Taught, machine: Machine, run_dir: str, lora: bool
) -> dict[str, Any]:
    known = _described(model)
    tiny = known is not None and known[0] < TINY
    single = not machine.on_gpu and (tiny or not machine.bfloat16)
    values: dict[str, Any] = {
        "run": {"dir": run_dir, "epochs": _epochs(found), "seed": 1},
        "model": {
            "path": model,
            "dtype": "float32" if single else "bfloat16",
            "master_dtype": "bfloat16" if lora else "float32",
        },
    }
    if lora:
        values["model"]["lora"] = {"rank": 16, "alpha": 32.0}
    window = min(_SHORT if tiny else _LONG, known[1] if known else _LONG)
    make = _grpo if found.method == "grpo" else _sft
    values |= make(found, taught, machine, window, lora)
    values["learner"] |= _device(machine, tiny)
    return values


def _described(model: str) -> tuple[float, int] | None:
    """Parameters and positions of a model, if they can be known here."""
    known = described(model)
    if known is None:
        return None
    family, config = known
    text: Mapping[str, Any] = config.get("text_config", config)
    positions = int(text.get("max_position_embeddings") or _LONG)
    return float(family.shape(config).parameters), positions


def _epochs(found: PagesFound) -> float:
    return 3.0 if found.method == "sft" and found.pages < _SMALL_SET else 1.0


def _device(machine: Machine, tiny: bool) -> dict[str, Any]:
    if machine.on_gpu:
        return {}
    return {"use_gpu": False, "activation_checkpointing": not tiny} | (
        {"wrap": "root"} if tiny else {}
    )


def _power(most: int, wanted: float) -> int:
    """The power of two nearest below `wanted`, from 1 to `most`."""
    return max(1, min(most, 1 << int(math.log2(max(1.0, wanted)))))


def _sft(
    found: PagesFound, taught: Taught, machine: Machine, window: int, lora: bool
) -> dict[str, Any]:
    pages_per_step = _power(32, found.pages / 20)
    steps = max(1, round(_epochs(found) * found.pages / pages_per_step))
    every = max(_LEAST_EVERY, steps // 10)
    ranks = int(machine.resources.gpus) if machine.on_gpu else 1
    train = {"root": found.train}
    data: dict[str, Any] = {"train": [train]}
    if found.held_out:
        data["evaluation"] = [{"root": found.held_out, "name": "held_out"}]
    text_first = taught.order == "text_first"
    data["pipeline"] = [
        {"name": "FrontMatterParser"},
        {"name": "FilterOutRotatedDocuments"},
        {"name": "PDFRenderer", "target_longest_image_dim": taught.longest_side},
        {"name": "Prompt", "prompt": taught.prompt},
        {"name": "FrontMatterOutputFormat"},
        {"name": "InstructUserMessages", "prompt_first": text_first},
        {"name": "Tokenizer"},
    ]
    data["max_tokens"] = min(8192, window)
    return {
        "data": data,
        "training": {"pages_per_step": pages_per_step},
        "learner": {
            "workers": max(1, min(ranks, pages_per_step)),
            "token_budget": min(_LONG, 2 * data["max_tokens"]),
            "optimizer": {
                "lr": 1e-4 if lora else (1e-5 if machine.on_gpu else 1e-3),
                "weight_decay": 0.01,
                "schedule": "cosine",
                "warmup_ratio": 0.1,
            },
        },
        "checkpoint": {"every": every, "keep_last": 2},
        "evaluation": {"every": every},
    }


def _grpo(
    found: PagesFound, taught: Taught, machine: Machine, window: int, lora: bool
) -> dict[str, Any]:
    gpus = int(machine.resources.gpus) if machine.on_gpu else 0
    engines = max(1, gpus // 4)
    pages_per_step = _power(8, found.pages / 4)
    every = max(_LEAST_EVERY, round(found.pages / pages_per_step) // 10)
    data: dict[str, Any] = {"train": found.train}
    if found.held_out:
        data["heldout"] = found.held_out
    data |= {
        "longest_side": taught.longest_side,
        "prompt": taught.prompt,
        "prompt_order": taught.order,
    }
    rollout: dict[str, Any] = {
        "engine": "vllm",
        "workers": engines,
        "group_size": 16 if gpus else 8,
        "sampling": {"temperature": 0.8, "max_tokens": min(3000, window // 2)},
        "max_model_len": min(8192, window),
        "max_num_seqs": 128 if gpus else 32,
    }
    if gpus == 1:
        rollout |= {"colocate": True, "gpu_memory_utilization": 0.5}
    if not gpus:
        rollout |= {"dtype": "bfloat16" if machine.bfloat16 else "float32", "enforce_eager": True}
        rollout |= {"kv_cache_gb": 0.5}
    return {
        "data": data,
        "rollout": rollout,
        "rewards": [{"name": "bench"}, {"name": "front_matter"}, {"name": "eos"}],
        "scorer": {"workers": min(8, max(1, int(machine.resources.cpus) // 8))},
        "algorithm": {"pages_per_step": pages_per_step, "max_staleness": 0},
        "learner": {
            "workers": max(1, gpus - engines) if gpus > 1 else 1,
            "token_budget": min(_LONG, max(2048, 2 * rollout["max_model_len"])),
            "optimizer": {
                "lr": 2e-5 if lora else (2e-6 if gpus else 3e-4),
                "schedule": "linear",
                "warmup_ratio": 0.05,
            },
        },
        "checkpoint": {"every": every, "keep_last": 2},
        "evaluation": {"every": every, "max_pages": 200},
    }
