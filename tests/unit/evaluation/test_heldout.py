"""Held-out evaluation: real pages and scorers, engines that say what they are told."""

import itertools
import json
import shutil
import time
from collections import Counter

import numpy as np
import pytest
import ray

from olmrl.bench.__main__ import main as bench
from olmrl.config.load import validate
from olmrl.config.schema import GrpoConfig, ScorerConfig
from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.data.page import PageSource, read_reference, scan_bench
from olmrl.data.payload import unpack_block
from olmrl.errors import RunStopped
from olmrl.evaluation import figures
from olmrl.evaluation.heldout import HeldoutEvaluator
from olmrl.markup import front_matter
from olmrl.rewards.pool import ScorerPool
from olmrl.rollout.requests import GenerationFailure
from olmrl.run.console import best_choice
from olmrl.run.directory import RunDirectory
from olmrl.types import Completion, PolicyVersion, VersionSpan

_incarnations = itertools.count(1)
LONGEST = 3000


class Engines:
    """Takes down what it is asked for."""

    def __init__(self, sources):
        self.asked = {}
        self.references = {source.page_id: read_reference(source) for source in sources}

    def submit(self, group_id, page, sampling, seeds):
        assert group_id not in self.asked
        self.asked[group_id] = page

    def abort(self, group_ids):
        for group_id in group_ids:
            self.asked.pop(group_id, None)

    def reference_of(self, group_id):
        return self.references[self.page_id_of(group_id)]

    def page_id_of(self, group_id):
        return unpack_block(ray.get(self.asked[group_id])).page_id


@pytest.fixture(scope="module")
def scorers(ray_job):
    settings = ScorerConfig(workers=1, cpus_per_worker=0.5, max_completion_chars=LONGEST)
    with ray_job(cpus=2):
        pool = ScorerPool(figures.REWARDS, settings, 1)
        yield pool
        pool.close()


@pytest.fixture
def version():
    """New in every test, as in a run."""
    return PolicyVersion(next(_incarnations), 4)


@pytest.fixture
def sources(tiny_pages):
    return scan_bench(str(tiny_pages / "heldout"))[:3]


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return Encoder(EncoderSpec(str(tiny_model)))


@pytest.fixture
def directory(tmp_path):
    made = RunDirectory(tmp_path / "run")
    made.create("")
    return made


def evaluator(encoder, directory, sources, scorers, *, max_bad=0.5, **settings):
    values = {
        "run": {"dir": str(directory.path)},
        "model": {"path": "m"},
        "data": {"train": "t", "longest_side": 64, "max_bad_fraction": max_bad},
        "rewards": [{"name": "bench"}],
        "evaluation": {"sampled": False} | settings,
    }
    engines = Engines(sources)
    config = validate(GrpoConfig, values, "test")
    return HeldoutEvaluator(config, directory, sources, encoder, engines, scorers), engines


def completion(group_id, text):
    ids = np.arange(4, dtype=np.int32)
    spans = (VersionSpan(PolicyVersion(1, 4), 0, 4),)
    return Completion(group_id, 0, ids, np.zeros(4, np.float32), spans, "stop", text, ids)


def finished(heldout):
    deadline = time.monotonic() + 60
    while (done := heldout.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return done


def evaluated(heldout, engines, version):
    """All held-out pages read without a fault."""
    heldout.start(version)
    for group_id in list(engines.asked):
        heldout.take(completion(group_id, engines.reference_of(group_id)))
        del engines.asked[group_id]
    return finished(heldout)


def test_what_cannot_be_made_or_scored_passes_no_test_and_the_run_goes_on(
    encoder, directory, sources, scorers, version
):
    heldout, engines = evaluator(encoder, directory, sources, scorers)
    heldout.start(version)
    good, unmade, huge = engines.asked
    heldout.take(completion(good, engines.reference_of(good)))
    heldout.take(GenerationFailure(unmade, "the prompt does not fit"))
    heldout.take(completion(huge, "x" * (LONGEST + 1)))
    done = finished(heldout)
    tests = [len(source.tests) for source in sources]
    assert done.scores["greedy/pass_rate"] == pytest.approx(tests[0] / sum(tests))
    assert done.scores["greedy/page_exact"] == pytest.approx(1 / 3)
    assert done.scores["greedy/reading"] == pytest.approx(1 / 3)
    assert done.scores["greedy/reward/bench"] == pytest.approx(1 / 3)
    assert done.scores["failed"] == 2
    assert done.score == done.scores["greedy/pass_rate"]
    (record,) = directory.evaluations()
    reasons = {row["page_id"]: row["reason"] for row in record["failed"]}
    assert reasons[sources[1].page_id] == "the prompt does not fit"
    assert str(LONGEST + 1) in reasons[sources[2].page_id]
    assert json.dumps(record)


def test_an_unreadable_held_out_page_is_listed_and_left_out(
    encoder, directory, sources, scorers, version
):
    broken = PageSource("gone.pdf::1", "gone.pdf", 1, tests=sources[0].tests, test_files=("f",))
    heldout, engines = evaluator(encoder, directory, [*sources, broken], scorers)
    done = evaluated(heldout, engines, version)
    assert done.scores["greedy/pass_rate"] == 1.0 and done.scores["failed"] == 0
    assert [row["path"] for row in directory.bad_pages()] == ["gone.pdf"]
    strict, _ = evaluator(encoder, directory, [*sources, broken], scorers, max_bad=0.1)
    with pytest.raises(RunStopped, match="1 of 4 held-out pages cannot be used"):
        strict.start(version)


def test_pages_are_rendered_once_for_all_evaluations(
    encoder, directory, tiny_pages, scorers, tmp_path
):
    shutil.copytree(tiny_pages / "heldout", tmp_path / "bench")
    sources = scan_bench(str(tmp_path / "bench"))[:2]
    heldout, engines = evaluator(encoder, directory, sources, scorers)
    done = [evaluated(heldout, engines, PolicyVersion(next(_incarnations), 0))]
    shutil.rmtree(tmp_path / "bench")
    done.append(evaluated(heldout, engines, PolicyVersion(next(_incarnations), 0)))
    assert done[0].scores == done[1].scores and done[1].scores["greedy/pass_rate"] == 1.0
    assert not directory.bad_pages()


def test_nothing_of_a_forgotten_evaluation_enters_the_next(
    encoder, directory, sources, scorers, version
):
    heldout, engines = evaluator(encoder, directory, sources, scorers)
    heldout.start(version)
    late = list(engines.asked)
    heldout.take(completion(late[0], ""))
    del engines.asked[late[0]]  # made; it waits for its score
    heldout.forget()
    assert not engines.asked and not heldout.running
    again = PolicyVersion(next(_incarnations), version.step)
    heldout.start(again)
    heldout.take(completion(late[1], ""))
    for group_id in list(engines.asked):
        heldout.take(completion(group_id, engines.reference_of(group_id)))
    done = finished(heldout)
    assert done.version == again and done.scores["greedy/pass_rate"] == 1.0


def versions_of(reference):
    """Transcriptions of a page, whole to worthless; training would not reward all that pass."""
    half = reference[: len(reference) // 2]
    body = front_matter.strip(reference)
    head = reference.removesuffix(body)
    return ["", half, reference, reference + body, head + reference, f"# {body}", body.lower()]


def test_figures_are_those_of_the_benchmark_on_the_same_texts(
    encoder, directory, tiny_pages, scorers, version, tmp_path
):
    folder = tmp_path / "bench"
    shutil.copytree(tiny_pages / "heldout", folder)
    listed = (folder / "baseline.jsonl").read_text().splitlines(keepends=True)
    (folder / "baseline.jsonl").write_text("".join(listed[:3]))
    heldout, engines = evaluator(
        encoder,
        directory,
        scan_bench(str(folder)),
        scorers,
        greedy=False,
        sampled=True,
        samples_per_page=3,
    )
    heldout.start(version)
    asked = Counter()
    for place, group_id in enumerate(engines.asked):
        page_id = engines.page_id_of(group_id)
        texts = versions_of(engines.reference_of(group_id))
        text = texts[place % len(texts)]
        asked[page_id] += 1
        stem = page_id.replace(".pdf::", "_pg")
        target = folder / "candidate" / f"{stem}_repeat{asked[page_id]}.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        heldout.take(completion(group_id, text))
    scores = finished(heldout).scores
    out = tmp_path / "result.json"
    assert bench(["score", str(folder), "--candidate", "candidate", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert 0.2 < result["score"] < 0.9 and "baseline" in result["categories"]
    assert scores["sampled/category_mean"] == pytest.approx(result["score"])
    for name, category in result["categories"].items():
        assert scores[f"sampled/category/{name}"] == pytest.approx(category["score"]), name
    for kind, score in result["types"].items():
        assert scores[f"sampled/type/{kind}"] == pytest.approx(score), kind


def test_a_pdf_whose_tests_are_of_a_later_page_gets_its_baseline_test_on_the_first():
    test = {"pdf": "b.pdf", "page": 2, "id": "t", "type": "present", "text": "x"}
    own = {"pdf": "a.pdf", "page": 1, "id": "mine", "type": "baseline"}
    given = [
        PageSource("a.pdf::1", "pdfs/a.pdf", 1, tests=(own,), test_files=("a.jsonl",)),
        PageSource("b.pdf::2", "pdfs/b.pdf", 2, tests=(test,), test_files=("b.jsonl",)),
    ]
    first, added, last = figures.with_baselines(given)
    assert (first, last) == tuple(given)
    assert (added.page_id, added.pdf_path, added.page_number) == ("b.pdf::1", "pdfs/b.pdf", 1)
    (row,) = added.tests
    assert (row["id"], row["type"], added.test_files) == (
        "b.pdf_baseline",
        "baseline",
        ("baseline",),
    )


def test_of_enough_pages_one_half_chooses_and_the_other_reports(
    encoder, directory, tiny_pages, scorers, version
):
    many = scan_bench(str(tiny_pages / "train"))[:16]
    assert len(many) == 16
    heldout, engines = evaluator(encoder, directory, many, scorers)
    heldout.start(version)
    choosing = heldout._choosing
    assert len(choosing) == 8
    for group_id in list(engines.asked):  # pages that choose are read well, the others not at all
        page_id = next(page.page_id for page in many if page.page_id in group_id)
        text = engines.reference_of(group_id) if page_id in choosing else ""
        heldout.take(completion(group_id, text))
        del engines.asked[group_id]
    done = finished(heldout)
    assert done.score == done.scores["selection/pass_rate"] == 1.0
    assert done.scores["reported/pass_rate"] < 0.5
    assert done.scores["selection/pass_rate_error"] == 0.0
    assert 0.0 < done.scores["greedy/pass_rate"] < 1.0
    assert done.scores["greedy/pass_rate_error"] > 0.0
    (record,) = directory.evaluations()
    for half in ("selection", "reported"):
        rate = [sum(record["by_page"][part][f"{half}/pass_rate"]) for part in ("sums", "counts")]
        assert rate[0] / rate[1] == pytest.approx(done.scores[f"{half}/pass_rate"])
    said = best_choice(directory.evaluations())
    assert f"step {version.step}, chosen by a pass rate of 1.000 +- 0.000" in said
    again, _ = evaluator(encoder, directory, many, scorers)
    assert again._choosing == choosing, "the same half after a restart"


def test_a_run_that_began_before_pages_were_halved_chooses_by_all(
    encoder, directory, tiny_pages, scorers
):
    (directory.path / "format").unlink()
    many = scan_bench(str(tiny_pages / "train"))[:16]
    heldout, _ = evaluator(encoder, directory, many, scorers)
    assert not heldout._choosing
