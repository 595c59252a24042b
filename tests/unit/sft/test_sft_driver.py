"""The SFT Driver beside a real StepFeed; the test plays the learner's one rank."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import ray
from data_pairs import HEAD, config, make_pairs

from olmrl.data.encode import EncoderSpec
from olmrl.data.page_sets import SftPages, load_sets
from olmrl.data.payload import unpack_block
from olmrl.errors import RunStopped
from olmrl.metrics import Last, Mean, read_rows
from olmrl.models.cost import CostModel
from olmrl.run.bad_pages import BadPages
from olmrl.run.directory import RunDirectory
from olmrl.run.sinks import JsonlSink
from olmrl.sft.driver import SftDriver
from olmrl.sft.evaluator import with_mean
from olmrl.sft.feed import TRAIN, EvaluationRequest, PagesUsed, StepFeed, StepShare

HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def cluster(ray_job) -> Iterator[None]:
    with ray_job(cpus=2):
        yield
        for feed in Run.feeds:  # threads that still wait for one end with it
            ray.kill(feed)


class Run:
    """A Driver in a thread of its own, and the feed that it serves."""

    feeds: ClassVar[list[Any]] = []

    def __init__(
        self, tmp_path: Path, model: Path, settings: Any, pages: SftPages | None = None
    ) -> None:
        self.directory = RunDirectory(tmp_path / "run")
        if not self.directory.started:
            self.directory.create("run: {}\n")
        self.pages = pages or load_sets(settings.data, str(tmp_path))
        self.said: list[str] = []
        self.feed = ray.remote(StepFeed).options(max_concurrency=100, num_cpus=0).remote(1, 2)
        self.feeds.append(self.feed)
        self.driver = SftDriver(
            settings,
            self.directory,
            encoder=EncoderSpec(str(model)),
            cost=CostModel(1, 0, 0, 0, 1, 0, 0, 0),
            pages=self.pages,
            bad=BadPages(self.directory, self.pages.sources(), settings.data.max_bad_fraction),
            to_read=(),
            feed=self.feed,
            sinks=[JsonlSink(self.directory.metrics)],
            on_step=lambda step, row: None,
            say=self.said.append,
        )
        self.error: BaseException | None = None
        self.learner_error: BaseException | None = None
        self.asked_to_stop = False

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def requested(self) -> bool:
        return self.asked_to_stop

    def begun(self) -> None:
        """It may be asked to stop at any time."""

    def _run(self) -> None:
        try:
            self.driver.run(lambda: self.learner_error, self)
        except BaseException as error:
            self.error = error

    def begin(self, step: int = 0, progress: PagesUsed | None = None) -> None:
        ray.get(self.feed.begin.remote(step, progress or PagesUsed()))

    def take(self, step: int, channel: str = TRAIN) -> StepShare | None:
        return ray.get(self.feed.take.remote(channel, step, 0), timeout=60)

    def train(self, step: int) -> StepShare | None:
        """Take a step and report it."""
        share = self.take(step)
        if share is not None:
            row = {"loss/sft": Mean(1.0), "data/epoch": Last(0.0)}
            ray.get(self.feed.report.remote(step + 1, 0, row))
        return share

    def evaluate(self, step: int, *sets: str) -> list[int]:
        """Take an evaluation's pages and report; gives the number of each set's."""
        ray.get(self.feed.evaluate.remote(EvaluationRequest(step, True, False)))
        counts = []
        for name in sets:
            shares = iter(lambda: self.take(next(places), f"eval/{name}/{step}"), None)  # noqa: B023
            places = itertools.count()
            counts.append(sum(len(share.examples) for share in shares))
        ray.get(self.feed.report.remote(step, 0, {"eval/loss": Mean(1.0)}))
        return counts

    def finish(self) -> None:
        ray.get(self.feed.all_written.remote())
        ray.get(self.feed.finish.remote())
        self._thread.join(30)
        assert self.error is None

    def failure(self) -> BaseException:
        """Wait for what ended the Driver."""
        self._thread.join(60)
        assert self.error is not None
        return self.error


def names(share: StepShare | None) -> list[str]:
    assert share is not None
    return [unpack_block(block).page.page_id for block in ray.get(list(share.examples))]


def settings(tmp_path: Path, root: Path, steps: int | None = None, **data: Any) -> Any:
    made = config(tmp_path, **{"train": [{"root": str(root)}], "prefetch_pages": 4, **data})
    run = {"steps": steps, "seed": 1}
    return made.model_copy(
        update={
            "run": made.run.model_copy(update=run),
            "training": made.training.model_copy(update={"pages_per_step": 2}),
        }
    )


def spoil(path: Path, content: bytes = b"broken") -> None:
    """Break a file that validation has found good."""
    path.write_bytes(content)


def test_pages_that_turn_bad_while_training_stop_the_run(tmp_path: Path, tiny_model: Path):
    root = make_pairs(tmp_path / "set", 8)
    run = Run(tmp_path, tiny_model, settings(tmp_path, root, steps=100, max_bad_fraction=0.3))
    for k in range(3):
        spoil(root / f"{k}.pdf")
    run.start()
    run.begin()
    for step in range(6):
        run.feed.take.remote(TRAIN, step, 0)
    error = run.failure()
    assert isinstance(error, RunStopped)
    assert "3 of 8 pages cannot be used, more than data.max_bad_fraction=0.3" in str(error)
    assert "bad_pages.jsonl" in str(error)


def test_a_run_that_is_asked_to_stop_gives_out_no_new_step_and_ends_with_the_learner(
    tmp_path: Path, tiny_model: Path
):
    run = Run(tmp_path, tiny_model, settings(tmp_path, make_pairs(tmp_path / "set", 8), steps=100))
    run.start()
    run.begin()
    ray.get(run.feed.say.remote(["learner: ready"]))
    run.train(0)
    run.asked_to_stop = True
    deadline = time.monotonic() + 30
    while not ray.get(run.feed.stopping.remote()):
        assert time.monotonic() < deadline
    assert run.take(50) is None
    run.finish()
    (row,) = read_rows(run.directory.metrics)
    assert (row["step"], row["loss/sft"]) == (1, 1.0)
    assert run.said == ["learner: ready"]


def test_a_learner_that_gives_up_ends_the_driver(tmp_path: Path, tiny_model: Path):
    before = set(threading.enumerate())
    run = Run(tmp_path, tiny_model, settings(tmp_path, make_pairs(tmp_path / "set", 4), steps=100))
    run.start()
    run.begin()
    run.train(0)
    run.learner_error = ValueError("a rank ran out of memory")
    assert run.failure() is run.learner_error
    # nothing is left that would speak after the error
    deadline = time.monotonic() + 20
    while feeding := {t for t in threading.enumerate() if t.name == "_feed_training"} - before:
        assert time.monotonic() < deadline, feeding
        time.sleep(0.05)


def test_an_epoch_that_keeps_no_page_ends_the_run_though_pages_were_kept_before(
    tmp_path: Path, tiny_model: Path
):
    root = make_pairs(tmp_path / "set", 4)
    run = Run(tmp_path, tiny_model, settings(tmp_path, root, steps=1000, max_bad_fraction=1.0))
    run.start()
    run.begin()
    assert len(names(run.train(0))) == 2
    for k in range(4):
        spoil(root / f"{k}.md", f"{HEAD}| a | b |\n|---|---|\n| 1 | 2 |".encode())
    for step in range(1, 60):
        run.feed.take.remote(TRAIN, step, 0)
    error = str(run.failure())
    assert error.startswith("no page is left to train on: 0 of 4 pages kept, 0 bad")
    assert "4 dropped by DatasetTextRuleFilter: markdown table" in error


def test_part_of_an_epoch_that_keeps_no_page_does_not_end_silently(
    tmp_path: Path, tiny_model: Path
):
    root = make_pairs(tmp_path / "set", 4)
    made = settings(tmp_path, root, max_tokens=10)
    made = made.model_copy(update={"run": made.run.model_copy(update={"epochs": 0.5})})
    run = Run(tmp_path, tiny_model, made)
    run.start()
    run.begin()
    assert "0 of 2 pages kept" in str(run.failure())


def test_an_evaluation_set_without_a_page_left_is_named_and_counted(
    tmp_path: Path, tiny_model: Path
):
    root = make_pairs(tmp_path / "set", 4)
    held = [make_pairs(tmp_path / name, 3, text) for name, text in LONG.items()]
    sets = [{"root": str(path)} for path in held]
    run = Run(tmp_path, tiny_model, settings(tmp_path, root, evaluation=sets, max_tokens=2000))
    run.start()
    run.begin()
    assert run.evaluate(0, "short", "long") == [3, 0]
    assert [run.train(step) is not None for step in range(3)] == [True, True, False]
    assert run.evaluate(2, "short", "long") == [3, 0]
    run.finish()
    (said,) = run.said
    assert said.startswith(
        "evaluation set long: 0 of 3 pages kept, 0 bad\n  3 dropped by Tokenizer"
    )
    for row in (row for row in read_rows(run.directory.metrics) if "eval/loss" in row):
        kept = [row[f"data/eval/{name}/pages_kept"] for name in LONG]
        assert (kept, row["data/eval/long/dropped/Tokenizer"]) == ([3, 0], 3)


LONG = {"short": "page", "long": "long " * 900}


def test_a_best_metric_that_cannot_be_measured_ends_the_run(tmp_path: Path, tiny_model: Path):
    root = make_pairs(tmp_path / "set", 2)
    held = make_pairs(tmp_path / "long", 3, LONG["long"])
    made = settings(tmp_path, root, evaluation=[{"root": str(held)}], max_tokens=2000)
    run = Run(tmp_path, tiny_model, made)
    run.start()
    run.begin()
    run.feed.evaluate.remote(EvaluationRequest(0, True, False))
    assert "evaluation.best_metric: eval/loss cannot be measured" in str(run.failure())


def test_the_mean_over_sets_leaves_out_a_set_without_pages():
    losses = {
        "eval/a/loss": Mean(6.0, 2.0),
        "eval/b/loss": Mean(0.0, 0.0),
        "eval/c/loss": Mean(1.0),
    }
    assert with_mean(losses) == {"eval/a/loss": 3.0, "eval/c/loss": 1.0, "eval/loss": 2.0}
    assert with_mean({"eval/b/loss": Mean(0.0, 0.0)}) == {}


def test_the_last_evaluation_is_told_once_though_a_resume_makes_it_again(
    tmp_path: Path, tiny_model: Path
):
    root, held = make_pairs(tmp_path / "set", 4), make_pairs(tmp_path / "held", 2)
    made = settings(tmp_path, root, steps=2, evaluation=[{"root": str(held)}])
    first = Run(tmp_path, tiny_model, made)
    first.start()
    first.begin()
    saved = [first.train(step).after for step in range(2)]
    assert first.evaluate(2, "held") == [2]
    first.finish()
    second = Run(tmp_path, tiny_model, made, first.pages)  # killed while it wrote its report
    second.start()
    second.begin(2, saved[1])
    assert second.evaluate(2, "held") == [2]
    second.finish()
    rows = read_rows(second.directory.metrics)
    assert [row["step"] for row in rows if "loss/sft" in row] == [1, 2]
    assert [row["step"] for row in rows if "eval/loss" in row] == [2]


def test_every_page_is_counted_and_listed_once_over_restarts_and_resumes(
    tmp_path: Path, tiny_model: Path
):
    roots = [make_pairs(tmp_path / name, 4) for name in ("set", "other")]
    for root in roots:
        (root / "1.md").write_text(f"{HEAD}| a | b |\n|---|---|\n| 1 | 2 |")
    made = settings(
        tmp_path, roots[0], max_bad_fraction=0.5, train=[{"root": str(r)} for r in roots]
    )
    made = made.model_copy(update={"run": made.run.model_copy(update={"epochs": 2.0})})
    first = Run(tmp_path, tiny_model, made)
    spoil(roots[0] / "2.pdf")
    first.start()
    first.begin()
    saved = [first.train(step).after for step in range(3)]
    ray.get(first.feed.all_written.remote())
    first.begin(1, saved[0])  # the learner died, and goes on from its first checkpoint
    saved = [first.train(step).after for step in range(1, 4)]
    first.finish()

    with (first.directory.path / "dropped_pages.jsonl").open("a") as stream:
        stream.write('{"path": "torn')  # what a kill leaves
    second = Run(tmp_path, tiny_model, made, first.pages)
    second.start()
    second.begin(3, PagesUsed.from_json(json.loads(json.dumps(saved[1].as_json()))))
    step = 3
    while second.train(step) is not None:
        step += 1
    second.finish()
    rows = [row for row in read_rows(second.directory.metrics) if "loss/sft" in row]
    assert [row["step"] for row in rows] == list(range(1, step + 1)) == [1, 2, 3, 4, 5]
    counts = [row["data/pages_kept"] for row in rows]
    assert counts == [2, 4, 6, 8, 10]
    assert (second.driver.tally.kept, second.driver.tally.bad) == (10, 2)
    assert second.driver.tally.dropped == {("DatasetTextRuleFilter", "markdown table"): 4}
    (bad,) = second.directory.bad_pages()
    assert (bad["page_id"], bad["path"]) == ("2.pdf::1", str(roots[0] / "2.pdf"))
    places = [page for row in read_rows(second.directory.steps) for page in row["pages"]]
    assert {page_id for _, _, page_id in places} == {"0.pdf::1", "2.pdf::1", "3.pdf::1"}
    dropped = read_rows(second.directory.path / "dropped_pages.jsonl")
    assert sorted(row["path"] for row in dropped) == sorted(str(root / "1.pdf") for root in roots)
    assert {(row["page"], row["rule"]) for row in dropped} == {(1, "markdown table")}
