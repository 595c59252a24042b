"""From a name in the configuration to a reward; a registered class is its own configuration."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from olmrl.config.registered import REWARDS
from olmrl.config.registry import check_options, construct
from olmrl.config.schema import RewardConfig
from olmrl.rewards.bench import Bench
from olmrl.rewards.curriculum import Curriculum
from olmrl.rewards.reward import Reward
from olmrl.types import Completion, Page, RewardResult

_GIVEN = 2
"""Arguments of a reward function that are no options: page and completions."""
_NO_LISTS = (str, bytes, Mapping, Set)
"""What has no number for each completion in order, though it can be gone through."""


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
        if not isinstance(values, Iterable) or isinstance(values, _NO_LISTS):
            raise TypeError(f"returned {values!r}, must return one number per completion")
        return [_result(value) for value in values]


def _result(value: Any) -> RewardResult:
    if isinstance(value, RewardResult):
        return value
    try:
        return RewardResult(float(value))
    except (TypeError, ValueError) as error:
        raise TypeError(f"returned {value!r} for a completion, must be a number") from error


def build(config: RewardConfig) -> WeightedReward:
    """Build one configured reward.

    Raises:
        ValueError: an unknown name (suggests the nearest one), an import path that does not
            resolve, an unknown or invalid option, a weight that is not a finite number, or a
            curriculum for rewards without unit tests or with an unknown category.
    """
    if not math.isfinite(config.weight):
        raise ValueError(f"reward {config.name}: weight {config.weight} is not a finite number")
    where = f"reward {config.name}"
    target = REWARDS.load(config.name)
    if not callable(target):
        raise ValueError(f"{where}: is not callable, must be a function or a class")
    if config.curriculum and target is not Bench:
        raise ValueError(f"{where}: a curriculum is only possible for bench")
    if not inspect.isclass(target):
        check_options(where, target, config.options, _GIVEN)
        return WeightedReward(config.name, config.weight, FunctionReward(target, config.options))
    reward = construct(where, target, config.options)
    if not isinstance(reward, Reward):
        raise ValueError(
            f"{where}: {target.__name__} needs score_group(page, completions), "
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
