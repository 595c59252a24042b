"""A list of steps from the configuration, checked and run in order.

The steps are listed in docs/formats.md#data-steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from olmrl.config.registered import STEPS
from olmrl.data.page import PageSource
from olmrl.data.steps.sample import Dropped, Sample, Step, StepContext

_QUESTION = {"image", "anchor_text", "instruction", "order"}
"""Fields of a sample that the model sees before it answers."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Steps in order. Picklable."""

    steps: tuple[Step, ...]

    def run(self, source: PageSource, context: StepContext) -> Sample | Dropped:
        """Take a page through all steps, or to the one that drops it.

        Raises:
            BadPage: the page cannot be used.
        """
        sample = Sample(source)
        for step in self.steps:
            result = step(sample, context)
            if isinstance(result, Dropped):
                return result
            sample = result
        return sample

    def check(self, where: str, wanted: Collection[str]) -> None:
        """Check that every step finds what it needs, in the sample and elsewhere.

        Args:
            where: Set and key in the configuration, for messages.
            wanted: Fields of the sample that the steps must set.

        Raises:
            ValueError: a field is not set in time, or a prompt or package is missing.
        """
        given: set[str] = set()
        for step in self.steps:
            place = f"{where}, {type(step).__name__}"
            for field in step.needs:
                if field not in given:
                    raise ValueError(f"{place}: no step before it sets {_explain_field(field)}")
            try:
                step.load()
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from error
            given |= set(step.gives)
        for field in wanted:
            if field not in given:
                raise ValueError(f"{where}: no step sets {_explain_field(field)}")

    def for_evaluation(self) -> Pipeline:
        """The same without filters and augmentations."""
        return Pipeline(tuple(step for step in self.steps if step.kind == "transform"))

    def text_rules(self) -> Pipeline:
        """The steps that decide by its text whether a page is kept; none without such a rule.

        Steps after an augmentation are left out, as it may change the text.
        """
        fixed = itertools.takewhile(lambda step: step.kind != "augmentation", self.steps)
        steps = tuple(step for step in fixed if {*step.needs, *step.gives} == {"truth"})
        return Pipeline(steps if any(step.needs for step in steps) else ())

    def for_asking(self) -> Pipeline:
        """Only the steps that make the question, for pages whose answer is not known."""
        return Pipeline(tuple(step for step in self.steps if _asks(step)))


def build_pipeline(configs: Sequence[Mapping[str, Any]], where: str = "pipeline") -> Pipeline:
    """Make a pipeline from `{name: ..., parameter: value}` mappings.

    Args:
        configs: One per step; `enabled: false` leaves a step out (but it is still checked).
        where: Key in the configuration, for messages.

    Raises:
        ValueError: unknown step (with the nearest one), unknown or wrong parameter.
    """
    steps = []
    for number, config in enumerate(configs, start=1):
        step = _build_step(config, f"{where}, step {number}")
        if config.get("enabled", True):
            steps.append(step)
    return Pipeline(tuple(steps))


def _asks(step: Step) -> bool:
    touched = {*step.needs, *step.gives}
    return step.kind == "transform" and bool(touched) and touched <= _QUESTION


def _explain_field(field: str) -> str:
    makers = [name for name in STEPS.paths if field in STEPS.load(name).gives]
    return f"the {field} ({' or '.join(makers)} would)"


def _build_step(config: Mapping[str, Any], where: str) -> Step:
    parameters = dict(config)
    name = parameters.pop("name", None)
    enabled = parameters.pop("enabled", True)
    if not isinstance(enabled, bool):
        raise ValueError(f"{where}: enabled is {enabled!r}, must be true or false")
    try:
        kind = STEPS.load_class(name, Step)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not is_dataclass(kind):
        raise ValueError(f"{where}: {name} is not a dataclass, whose fields are its parameters")
    try:
        return cast("Step", TypeAdapter(kind).validate_python(parameters))
    except ValidationError as error:
        problems = "; ".join(_explain(problem, kind) for problem in error.errors())
        raise ValueError(f"{where}, {name}: {problems}") from None


def _explain(problem: Any, kind: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = [field.name for field in fields(kind)]
        allowed = ", ".join(known) if known else "it has none"
        return f"unknown parameter {key!r} (parameters: {allowed})"
    if problem["type"] == "missing":
        return f"{key}: needs a value"
    return f"{key}: {problem['msg']}, got {problem['input']!r}"
