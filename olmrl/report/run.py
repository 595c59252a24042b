"""report.html of a run directory: what improved, curves, and sampled pages before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olmrl import storage
from olmrl.metrics import read_rows
from olmrl.report.html import Curves, PageCard, Section, Table, Text, Transcription, page, picture
from olmrl.run.directory import RunDirectory

_CHARTS = {
    "reward": ("reward/mean", "reward/bench/mean", "reward/std"),
    "held-out pass rate": ("eval/greedy/pass_rate", "eval/sampled/pass_rate", "eval/pass_rate"),
    "held-out reading": ("eval/edit_similarity", "eval/reading"),
    "loss": ("loss/policy", "loss/sft", "eval/loss"),
    "completion length": ("completion/mean_length", "completion/max_length"),
    "entropy": ("policy/entropy",),
    "gradient norm": ("policy/grad_norm",),
    "learning rate": ("policy/lr",),
    "log-prob mismatch": ("mismatch/logprob_mean_abs",),
    "zero-variance groups": ("reward/frac_zero_std",),
    "staleness": ("policy/staleness_mean", "policy/staleness_max"),
    "seconds per step": ("time/step", "time/lease_wait", "time/learner", "time/weight_sync"),
    "model FLOP/s utilisation": ("throughput/mfu",),
    "tokens per second": ("throughput/completion_tokens_per_s", "throughput/learner_tokens_per_s"),
}
_SAMPLES = 4


def write(directory: RunDirectory) -> Path:
    """Render the report of a run and write it atomically; returns its path."""
    rows = read_rows(directory.metrics) if directory.metrics.exists() else []
    evaluations = directory.evaluations()
    sections: list[Section] = []
    if evaluations:
        sections.append(improvement(evaluations))
    sections += [curves({"": rows}), *page_samples(directory, evaluations)]
    sections += group_samples(directory)
    sections.append(bad_pages(directory))
    config = (directory.path / "config.yaml").read_text("utf-8")
    sections.append(PageCard("Configuration", None, None, (Transcription("config.yaml", config),)))
    steps = rows[-1]["step"] if rows else 0
    html = page(f"olmrl run {directory.path.name}", f"{steps} steps, {directory.path}", sections)
    storage.write_html(directory.report, html)
    return directory.report


def improvement(evaluations: Sequence[Mapping[str, Any]]) -> Table:
    """Every held-out figure before and after."""
    first, last = evaluations[0]["scores"], evaluations[-1]["scores"]
    rows = tuple(
        (name, float(first[name]), float(last[name]), f"{last[name] - first[name]:+.3f}")
        for name in sorted(first, key=_prominence)
        if name in last
    )
    header = ("held-out figure", f"step {evaluations[0]['step']}",
              f"step {evaluations[-1]['step']}", "change")  # fmt: skip
    note = (
        "pass_rate: share of unit tests passed; type/*: the same per test type; reading: "
        "similarity of the words alone, regardless of layout; ..._error: standard error, pages as "
        "the sample. One half of the pages (selection) chooses the best checkpoint, and the other "
        "(reported) reports it."
    )
    return Table("Before and after", header, rows, note)


def _prominence(name: str) -> tuple[bool, bool, str]:
    """Pass rates come first, parts of a figure (`greedy/type/table`) after whole ones."""
    return not name.endswith("pass_rate"), name.count("/") > 1, name


def curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Curves:
    """The charts of one run, or of several runs overlaid."""
    charts: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for title, names in _CHARTS.items():
        for label, rows in runs.items():
            for name in names:
                points = [(r["step"], r[name]) for r in rows if r.get(name) is not None]
                if points:
                    series = f"{label} {name}".strip()
                    x, y = (list(axis) for axis in zip(*points, strict=True))
                    charts.setdefault(title, {})[series] = (x, y)
    return Curves("Curves", charts)


def page_samples(
    directory: RunDirectory, evaluations: Sequence[Mapping[str, Any]]
) -> list[PageCard]:
    """Held-out pages with their transcriptions before and after."""
    if not evaluations:
        return []
    first, last = evaluations[0], evaluations[-1]
    after = {p["page_id"]: p for p in last.get("pages", [])}
    samples = []
    for before in first.get("pages", [])[:_SAMPLES]:
        later = after.get(before["page_id"])
        moments = [(f"step {first['step']}", before)]
        if later and last["step"] != first["step"]:
            moments.append((f"step {last['step']}", later))
        transcripts = tuple(
            transcript(f"{mode}, {when}", row)
            for mode in ("greedy", "sampled")
            for when, entry in moments
            for row in entry["rollouts"].get(mode, [])[:1]
        )
        samples.append(
            PageCard(
                f"Held-out page {before['page_id']}",
                picture(directory.path / before["image"]),
                before["reference"],
                transcripts,
            )
        )
    return samples


def group_samples(directory: RunDirectory) -> list[PageCard]:
    """One training group near the start and one near the end, with all completions."""
    files = directory.rollout_files()
    chosen = dict.fromkeys([files[0], files[-1]]) if files else {}
    samples = []
    for file in chosen:
        group = json.loads(file.read_text("utf-8"))
        title = f"Prompt group at step {group['step']} ({group['fate']}): {group['page_id']}"
        transcripts = tuple(
            transcript(f"completion {i}", row) for i, row in enumerate(group["rollouts"])
        )
        image = picture(directory.path / group["image"])
        samples.append(PageCard(title, image, group["reference"], transcripts))
    return samples


def transcript(title: str, row: Mapping[str, Any]) -> Transcription:
    """One recorded rollout for display."""
    facts = [(name, "failed" if v is None else f"{v:.3f}") for name, v in row["rewards"].items()]
    facts += [("tokens", str(row["tokens"])), ("ended by", row["finish_reason"])]
    checks = tuple(
        (v["passed"], f"{v['type']} {v['id']}", v["explanation"]) for v in row["verdicts"]
    )
    return Transcription(title, row["text"], tuple(facts), checks)


def bad_pages(directory: RunDirectory) -> Section:
    """Pages that could not be used."""
    rows = directory.bad_pages()
    if not rows:
        return Text("Bad pages", ("None.",))
    cells = tuple((r["page_id"], r["reason"]) for r in rows[:200])
    return Table(f"Bad pages ({len(rows)})", ("page", "reason"), cells)


def compare(directories: Sequence[RunDirectory]) -> str:
    """One HTML page with the curves of several runs overlaid."""
    runs = {d.path.name: read_rows(d.metrics) for d in directories}
    tables: list[Section] = [
        Table(f"{d.path.name}: before and after", t.header, t.rows, t.note)
        for d in directories
        if d.evaluations()
        for t in [improvement(d.evaluations())]
    ]
    return page("olmrl runs", ", ".join(runs), [curves(runs), *tables])
