"""The figures of the learning experiment, by hand."""

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))
from benchmarks.learning.ablations import report
from benchmarks.learning.arms import Seed, Settings, shuffled_tests, true_labels, without_truth
from benchmarks.learning.compare import best, over_pages, over_seeds, summary
from benchmarks.learning.rewards import noise
from olmrl.data.page import scan_bench
from olmrl.synth.pages import write_bench
from olmrl.types import Page


def _text(reading=1.0, **types):
    return {"types": types, "reading": reading, "exact": 0, "tokens": 10}


def test_pages_weigh_alike_however_many_tests_they_have():
    pages = {
        "one": [_text(present=[1, 1, 1, 0], table=[0])],  # 3 of 5
        "two": [_text(0.5, present=[1]), _text(0.0, present=[0])],  # 1 of 2
    }
    found = summary(pages)
    assert found["tests"] == pytest.approx((0.6 + 0.5) / 2)
    assert found["type/present"] == pytest.approx((0.75 + 0.5) / 2)
    assert found["type/table"] == 0  # of the one page that has a table
    assert found["reading"] == pytest.approx((1.0 + 0.25) / 2)
    assert best(pages["two"]) == 1


def test_an_interval_over_seeds_is_students():
    mean, low, high = over_seeds([0.1, 0.2, 0.3])
    # standard deviation 0.1, t = 4.303 at two degrees of freedom
    assert (mean, high - mean) == pytest.approx((0.2, 4.303 * 0.1 / math.sqrt(3)))
    assert mean - low == pytest.approx(high - mean)
    assert over_seeds([0.1])[1:] == (-math.inf, math.inf)


def test_an_interval_over_pages_is_paired():
    before = {str(n): [_text(present=[n % 2])] for n in range(40)}
    after = {str(n): [_text(present=[1])] for n in range(40)}
    same = over_pages(before, before)
    assert same == (0, 0, 0)
    mean, low, high = over_pages(after, before)
    # half of the pages gain a whole test: standard error sqrt(0.25 / 40) = 0.079
    assert mean == 0.5
    assert low == pytest.approx(0.5 - 1.96 * 0.079, abs=0.02)
    assert high == pytest.approx(0.5 + 1.96 * 0.079, abs=0.02)


def test_every_page_gets_the_tests_of_another_one(tmp_path):
    seed = Seed(3, tmp_path, Settings())
    pdfs = seed.pages / "train" / "pdfs" / "synth"
    pdfs.mkdir(parents=True)
    names = [f"synth/{n}.pdf" for n in range(5)]
    for name in names:
        (pdfs.parent / name).write_bytes(b"%PDF")
    rows = [{"pdf": name, "page": 1, "type": "present", "text": name} for name in names]
    (seed.pages / "train" / "text.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    folder = shuffled_tests(seed)
    found = [json.loads(line) for line in (folder / "text.jsonl").read_text().splitlines()]
    assert sorted(row["pdf"] for row in found) == names
    assert all(row["pdf"] != row["text"] for row in found)


def test_noise_says_nothing_about_the_text():
    class Text:
        def __init__(self, text):
            self.text = text

    page = Page("p", "p.pdf", 1)
    values = noise(page, [Text(f"text {n}") for n in range(2000)])
    assert sum(values) / 2000 == pytest.approx(0.5, abs=0.03)
    assert noise(page, [Text("text 7")]) == [values[7]]


def test_rewards_of_without_truth_cannot_see_the_truth(tmp_path):
    seed = Seed(1, tmp_path, Settings())
    write_bench(seed.pages, "train", 3, seed=1, difficulty=1)
    assert all(page.reference_path for page in scan_bench(str(seed.pages / "train")))
    pages = scan_bench(str(without_truth(seed)))
    assert len(pages) == 3
    assert not any(page.reference_path for page in pages)
    assert not any(page.reference_path for page in scan_bench(str(shuffled_tests(seed))))
    truths = sorted(path.stem for path in true_labels(seed).glob("*.md"))
    assert truths == sorted(path.stem for path in true_labels(seed).glob("*.pdf"))
    assert len(truths) == 3


def test_an_ablation_is_compared_with_the_defaults_of_its_own_seeds():
    def run(tests):
        figures = {"tests": tests, "reading": 1.0, "exact": 0.0, "tokens": 9.0}
        return {"greedy": figures, "T=1": figures, "seconds": 1.0}

    found = {
        "a-grpo": {1: run(0.9), 2: run(0.5), 3: run(0.1)},
        "loss=grpo": {1: run(0.8), 2: run(0.5)},
    }
    gap = report(found)["rows"]["loss=grpo"]["minus_defaults"]["greedy"]["tests"]
    # -0.1 and 0: mean -0.05, standard deviation 0.0707, t = 12.706 at one degree of freedom
    assert gap.mean == pytest.approx(-0.05)
    assert gap.high - gap.mean == pytest.approx(12.706 * 0.0707 / math.sqrt(2), rel=1e-3)
