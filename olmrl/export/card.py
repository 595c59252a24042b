"""The model card of a run: what it is, how it was made, from what, how well it reads.

A card for this machine holds the run's configuration as it is, from which `olmrl read` knows how to
ask the model. A card to share leaves out what is nobody's business: folders, addresses, keys.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from olmrl import metrics
from olmrl.config import ConfigError
from olmrl.config.load import parse_yaml
from olmrl.export.scores import score_rows, scored_note
from olmrl.share.cards import front_matter, one_line_yaml, plain, table
from olmrl.share.upload import TAG

_SHOWN = tuple(map(re.compile, ("eval/(.*/)?loss", "reward/(.*/)?mean", "loss/.*")))
_MOST_ROWS = 40
_CONFIGURATION = "\n## Configuration\n\n```yaml\n"
_TEMPLATE = """\
{{ head }}
# {{ name }}

{{ base }} trained with olmrl ({{ method }}), step {{ step }}. It transcribes a page image to
markdown with front matter. Prompt: {{ prompt }}; pages rendered at {{ longest_side }} pixels on
the longer side.

    vllm serve {{ served }} --limit-mm-per-prompt '{"image": 1}'
{% if licence %}
Licence: {{ licence }}.{% if base_licence %} The base model's own card says {{ base_licence }}.\
{% endif %}
{% endif %}
## Scores on held-out pages

{{ scores }}

## Recipe

{{ recipe }}

## Data

{{ data }}
{% if prompt_text %}
## Prompt

{{ prompt_text }}
{% endif %}
## Numbers of the run

{{ rows or "The run recorded no such metrics." }}
"""
_SECRET = re.compile(r"(key|token|secret|password|credential)s?$", re.IGNORECASE)
_TOKENS = re.compile(r"^(max_)?\w*tokens$")
"""Keys that count tokens, which are no secrets."""
_PRIVATE_SECTIONS = ("cluster", "logging")
"""Sections that say nothing of the model, and much of the place where it was trained."""


@dataclass(frozen=True)
class Sharing:
    """What a card to share says beyond the run."""

    base: str | None
    """Name of the base model on the Hub; None: trained from nothing."""
    licence: str
    licence_name: str | None = None
    """With the licence `other`."""
    licence_link: str | None = None
    base_licence: str | None = None
    """What the base model's own card says."""
    datasets: tuple[str, ...] = ()
    """Names on the Hub of the data that it learnt from."""
    prompt_text: str | None = None
    """Of a prompt that is a file of the user's own."""


def model_card(
    config: dict[str, Any],
    step: int,
    run_dir: str | os.PathLike[str],
    *,
    name: str,
    sharing: Sharing | None = None,
) -> str:
    """The card as markdown.

    Args:
        config: resolved configuration of the run.
        step: step of the exported checkpoint.
        run_dir: the run's directory, for its metrics and evaluations; may be missing.
        name: name of the model folder, or of the repository.
        sharing: with it, the card is one to share.
    """
    shown = config if sharing is None else without_private(config)
    prompt, side = _asking(shown)
    method = "GRPO" if "algorithm" in config else "SFT"
    base = shown["model"]["path"] if sharing is None else sharing.base or "A new model"
    text = (
        Environment(undefined=StrictUndefined, autoescape=False)
        .from_string(_TEMPLATE)
        .render(
            head=_head(method, base, sharing),
            name=plain(name) if sharing is None else name,
            served=name,
            base=plain(base),
            method=method,
            step=step,
            prompt=plain(prompt),
            longest_side=plain(side),
            licence=None if sharing is None else plain(sharing.licence_name or sharing.licence),
            base_licence=sharing and sharing.base_licence and plain(sharing.base_licence),
            scores=_scores(run_dir, step),
            recipe=table(("what", "value"), list(_recipe(shown, step))),
            data=table(("what", "value"), list(_data(shown, run_dir, step))),
            prompt_text=sharing and sharing.prompt_text and _quoted(sharing.prompt_text),
            rows=_numbers(run_dir, step),
        )
    )
    return f"{text}\n{_CONFIGURATION}{one_line_yaml(shown)}```\n"


def card_config(card: str) -> dict[str, Any] | None:
    """The configuration in a card that `model_card` wrote; None for any other text."""
    _, found, rest = card.rpartition(_CONFIGURATION)
    text, end, _ = rest.partition("\n```")
    try:
        value = parse_yaml(text, "card") if found and end else {}
    except ConfigError:
        return None
    model = value.get("model")
    return value if isinstance(model, dict) and isinstance(model.get("path"), str) else None


def card_step(card: str) -> int | None:
    """The step in a card that `model_card` wrote; None for any other text."""
    found = re.search(r"trained with olmrl \((?:GRPO|SFT)\), step (\d+)\.", card)
    return int(found[1]) if found else None


def without_private(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration for other people's eyes.

    Of folders, files and addresses their last part is left, of keys and passwords nothing; where
    the run was trained and logged is left out.
    """

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, Mapping):
            return {k: walk(v, str(k)) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [walk(v, key) for v in value]
        if not isinstance(value, str):
            return value
        if _SECRET.search(key) and not _TOKENS.match(key):
            return "..."
        return _last_part(value)

    kept = {name: value for name, value in config.items() if name not in _PRIVATE_SECTIONS}
    return {name: walk(value, name) for name, value in kept.items()}


def _last_part(value: str) -> str:
    start = "file:" if value.startswith("file:") else ""
    place = value.removeprefix("file:")
    if not (place.startswith(("/", "~", "./", "../")) or "://" in place or start):
        return value
    return start + (place.split("?")[0].rstrip("/").rsplit("/", 1)[-1] or "folder")


def _asking(config: Mapping[str, Any]) -> tuple[object, object]:
    """Prompt and page size, which SFT has in the steps of its first set."""
    data = config.get("data", {})
    sets = data.get("train")
    first = sets[0] if isinstance(sets, list) and sets and isinstance(sets[0], Mapping) else {}
    found = {"prompt": data.get("prompt"), "target_longest_image_dim": data.get("longest_side")}
    for step in first.get("pipeline") or data.get("pipeline") or ():
        found |= {name: value for name, value in step.items() if name in found}
    prompt, side = found.values()
    return prompt or "as in the configuration", side or "the configured"


def _head(method: str, base: str, sharing: Sharing | None) -> str:
    return front_matter(
        {
            "base_model": base if sharing is None else sharing.base,
            "library_name": "transformers",
            "pipeline_tag": "image-text-to-text",
            "license": sharing and sharing.licence,
            "license_name": sharing and sharing.licence_name,
            "license_link": sharing and sharing.licence_link,
            "datasets": list(sharing.datasets) if sharing else [],
            "tags": ["ocr", TAG, method.lower()],
        }
    )


def _scores(run_dir: str | os.PathLike[str], step: int) -> str:
    rows = score_rows(run_dir, step)
    if not rows:
        return "The run evaluated no held-out pages up to this step."
    header = ("figure", "at the start", "these weights", "95 % interval")
    return f"{table(header, rows)}\n\n{scored_note(run_dir, step)}"


def _recipe(config: Mapping[str, Any], step: int) -> Iterator[tuple[str, object]]:
    """The few settings that a reader looks for first; the whole configuration follows below."""

    def at(path: str) -> Any:
        value: Any = config
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    if "algorithm" in config:
        yield "method", f"GRPO, loss {at('algorithm.loss')}"
        rewards = config.get("rewards") or ()
        yield "rewards", ", ".join(f"{r['name']} x {r.get('weight', 1)}" for r in rewards)
    else:
        yield "method", "supervised fine-tuning"
    for what, path in (
        ("pages per step", "algorithm.pages_per_step"),
        ("completions per page", "rollout.group_size"),
        ("temperature", "rollout.sampling.temperature"),
        ("KL weight", "algorithm.kl_beta"),
        ("most versions behind", "algorithm.max_staleness"),
        ("pages per step", "training.pages_per_step"),
        ("epochs", "run.epochs"),
        ("optimizer", "learner.optimizer.name"),
        ("learning rate", "learner.optimizer.lr"),
        ("schedule", "learner.optimizer.schedule"),
        ("adapters of rank", "model.lora.rank"),
        ("seed", "run.seed"),
    ):
        if at(path) is not None:
            yield what, at(path)
    yield "optimizer steps" if "algorithm" not in config else "steps", step


def _data(
    config: Mapping[str, Any], run_dir: str | os.PathLike[str], step: int
) -> Iterator[tuple[str, object]]:
    """Pages by the names of their folders, and how many of them were used."""
    data = config.get("data", {})
    for what, key in (("training pages", "train"), ("held-out pages", "heldout"),
                      ("evaluation pages", "evaluation")):  # fmt: skip
        value = data.get(key)
        if value:
            sets = value if isinstance(value, list) else [value]
            yield what, ", ".join(str(s["root"] if isinstance(s, Mapping) else s) for s in sets)
    used = {
        (page[2] if len(page) > 2 else page[1])
        for row in _rows(run_dir, "steps.jsonl")
        if row["step"] <= step
        for page in row["pages"]
    }
    if used:
        yield "different pages trained on", len(used)
    bad = len(_rows(run_dir, "bad_pages.jsonl"))
    if bad:
        yield "pages left out as unreadable", bad


def _rows(run_dir: str | os.PathLike[str], name: str) -> list[dict[str, Any]]:
    """Rows of a file of the run; none of a remote run, whose files may be large."""
    path = Path(run_dir) / name
    return list(metrics.read_rows(path)) if path.exists() else []


def _quoted(text: str) -> str:
    """A text in a block that it cannot end."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 3)
    return f"{fence}text\n{text.rstrip()}\n{fence}"


def _numbers(run_dir: str | os.PathLike[str], step: int) -> str:
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for row in _rows(run_dir, "metrics.jsonl"):
        if row.get("step", 0) > step:
            continue
        for name, value in row.items():
            if isinstance(value, (int, float)) and math.isfinite(value) and name != "step":
                first.setdefault(name, value)
                last[name] = value
    shown = [n for pattern in _SHOWN for n in sorted(last) if pattern.fullmatch(n)]
    rows = [(n, f"{first[n]:.4g}", f"{last[n]:.4g}") for n in shown[:_MOST_ROWS]]
    return table(("metric", "first", f"last, up to step {step}"), rows) if rows else ""
