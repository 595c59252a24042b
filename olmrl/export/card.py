"""The model card of an exported run: what it is, where it comes from, its figures."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from olmrl import metrics

_SHOWN = (re.compile("eval/.*"), re.compile("reward/(.*/)?mean"), re.compile("loss/.*"))
_MOST_ROWS = 40
_TEMPLATE = """\
---
base_model: {{ base }}
library_name: transformers
pipeline_tag: image-text-to-text
tags:
- ocr
- olmrl
- {{ method }}
---

# {{ name }}

{{ base }} trained with olmrl ({{ method }}), step {{ step }}. It transcribes a page image to
markdown with front matter. Prompt: {{ prompt }}; pages rendered at {{ longest_side }} pixels on
the longer side.

    vllm serve {{ name }} --limit-mm-per-prompt '{"image": 1}'

## Numbers of the run
{% if rows %}
| metric | first | last, up to step {{ step }} |
|---|---|---|
{% for row in rows -%}
| {{ row[0] }} | {{ row[1] }} | {{ row[2] }} |
{% endfor %}
{%- else %}
The run recorded no such metrics.
{% endif %}
## Configuration

```yaml
{{ config }}```
"""


def model_card(
    config: dict[str, Any], step: int, metrics_path: str | os.PathLike[str], *, name: str
) -> str:
    """The card as markdown.

    Args:
        config: resolved configuration of the run.
        step: step of the exported checkpoint.
        metrics_path: the run's metrics.jsonl; may be missing.
        name: name of the model folder.
    """
    data = config.get("data", {})
    return (
        Environment(undefined=StrictUndefined, autoescape=False)
        .from_string(_TEMPLATE)
        .render(
            name=name,
            base=config["model"]["path"],
            method="GRPO" if "algorithm" in config else "SFT",
            step=step,
            prompt=data.get("prompt", "as in the configuration"),
            longest_side=data.get("longest_side", "the configured"),
            rows=_numbers(metrics_path, step),
            config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        )
    )


def card_config(card: str) -> dict[str, Any] | None:
    """The configuration in a card that `model_card` wrote; None for any other text."""
    _, found, rest = card.partition("\n## Configuration\n\n```yaml\n")
    text, end, _ = rest.partition("```")
    value = yaml.safe_load(text) if found and end else None
    return value if isinstance(value, dict) and "model" in value else None


def card_step(card: str) -> int | None:
    """The step in a card that `model_card` wrote; None for any other text."""
    found = re.search(r"trained with olmrl \((?:GRPO|SFT)\), step (\d+)\.", card)
    return int(found[1]) if found else None


def _numbers(path: str | os.PathLike[str], step: int) -> list[tuple[str, str, str]]:
    if not Path(path).exists():
        return []
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for row in metrics.read_rows(path):
        if row.get("step", 0) > step:
            continue
        for name, value in row.items():
            if isinstance(value, (int, float)) and math.isfinite(value) and name != "step":
                first.setdefault(name, value)
                last[name] = value
    shown = [n for pattern in _SHOWN for n in sorted(last) if pattern.fullmatch(n)]
    return [(n, f"{first[n]:.4g}", f"{last[n]:.4g}") for n in shown[:_MOST_ROWS]]
