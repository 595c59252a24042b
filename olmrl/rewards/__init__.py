"""Completion x Page -> score: one file per idea, a registry, and the pool of scorer processes.

    from olmrl.rewards import score
    score("edit_distance", ["a b"], references=["a c"])

In a configuration a reward has a name, a weight and its constructor's arguments. Your own reward
is named by its import path (a class with the methods of `Reward`, or a function of page and
completions):

    rewards:
      - {name: bench, weight: 1.0, options: {average: macro}}
      - {name: "my_module:my_reward", weight: 0.1, options: {scale: 2}}

`reward` defines what a reward is, `registry` builds the configured ones, `parsed` is what they
share, `scoring` runs them on a page in this process, `pool` in Ray workers during generation.
"""

from olmrl.rewards.direct import score
from olmrl.rewards.registry import WeightedReward, build, build_all
from olmrl.rewards.reward import Reward, UnscorablePage
from olmrl.rewards.scoring import failure, score_rollouts

__all__ = [
    "Reward",
    "UnscorablePage",
    "WeightedReward",
    "build",
    "build_all",
    "failure",
    "score",
    "score_rollouts",
]
