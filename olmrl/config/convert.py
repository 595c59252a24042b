"""A public olmocr training YAML as an olmrl SFT configuration.

The public keys and defaults are in docs/formats.md#public-sft-configurations.

Every key ends up in one of three places: the converted values, the list of ignored keys (with the
reason), or an error. Absent keys get the public default if olmrl's own differs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from olmrl.config.load import ConfigError, looks_like_olmocr
from olmrl.config.schema import folder_name

NOT_IN_EVALUATION = frozenset(
    (
        "FilterOutRotatedDocuments",
        "DatasetTextRuleFilter",
        "RotationAugmentation",
        "AugraphyBasicAugmentations",
        "RandomTokenFlipper",
    )
)
"""Public steps that filter or augment; olmrl leaves them out of evaluation sets."""

_NO_EFFECT = "has no effect in olmocr either"
_IGNORED = {
    "tags": "run.dir names the run",
    "notes": "use a YAML comment",
    "experiment_tracker": _NO_EFFECT,
    "distributed": _NO_EFFECT,
    "local_rank": _NO_EFFECT,
    "model.load_in_8bit": _NO_EFFECT,
    "model.load_in_4bit": _NO_EFFECT,
    "model.device_map": "Ray Train places the ranks (learner.workers)",
    "model.freeze_vision_tower": f"{_NO_EFFECT}; set model.freeze.vision to freeze it",
    "model.freeze_language_model": f"{_NO_EFFECT}; set model.freeze.language to freeze it",
    "model.lora_modules_to_save": "not supported with adapters",
    "training.per_device_eval_batch_size": "learner.token_budget bounds evaluation too",
    "training.gradient_checkpointing_kwargs": "always non-reentrant",
    "training.evaluation_strategy": _NO_EFFECT,
    "training.save_strategy": _NO_EFFECT,
    "training.load_best_model_at_end": _NO_EFFECT,
    "training.logging_dir": "metrics.jsonl is in run.dir",
    "training.logging_strategy": _NO_EFFECT,
    "training.logging_steps": "every step is logged",
    "training.logging_first_step": _NO_EFFECT,
    "training.dataloader_drop_last": "every page of an epoch is used",
    "training.dataloader_num_workers": "Ray Data uses the CPUs that are free",
    "training.remove_unused_columns": _NO_EFFECT,
    "training.torch_compile_backend": "inductor",
    "training.torch_compile_mode": "default",
    "training.torch_compile_fullgraph": "false",
    "training.torch_compile_dynamic": "chosen by the learner",
    "training.use_early_stopping": _NO_EFFECT,
    "training.early_stopping_patience": _NO_EFFECT,
    "training.early_stopping_threshold": _NO_EFFECT,
}
_REFERENCE = re.compile(r"\$\{([^${}]+)\}")
_MAX_REFERENCES = 16


@dataclass
class Conversion:
    """A converted configuration and what was not carried over."""

    values: dict[str, Any]
    """For `SftConfig`."""
    ignored: list[str] = field(default_factory=list)
    """`key = value: reason` for every key that was not carried over."""
    notes: list[str] = field(default_factory=list)
    """What behaves differently from the public trainer."""


class _Reader:
    """Takes keys out of a public configuration; what is left at the end is ignored."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self._source = source
        self._values = {
            section: dict(content) if isinstance(content, Mapping) else content
            for section, content in values.items()
        }
        for section in ("model", "dataset", "training"):
            if not isinstance(self._values.setdefault(section, {}), dict):
                raise ConfigError(f"{source}: {section} must hold keys and values")

    def take(self, key: str, default: Any = None) -> Any:
        """Take `section.key` or a top-level key."""
        section, _, name = key.rpartition(".")
        return (self._values[section] if section else self._values).pop(name, default)

    def number(self, key: str, default: float) -> float:
        """Take a number; YAML gives `2e-5` as text."""
        value = self.take(key, default)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"{self._source}: {key} is {value!r}, must be a number")
        return number

    def whole(self, key: str, default: int) -> int:
        """Take a whole number."""
        value = self.number(key, default)
        if value != int(value):
            raise ConfigError(f"{self._source}: {key} is {value!r}, must be a whole number")
        return int(value)

    def left_over(self) -> list[str]:
        """`key = value: reason` for everything not taken."""
        rest: dict[str, Any] = {}
        for section, content in self._values.items():
            if section in ("model", "dataset", "training"):
                rest |= {f"{section}.{name}": value for name, value in content.items()}
            else:
                rest[section] = content
        unknown = "olmocr does not know this key"
        return [f"{key} = {value!r}: {_IGNORED.get(key, unknown)}" for key, value in rest.items()]


def convert(values: Mapping[str, Any], source: str) -> Conversion:
    """Convert plain YAML values of a public training configuration.

    Args:
        values: The content of the YAML file.
        source: The file's name, for messages.

    Raises:
        ConfigError: not such a configuration, or a value that cannot be converted.
    """
    if not looks_like_olmocr(values):
        raise ConfigError(
            f"{source}: not an olmocr training configuration "
            "(it has model.name and dataset.train with root_dir entries)"
        )
    reader = _Reader(_resolve(values, values, source), source)
    result = Conversion({})
    run_name, output_dir = reader.take("run_name"), reader.take("training.output_dir", "./outputs")
    data = _data(reader, result.notes, source)
    held = {str(entry.get("name") or folder_name(entry["root"])) for entry in data["evaluation"]}
    result.values = {
        "run": {
            "dir": f"{str(output_dir).rstrip('/')}/{run_name or 'run'}",
            "seed": reader.whole("training.seed", 42),
            "epochs": reader.number("training.num_train_epochs", 1),
        },
        "model": _model(reader, result.notes, source),
        "data": data,
        "training": {
            "pages_per_step": reader.whole("training.per_device_train_batch_size", 1)
            * reader.whole("training.gradient_accumulation_steps", 8),
            "shuffle_seed": reader.whole("training.data_seed", 42),
        },
        "learner": _learner(reader, result.notes, source),
        "checkpoint": {
            "every": reader.whole("training.save_steps", 500),
            "keep_last": reader.whole("training.save_total_limit", 3),
        },
        "evaluation": _evaluation(reader, held, result.notes),
        "logging": _logging(reader),
    }
    result.ignored = reader.left_over()
    return result


def _model(reader: _Reader, notes: list[str], source: str) -> dict[str, Any]:
    model: dict[str, Any] = {"path": reader.take("model.name", "Qwen/Qwen2.5-VL-7B-Instruct")}
    dtype = reader.take("model.torch_dtype", "auto")
    model["dtype"] = "float32" if dtype == "float32" else "bfloat16"
    if dtype not in ("auto", "bfloat16", "float32"):
        raise ConfigError(f"{source}: model.torch_dtype is {dtype!r}; use bfloat16 or float32")
    wants_flash = reader.take("model.use_flash_attention", True)
    kernel = reader.take("model.attn_implementation")
    known = {"flash_attention_2": "flash", "sdpa": "sdpa", "eager": "sdpa"}
    if kernel is not None and kernel not in known:
        raise ConfigError(f"{source}: model.attn_implementation is {kernel!r}, allowed: {known}")
    model["attention"] = known[kernel] if kernel else ("auto" if wants_flash else "sdpa")
    if kernel == "eager":
        notes.append("model.attn_implementation eager becomes sdpa, which computes the same")
    if reader.take("model.trust_remote_code", False):
        model["trust_remote_code"] = True
    names = {"rank": 8, "alpha": 32, "dropout": 0.1, "target_modules": None}
    lora = {name: reader.take(f"model.lora_{name}", default) for name, default in names.items()}
    if reader.take("model.use_lora", False):
        model["lora"] = {name: value for name, value in lora.items() if value is not None}
    return model


def _data(reader: _Reader, notes: list[str], source: str) -> dict[str, Any]:
    train = _sets(reader.take("dataset.train"), "dataset.train", source)
    held = _sets(reader.take("dataset.eval", []), "dataset.eval", source)
    if not train:
        raise ConfigError(f"{source}: dataset.train needs at least one set")
    shared = train[0]["pipeline"]
    for entry in train:
        if entry["pipeline"] == shared:
            del entry["pipeline"]
    stripped: set[str] = set()
    for entry in held:
        kept = [s for s in entry["pipeline"] if s.get("name") not in NOT_IN_EVALUATION]
        stripped |= {str(s.get("name")) for s in entry["pipeline"] if s not in kept}
        if entry["pipeline"] == shared:
            del entry["pipeline"]  # inherited; olmrl itself leaves those steps out there
        else:
            entry["pipeline"] = kept
    if stripped:
        notes.append(f"evaluation sets skip {', '.join(sorted(stripped))}")
    data: dict[str, Any] = {"train": train, "evaluation": held, "pipeline": shared}
    limit = reader.take("training.collator_max_token_len")
    if limit is None:
        notes.append("no collator_max_token_len: data.max_tokens keeps olmrl's default")
    else:
        data["max_tokens"] = limit
        notes.append("pages over collator_max_token_len are dropped and counted, not truncated")
    return data


def _sets(value: Any, key: str, source: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise ConfigError(f"{source}: {key} must be a list of sets")
    sets = []
    for number, entry in enumerate(value):
        where = f"{source}: {key}[{number}]"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("root_dir"), str):
            raise ConfigError(f"{where}: needs a root_dir")
        unknown = set(entry) - {"name", "root_dir", "pipeline"}
        pipeline = entry.get("pipeline")
        if unknown:
            raise ConfigError(f"{where}: unknown key {sorted(unknown)[0]!r}")
        if not isinstance(pipeline, list) or not all(isinstance(s, Mapping) for s in pipeline):
            raise ConfigError(f"{where}: needs a pipeline (a list of steps)")
        made: dict[str, Any] = {"root": entry["root_dir"]}
        if entry.get("name"):
            made["name"] = entry["name"]
        sets.append({**made, "pipeline": [dict(step) for step in pipeline]})
    return sets


def _learner(reader: _Reader, notes: list[str], source: str) -> dict[str, Any]:
    optimizer = reader.take("training.optim", "adamw_torch")
    if optimizer not in ("adamw_torch", "muon"):
        raise ConfigError(f"{source}: training.optim is {optimizer!r}, allowed: adamw_torch, muon")
    rate = reader.number("training.learning_rate", 2e-5)
    made: dict[str, Any] = {
        "name": "muon" if optimizer == "muon" else "adamw",
        "lr": rate,
        "betas": [
            reader.number("training.adam_beta1", 0.9),
            reader.number("training.adam_beta2", 0.999),
        ],
        "eps": reader.number("training.adam_epsilon", 1e-8),
        "weight_decay": reader.number("training.weight_decay", 0.01),
        "schedule": reader.take("training.lr_scheduler_type", "cosine"),
        "schedule_options": reader.take("training.lr_scheduler_kwargs") or {},
        "warmup_ratio": reader.number("training.warmup_ratio", 0.1),
        "max_grad_norm": reader.number("training.max_grad_norm", 1.0),
    }
    momentum = reader.number("training.muon_momentum", 0.95)
    factors = {
        name: reader.number(f"training.muon_lr_multiplier_{theirs}", default)
        for name, theirs, default in (
            ("head", "head", 11), ("embedding", "embed", 30), ("scalar", "scalar", 2),
        )
    }  # fmt: skip
    if optimizer == "muon":
        made |= {"muon_lr": rate, "muon_momentum": momentum, "lr_multipliers": factors}
    if made["weight_decay"]:
        notes.append("norms are exempt from weight decay (olmocr means to, but decays them)")
    return {
        "optimizer": made,
        "activation_checkpointing": bool(reader.take("training.gradient_checkpointing", False)),
        "compile": bool(reader.take("training.torch_compile", False)),
    }


def _evaluation(reader: _Reader, held: set[str], notes: list[str]) -> dict[str, Any]:
    metric = str(reader.take("training.metric_for_best_model", "eval_loss"))
    per_set = re.fullmatch(r"eval_(.+)_loss", metric)
    if per_set and per_set[1] not in held:
        notes.append(
            f"training.metric_for_best_model is {metric!r}, but no evaluation set is called "
            f"{per_set[1]!r}: evaluation.best_metric is eval/loss"
        )
        per_set = None
    return {
        "every": reader.whole("training.eval_steps", 500),
        "best_metric": f"eval/{per_set[1]}/loss" if per_set else "eval/loss",
        "best_mode": "max" if reader.take("training.greater_is_better", False) else "min",
    }


def _logging(reader: _Reader) -> dict[str, Any]:
    project = reader.take("project_name", "olmocr-training")
    targets = reader.take("training.report_to", ["wandb"]) or []
    made = {
        "wandb": "online" if "wandb" in targets else "off",
        "wandb_project": reader.take("wandb_project") or project,
    }
    entity = reader.take("wandb_entity")
    return made | ({"wandb_entity": entity} if entity else {})


def _resolve(value: Any, root: Mapping[str, Any], source: str) -> Any:
    """Replace omegaconf references `${section.key}` with the values they name."""
    if isinstance(value, Mapping):
        return {key: _resolve(content, root, source) for key, content in value.items()}
    if isinstance(value, list):
        return [_resolve(content, root, source) for content in value]
    for _ in range(_MAX_REFERENCES):
        found = _REFERENCE.search(value) if isinstance(value, str) else None
        if found is None:
            return value
        target = _look_up(found[1], root, source)
        whole = found[0] == value
        value = target if whole else value[: found.start()] + str(target) + value[found.end() :]
    raise ConfigError(f"{source}: the reference {value!r} refers to itself")


def _look_up(path: str, root: Mapping[str, Any], source: str) -> Any:
    node: Any = root
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            raise ConfigError(f"{source}: the reference ${{{path}}} names no key in the file")
        node = node[part]
    if isinstance(node, Mapping | list):
        raise ConfigError(f"{source}: the reference ${{{path}}} names a section, not a value")
    return node
