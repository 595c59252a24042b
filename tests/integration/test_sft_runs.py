"""Whole SFT runs: transcriptions scored on the way, more workers in the middle, refusals."""

import json
import shutil
import subprocess

import pytest
from running import ROOT, command, run, sft_overrides

from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.metrics import read_rows

STEPS, CUT = 10, 5
"""Of 6 steps an epoch, so that the cut lies in the middle of one."""


def overrides(pages, model, out, steps):
    generate = f"{{pages: 3, every: 5, max_tokens: 24, batch_pages: 2, bench: {pages / 'heldout'}}}"
    return [
        *sft_overrides(pages, model, out),
        f"run.steps={steps}",
        "training.pages_per_step=4",
        "checkpoint.every=0",
        "learner.optimizer.schedule=linear",
        f"evaluation={{every: 5, generate: {generate}, best_metric: eval/held/edit_similarity}}",
    ]


@pytest.fixture(scope="module")
def whole(tiny_pages, tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    run("olmrl.sft", *overrides(tiny_pages, tiny_model, out, STEPS))
    return out


def rows_with(out, name):
    return {row["step"]: row for row in read_rows(out / "metrics.jsonl") if name in row}


def test_a_sample_of_pages_is_transcribed_and_scored(whole):
    rows = rows_with(whole, "eval/edit_similarity")
    assert list(rows) == [0, 5, 10]
    for row in rows.values():
        assert row["eval/pass_rate"] == row["eval/heldout/pass_rate"]
        both = row["eval/held/edit_similarity"] + row["eval/heldout/edit_similarity"]
        assert row["eval/edit_similarity"] == pytest.approx(both / 2)
    first, last = (rows[step]["eval/held/edit_similarity"] for step in (0, 10))
    assert last > first
    records = [json.loads(p.read_text()) for p in sorted((whole / "evaluations").iterdir())]
    assert [record["step"] for record in records] == [0, 5, 10]
    shown = records[-1]["pages"][0]
    assert (whole / shown["image"]).is_file() and shown["reference"].startswith("---")
    assert "Held-out page held/" in (whole / "report.html").read_text()


def test_the_best_checkpoint_is_chosen_by_the_transcriptions(whole):
    scores = {
        int(k): v for k, v in json.loads((whole / "checkpoints/scores.json").read_text()).items()
    }
    rows = rows_with(whole, "eval/edit_similarity")
    assert scores == {step: rows[step]["eval/held/edit_similarity"] for step in (5, 10)}
    # no checkpoint was due at step 5: it is there because it was the best by then
    assert CheckpointFolder(whole / "checkpoints").steps() == [5, 10]


def test_a_row_says_what_a_step_cost(whole):
    rows = rows_with(whole, "loss/sft")
    assert list(rows) == list(range(1, STEPS + 1))
    for row in rows.values():
        assert row["flops/step"] > 0 and row["throughput/learner_tokens_per_s"] > 0
        assert row["tokens/trained"] < row["tokens/packed"]
        assert row["time/data_wait"] >= 0
    assert {"eval/held/loss", "eval/loss"} <= set(rows_with(whole, "eval/loss")[STEPS])


@pytest.mark.slow
def test_a_run_that_goes_on_with_two_workers_equals_an_uninterrupted_one(
    whole, tiny_pages, tiny_model, tmp_path
):
    out = tmp_path / "cut"
    shutil.copytree(whole, out)
    for step in CheckpointFolder(out / "checkpoints").steps():
        if step > CUT:  # as a kill after that step leaves it
            shutil.rmtree(out / "checkpoints" / f"step-{step}")
    run(
        "olmrl.sft",
        *overrides(tiny_pages, tiny_model, out, STEPS),
        "learner.workers=2",
        flags=["--resume", "auto", "--allow-config-change"],
    )
    assert read_rows(out / "steps.jsonl") == read_rows(whole / "steps.jsonl")
    expected, found = rows_with(whole, "loss/sft"), rows_with(out, "loss/sft")
    assert list(found) == list(expected)
    assert all(
        found[step]["time/learner"] != row["time/learner"]
        for step, row in expected.items()
        if step > CUT
    )
    for step, row in expected.items():
        for name in ("loss/sft", "policy/grad_norm", "policy/lr", "tokens/packed", "data/epoch"):
            assert found[step][name] == pytest.approx(row[name], rel=1e-4), (step, name)
    last = rows_with(out, "eval/loss")[STEPS]["eval/loss"]
    assert last == pytest.approx(rows_with(whole, "eval/loss")[STEPS]["eval/loss"], rel=1e-4)


def refused(*arguments, **keywords):
    done = subprocess.run(
        command("olmrl.sft", *arguments, **keywords),
        capture_output=True, text=True, timeout=600, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode != 0 and "Traceback" not in done.stderr
    return done.stderr


def test_a_directory_that_holds_a_run_is_left_alone(whole, tiny_pages, tiny_model):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.json*")}
    message = refused(*overrides(tiny_pages, tiny_model, whole, STEPS))
    assert "holds a run already" in message and "--resume auto" in message
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*.json*")} == before


def test_a_dry_run_counts_pages_without_starting_anything(whole, tiny_pages, tiny_model, tmp_path):
    shared = f"data.cache_dir={whole.parent}"
    arguments = [*overrides(tiny_pages, tiny_model, whole, STEPS), shared]
    empty = tmp_path / "empty"
    empty.mkdir()
    more = f"data.train=[{{root: {tiny_pages / 'sft'}, limit: 9, repeat: 2}}, {{root: {empty}}}]"
    known = run("olmrl.sft", *arguments, flags=["--dry-run"])
    assert "training    sft                  24\n" in known
    assert "24 training pages an epoch, 10 steps" in known
    limited = run("olmrl.sft", *arguments, more, f"run.dir={tmp_path / 'x'}", flags=["--dry-run"])
    assert "sft                  18" in limited and "no page pair" in limited
    new = run("olmrl.sft", *arguments, f"data.cache_dir={tmp_path}", flags=["--dry-run"])
    assert "24 (24 of its pairs not validated yet)" in new


@pytest.mark.slow
def test_a_run_whose_filters_drop_every_page_says_which(tiny_pages, tiny_model, tmp_path):
    arguments = overrides(tiny_pages, tiny_model, tmp_path / "run", 2)
    message = refused(*arguments, "data.max_tokens=10", "evaluation={}", "data.evaluation=[]")
    assert "no page is left to train on: 0 of 24 pages kept" in message
    assert "24 dropped by Tokenizer: more than 10 tokens" in message
