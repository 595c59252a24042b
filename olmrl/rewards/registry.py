"""From a name in the configuration to a reward; a registered class is its own configuration."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from olmrl.config.schema import RewardConfig
from olmrl.rewards.bench import Bench
from olmrl.rewards.curriculum import Curriculum
from olmrl.rewards.edit_distance import EditDistance
from olmrl.rewards.element_count import ElementCount
from olmrl.rewards.eos import Eos
from olmrl.rewards.front_matter import FrontMatter
from olmrl.rewards.medoid import Medoid
from olmrl.rewards.rect_tables import RectTables
from olmrl.rewards.reward import Reward
from olmrl.types import Completion, Page, RewardResult

REGISTERED: dict[str, type] = {
    "bench": Bench,
    "edit_distance": EditDistance,
    "element_count": ElementCount,
    "eos": Eos,
    "front_matter": FrontMatter,
    "medoid": Medoid,
    "rect_tables": RectTables,
}
"""Rewards by their name in a configuration."""


@dataclass(frozen=True)
class WeightedReward:
    """A reward with its name and weight in a run."""

    name: str
    weight: float
    reward: Reward
    curriculum: Curriculum | None = None
    """Weights of unit-test categories by step."""

    def share(self, result: RewardResult, step: int) -> float:
        """What a result adds to the total at a step; NaN if it failed."""
        if self.curriculum is None or result.failed:
            return self.weight * result.value
        return self.weight * self.curriculum.value(result.verdicts, step)


@dataclass(frozen=True)
class FunctionReward:
    """A user's function as a reward: `function(page, completions, **options)` returns one number
    (or `RewardResult`) per completion. It gets whole groups, unless the function object has
    `needs_group = False`."""

    function: Callable[..., Sequence[float | RewardResult]]
    options: Mapping[str, Any]

    @property
    def needs_group(self) -> bool:
        """True unless the function says otherwise: whole groups are correct for any function."""
        return bool(getattr(self.function, "needs_group", True))

    def missing(self, page: Page) -> str:
        """A function applies to every page."""
        return ""

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Call the function."""
        values = self.function(page, list(completions), **self.options)
        return [v if isinstance(v, RewardResult) else RewardResult(float(v)) for v in values]


def build(config: RewardConfig) -> WeightedReward:
    """Build one configured reward.

    Raises:
        ValueError: an unknown name (suggests the nearest one), an import path that does not
            resolve, an unknown or invalid option, a weight that is not a finite number, or a
            curriculum for rewards without unit tests or with an unknown category.
    """
    if not math.isfinite(config.weight):
        raise ValueError(f"reward {config.name}: weight {config.weight} is not a finite number")
    target = _imported(config.name) if ":" in config.name else _registered(config.name)
    _check_options(config.name, target, config.options)
    if config.curriculum and target is not Bench:
        raise ValueError(f"reward {config.name}: a curriculum is only possible for bench")
    if not inspect.isclass(target):
        return WeightedReward(config.name, config.weight, FunctionReward(target, config.options))
    try:
        reward = target(**config.options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"reward {config.name}: {error}") from error
    if not isinstance(reward, Reward):
        raise ValueError(
            f"reward {config.name}: {target.__name__} needs score_group(page, completions), "
            "missing(page) and needs_group (see olmrl.rewards.reward.Reward)"
        )
    return WeightedReward(config.name, config.weight, reward, _curriculum(config, reward))


def _curriculum(config: RewardConfig, reward: Reward) -> Curriculum | None:
    if not config.curriculum:
        return None
    assert isinstance(reward, Bench)
    try:
        return Curriculum(config.curriculum, macro=reward.average == "macro")
    except ValueError as error:
        raise ValueError(f"reward {config.name}: {error}") from error


def build_all(configs: Iterable[RewardConfig]) -> tuple[WeightedReward, ...]:
    """Build all configured rewards; see `build`."""
    return tuple(build(config) for config in configs)


def _registered(name: str) -> type:
    if name in REGISTERED:
        return REGISTERED[name]
    near = difflib.get_close_matches(name, REGISTERED, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(
        f"unknown reward {name!r}; {hint}allowed: {', '.join(sorted(REGISTERED))}, "
        "or your own as package.module:callable"
    )


def _imported(path: str) -> Callable[..., Any]:
    module_name, _, attribute = path.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ValueError(f"reward {path!r}: cannot import {module_name!r} ({error})") from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ValueError(f"reward {path!r}: {module_name} has no {attribute!r}")
        target = getattr(target, part)
    if not callable(target):
        raise ValueError(f"reward {path!r}: {attribute} is not callable")
    return target  # type: ignore[no-any-return]


def _check_options(name: str, target: Callable[..., Any], options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(target).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
    if not inspect.isclass(target):
        known = known[2:]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {known or 'no options'}"
            raise ValueError(f"reward {name}: unknown option {option!r}; {hint}")
