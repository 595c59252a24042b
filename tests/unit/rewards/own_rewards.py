"""Rewards as a user would write them, and ones that misbehave; named by import path."""

import os
import time
from pathlib import Path

import ray

from olmrl.types import RewardResult


def length(page, completions, scale=1.0):
    return [scale * len(c.text) for c in completions]


length.needs_group = False


def rank(page, completions):
    """Wants the whole group: 1 for the longest."""
    longest = max(len(c.text) for c in completions)
    return [float(len(c.text) == longest) for c in completions]


class Vowels:
    needs_group = False

    def __init__(self, letters="aeiou"):
        if not letters:
            raise ValueError("letters is empty")
        self.letters = letters

    def missing(self, page):
        return "" if page.reference is not None else "no reference"

    def score_group(self, page, completions):
        return [
            RewardResult(float(sum(c.text.count(v) for v in self.letters)), {"n": len(c.text)})
            for c in completions
        ]


class NotAReward:
    pass


not_callable = 3


def moody(page, completions, folder):
    """Does what the text says: `hang`, `die` (or `... once`), `raise`, `nan`, `short`, `nap N`.

    Anything else scores 1.

    `folder` remembers across processes what has happened once.
    """
    results = []
    for c in completions:
        if c.text == "raise":
            raise RuntimeError("not today")
        if c.text == "nan":
            results.append(float("nan"))
            continue
        if c.text == "short":
            return []
        if c.text.startswith("nap"):
            time.sleep(0.4)
        first = _first_time(folder, c.text)
        if c.text == "hang" or (c.text == "hang once" and first):
            time.sleep(600)
        if c.text == "die" or (c.text == "die once" and first):
            os._exit(1)
        results.append(1.0)
    return results


moody.needs_group = False


def _first_time(folder, name):
    mark = Path(folder) / name.replace(" ", "_")
    if mark.exists():
        return False
    mark.touch()
    return True


class Frail:
    """Takes its process down when it is built there, so often."""

    needs_group = False

    def __init__(self, folder, deaths):
        in_worker = ray.is_initialized() and ray.get_runtime_context().get_actor_id()
        if in_worker and any(_first_time(folder, f"death {k}") for k in range(deaths)):
            os._exit(1)

    def missing(self, page):
        return ""

    def score_group(self, page, completions):
        return [RewardResult(1.0) for _ in completions]


def greedy_for_memory(page, completions, gigabytes):
    for c in completions:
        if c.text == "big":
            hoard = bytearray(int(gigabytes * 2**30))
            hoard[-1] = 1
    return [1.0 for _ in completions]


greedy_for_memory.needs_group = False


def counting(page, completions, folder):
    """Leaves one file per call and per text it was asked about."""
    for c in completions:
        count = len(list(Path(folder).glob(f"{c.text}-*")))
        (Path(folder) / f"{c.text}-{os.getpid()}-{count}").touch()
    return [float(len(c.text)) for c in completions]


counting.needs_group = False


def returns(page, completions, what):
    """Returns what it is told to."""
    return {
        "a number": 1.0,
        "nothing": None,
        "words": ["good" for _ in completions],
        "too many": [1.0] * 5,
        "infinity": [float("inf") for _ in completions],
        "NaN": [float("nan") for _ in completions],
        "huge": [1e308 for _ in completions],
        "a dictionary": dict.fromkeys(range(len(completions)), 0.5),
        "a set": {0.25, 0.5},
        "digits": "10",
        "a word as value": [RewardResult("good") for _ in completions],
        "NaN as part": [RewardResult(1.0, {"x": float("nan")}) for _ in completions],
        "a vast integer": [RewardResult(10**400) for _ in completions],
    }[what]


class Results:
    """Returns what it is told to, as a class."""

    needs_group = False

    def __init__(self, what):
        self.what = what

    def missing(self, page):
        return ""

    def score_group(self, page, completions):
        return {"nothing": None, "numbers": [1.0] * len(completions)}[self.what]


def ends(page, completions, how):
    """Leaves by an exception."""
    raise {"exit": SystemExit(3), "lines": ValueError("one\ntwo\n\nthree")}[how]


def below_zero(page, completions):
    """Minus the length."""
    return [-float(len(c.text)) for c in completions]


below_zero.needs_group = False
