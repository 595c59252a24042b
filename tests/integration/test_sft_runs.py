"""Whole SFT runs: transcriptions scored on the way, more workers in the middle, refusals."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from running import ROOT, RUN_CPUS, command, here, run, sft_overrides, words_of

from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.metrics import read_rows

STEPS, CUT = 10, 5
"""Of 6 steps an epoch, so that the cut lies in the middle of one."""


def settings(pages, model, out, root=None, steps=STEPS):
    """A run that transcribes and scores pages at steps 0, 5 and 10 and chooses its best by them."""
    generate = f"{{pages: 3, every: 5, max_tokens: 24, batch_pages: 2, bench: {pages / 'heldout'}}}"
    return [
        *sft_overrides(pages, model, out, root),
        f"run.steps={steps}",
        "training.pages_per_step=4",
        "checkpoint.every=0",
        "learner.optimizer.schedule=linear",
        f"evaluation={{every: 5, generate: {generate}, best_metric: eval/held/edit_similarity}}",
    ]


@pytest.fixture(scope="module")
def sft_run(tiny_pages, tiny_model, tmp_path_factory, ray_head, ray_job):
    """Ten steps on two workers over 24 pages and a broken one, transcriptions on the way."""
    runs = tmp_path_factory.mktemp("runs")
    root = runs / "pages" / "sft"
    root.mkdir(parents=True)
    for path in (tiny_pages / "sft").rglob("*"):
        if path.is_file():
            (root / path.name).symlink_to(path)
    (root / "broken.pdf").write_bytes(b"not a pdf")
    (root / "broken.md").write_text("---\n---\n")
    out = runs / "whole"
    overrides = [*settings(tiny_pages, tiny_model, out, root), "learner.workers=2"]
    with ray_job(cpus=RUN_CPUS):
        run("olmrl.sft", *overrides, head=ray_head)
    return out


def rows_with(out, name):
    return {row["step"]: row for row in read_rows(out / "metrics.jsonl") if name in row}


def test_sft_learns_and_counts_its_pages(sft_run):
    rows = read_rows(sft_run / "metrics.jsonl")
    losses = [r["eval/held/loss"] for r in rows if "eval/held/loss" in r]
    assert losses[-1] < losses[0] - 1.0, losses
    assert [r["step"] for r in rows if "loss/sft" in r] == list(range(1, STEPS + 1))
    bad = [json.loads(line) for line in (sft_run / "bad_pages.jsonl").read_text().splitlines()]
    assert [Path(row["path"]).name for row in bad] == ["broken.pdf"]
    assert (sft_run / "model" / "config.json").is_file()


def test_a_sample_of_pages_is_transcribed_and_scored(sft_run):
    rows = rows_with(sft_run, "eval/edit_similarity")
    assert list(rows) == [0, 5, 10]
    for row in rows.values():
        assert row["eval/pass_rate"] == row["eval/heldout/pass_rate"]
        both = row["eval/held/edit_similarity"] + row["eval/heldout/edit_similarity"]
        assert row["eval/edit_similarity"] == pytest.approx(both / 2)
    first, last = (rows[step]["eval/held/edit_similarity"] for step in (0, 10))
    assert last > first
    records = [json.loads(p.read_text()) for p in sorted((sft_run / "evaluations").iterdir())]
    assert [record["step"] for record in records] == [0, 5, 10]
    shown = records[-1]["pages"][0]
    assert (sft_run / shown["image"]).is_file() and shown["reference"].startswith("---")
    assert "Held-out page held/" in (sft_run / "report.html").read_text()


def test_the_best_checkpoint_is_chosen_by_the_transcriptions(sft_run):
    scores = {
        int(k): v for k, v in json.loads((sft_run / "checkpoints/scores.json").read_text()).items()
    }
    rows = rows_with(sft_run, "eval/edit_similarity")
    assert scores == {step: rows[step]["eval/held/edit_similarity"] for step in (5, 10)}
    # no checkpoint was due at step 5: it is there because it was the best by then
    assert CheckpointFolder(sft_run / "checkpoints").steps() == [5, 10]


def test_a_row_says_what_a_step_cost(sft_run):
    rows = rows_with(sft_run, "loss/sft")
    assert list(rows) == list(range(1, STEPS + 1))
    for row in rows.values():
        assert row["flops/step"] > 0 and row["throughput/learner_tokens_per_s"] > 0
        assert row["tokens/trained"] < row["tokens/packed"]
        assert row["time/data_wait"] >= 0
        assert row["data/image_calls_per_page"] == 1.0
        assert 0 < row["data/page_bytes"] < 4 * 168**2
    assert {"eval/held/loss", "eval/loss"} <= set(rows_with(sft_run, "eval/loss")[STEPS])


@pytest.mark.slow
def test_a_run_that_goes_on_with_two_workers_equals_an_uninterrupted_one(
    tiny_pages, tiny_model, tmp_path
):
    whole, out = tmp_path / "whole", tmp_path / "cut"
    run("olmrl.sft", *settings(tiny_pages, tiny_model, whole))
    shutil.copytree(whole, out)
    for step in CheckpointFolder(out / "checkpoints").steps():
        if step > CUT:  # as a kill after that step leaves it
            shutil.rmtree(out / "checkpoints" / f"step-{step}")
    run(
        "olmrl.sft",
        *settings(tiny_pages, tiny_model, out),
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


def refused(overrides):
    code, _, errors = here("olmrl.sft", *words_of(overrides))
    assert code != 0 and "Traceback" not in errors
    return errors


def test_a_directory_that_holds_a_run_is_left_alone(sft_run, tiny_pages, tiny_model):
    before = {path: path.stat().st_mtime_ns for path in sft_run.rglob("*.json*")}
    message = refused(settings(tiny_pages, tiny_model, sft_run))
    assert "holds a run already" in message and "--resume auto" in message
    assert {path: path.stat().st_mtime_ns for path in sft_run.rglob("*.json*")} == before


def dry(*overrides, wrong=""):
    code, output, errors = here("olmrl.sft", *words_of(overrides, flags=["--dry-run"]))
    assert code == (2 if wrong else 0), errors
    assert wrong in errors
    return output


def test_a_dry_run_counts_pages_without_starting_anything(
    sft_run, tiny_pages, tiny_model, tmp_path
):
    root = sft_run.parent / "pages" / "sft"
    shared = f"data.cache_dir={sft_run.parent}"
    arguments = [*settings(tiny_pages, tiny_model, sft_run, root), shared]
    empty = tmp_path / "empty"
    empty.mkdir()
    more = f"data.train=[{{root: {tiny_pages / 'sft'}, limit: 9, repeat: 2}}, {{root: {empty}}}]"
    known = dry(*arguments)
    assert "training    sft                  24 (1 bad pages left out)\n" in known
    assert "24 training pages an epoch, 10 steps" in known
    limited = dry(*arguments, more, f"run.dir={tmp_path / 'x'}", wrong="no page pair X.pdf")
    assert "sft                  18" in limited and "no page pair" in limited
    new = dry(*arguments, f"data.cache_dir={tmp_path}")
    assert "25 (25 pairs not validated yet)" in new


@pytest.mark.slow
def test_a_run_whose_filters_drop_every_page_says_which(tiny_pages, tiny_model, tmp_path):
    arguments = settings(tiny_pages, tiny_model, tmp_path / "run", steps=2)
    dropping = ["data.max_tokens=10", "evaluation={}", "data.evaluation=[]"]
    done = subprocess.run(
        command("olmrl.sft", *arguments, *dropping),
        capture_output=True, text=True, timeout=600, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "no page is left to train on: 0 of 24 pages kept" in done.stderr
    assert "24 dropped by Tokenizer: more than 10 tokens" in done.stderr
