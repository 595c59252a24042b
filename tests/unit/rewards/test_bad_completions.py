"""Completions made to stall, to blow up or to crash a parser, through the pool with all rewards.

None may time out: the work on a text is bounded by the parsers themselves, the deadline is for what
nobody thought of (see test_scorer_pool).
"""

import time
from itertools import pairwise

import pytest
import ray
from reward_pages import HEAD, completion, page, test_row

from olmrl.config.schema import RewardConfig, ScorerConfig
from olmrl.metrics import flatten
from olmrl.rewards.pool import ScorerPool
from olmrl.types import PromptGroup

NAMES = ["bench", "edit_distance", "medoid", "front_matter", "element_count", "eos", "rect_tables"]
SIZE = 150_000

TESTS = [
    test_row("present", "p", text="a quite ordinary sentence of the page", max_diffs=3),
    test_row("absent", "a", text="running header", max_diffs=1),
    test_row("order", "o", before="the first of sentences", after="the last of them", max_diffs=2),
    test_row("format", "f", text="a heading", format="heading"),
    test_row("format", "g", text="a bold word", format="bold"),
    test_row("format", "h", text="an italic word", format="italic"),
    test_row("table", "t", cell="cell", right="other"),
    test_row("math", "m", math="x = \\frac{a}{b}"),
    test_row("footnote", "n", marker="1", appears_before_marker="some words"),
    test_row("baseline", "b"),
]

BOMB = "a: &a [x,x]\n" + "".join(f"{b}: &{b} [*{a},*{a}]\n" for a, b in pairwise("abcdefgh"))

TEXTS = {
    "too long to be looked at": "a" * 10_000_000,
    "nested tables": HEAD + "<table><tr><td>" * 10_000,
    "nested and closed tables": HEAD + "<table><tr><td>" * 5000 + "</td></tr></table>" * 5000,
    "nested braces": HEAD + "\\(" + "{" * 10_000 + "x" + "}" * 10_000 + "\\)",
    "nested fractions": HEAD + "\\[" + "\\frac{1}{" * 10_000 + "x" + "}" * 10_000 + "\\]",
    "macro bomb": HEAD
    + "\\[\\def\\a{xx}"
    + "".join(f"\\def\\{b}{{\\{a}\\{a}\\{a}\\{a}}}" for a, b in pairwise("abcdefghijkl"))
    + "\\l\\]",
    "self-calling macro": HEAD + "\\[\\def\\a{\\a\\a}\\a\\]",
    "spans": HEAD + '<table><tr><td rowspan="99999999" colspan="99999999">cell</td></tr></table>',
    "many spans": HEAD + "<table>" + '<tr><td rowspan="1000" colspan="1000">x</td>' * 500,
    "open tags": HEAD + "<table " * (SIZE // 7),
    "open comments": HEAD + "<!--" * (SIZE // 4),
    "stars": HEAD + "*" * SIZE,
    "bars": HEAD + "_ " * (SIZE // 2),
    "stars and spaces": HEAD + "** " * (SIZE // 3),
    "dollars": HEAD + "$" * SIZE,
    "open math": HEAD + "\\(" * (SIZE // 2),
    "open display math": HEAD + "\\[ $$ " * (SIZE // 6),
    "pipes": HEAD + "|" * SIZE,
    "pipe rows": HEAD + "| a | b |\n" * (SIZE // 10),
    "white space": HEAD + " \n" * (SIZE // 2),
    "heading marks": HEAD + "#" * SIZE,
    "heading tags": HEAD + "<h1>" * (SIZE // 4),
    "image marks": HEAD + "![" * (SIZE // 2),
    "footnote marks": HEAD + "[^1]" * (SIZE // 4),
    "open superscripts": HEAD + "<sup " * (SIZE // 5),
    "almost the needle": HEAD + "a quite zrdinarz sentzncz zf teh pzg " * (SIZE // 38),
    "two letters": HEAD + "ab" * (SIZE // 2),
    "many formulas": HEAD + "".join(f"\\(x_{{{i}}} = {i}\\) " for i in range(2000)),
    "wide formula": HEAD + "\\(" + "a_{1}+" * 5000 + "b\\)",
    "wide matrix": HEAD + "\\[\\begin{matrix}" + "a&" * 20_000 + "\\end{matrix}\\]",
    "yaml aliases": f"---\n{BOMB}---\nbody",
    "yaml nesting": "---\na: " + "[" * 3000 + "\n---\nbody",
    "endless head": "---\n" + "key: value\n" * (SIZE // 11),
    "null and broken characters": HEAD + "\x00\ufffd\ud800 text" * 1000,
    "combining marks": HEAD + "a" + "\u0301" * SIZE,
    "right to left marks": HEAD + "\u202e\u2066" * (SIZE // 2),
}


@pytest.fixture(scope="module")
def pool():
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    config = ScorerConfig(workers=2, cpus_per_worker=0.5, timeout_s=60.0, max_memory_gb=1.0)
    scorers = ScorerPool([RewardConfig(name=name) for name in NAMES], config, group_size=2)
    yield scorers
    scorers.close()
    ray.shutdown()


def test_hostile_completions_are_scored_within_bounds(pool):
    ref = ray.put(page(HEAD + "# a heading\n\na quite ordinary sentence of the page", TESTS))
    for name, text in TEXTS.items():
        pool.submit(name, ref, completion(HEAD, 0, name, token_ids=[1]))
        pool.submit(name, ref, completion(text, 1, name, token_ids=[1, 2]))
    found = {}
    end = time.monotonic() + 600
    while len(found) < len(TEXTS) and time.monotonic() < end:
        found |= {item.group_id: item for item in pool.poll(1.0)}
    assert set(found) == set(TEXTS)
    failures = {g: f.reason for g, f in found.items() if not isinstance(f, PromptGroup)}
    assert failures == {
        "too long to be looked at": "completion 1 has 10000000 characters, allowed are 200000"
    }
    for name in set(TEXTS) - set(failures):
        passed = {v.test_id for v in found[name].rollouts[1].rewards["bench"].verdicts if v.passed}
        assert passed <= {"a", "b"}, name  # nothing that asks for content
    measured = flatten(pool.measurements())
    assert measured["reward/timeouts"] == 0
    assert measured["reward/worker_deaths"] == 0
