"""The reference pages are made from the product, and the figures from their script."""

import json
import re

import figures
import pytest
import reference

from olmrl.__main__ import COMMANDS, main
from olmrl.config.explain import SCHEMAS, keys
from olmrl.metric_catalogue import METRICS
from olmrl.mix.__main__ import VERBS

ROOT = reference.ROOT


@pytest.fixture(scope="module")
def commands():
    return reference.commands()


@pytest.fixture(scope="module")
def configuration():
    return reference.config_keys()


def rows(markdown):
    return [line for line in markdown.splitlines() if line.startswith("| `")]


def test_every_key_has_a_row_with_its_default_and_readers(configuration):
    leaves = {k.name for schema in SCHEMAS.values() for k in keys(schema) if k.inner is None}
    found = {re.match(r"\| `([^`]+)`", row)[1] for row in rows(configuration)}
    assert leaves <= found
    (rate,) = [row for row in rows(configuration) if row.startswith("| `learner.optimizer.lr`")]
    assert "default: `2e-06`" in rate
    assert "`learner/optim.py`" in rate
    assert "1000000000" not in configuration


def test_keys_of_one_command_alone_say_so(configuration):
    (staleness,) = [row for row in rows(configuration) if "`algorithm.max_staleness`" in row[:40]]
    assert "only grpo" in staleness
    assert "only" not in next(r for r in rows(configuration) if r.startswith("| `run.seed`"))


def test_every_command_and_verb_is_there(commands):
    headings = re.findall(r"^#+ (olmrl .+)$", commands, re.M)
    assert {f"olmrl {name}" for name in COMMANDS} <= set(headings)
    assert {f"olmrl mix {verb}" for verb in VERBS} <= set(headings)
    assert {"olmrl bench score", "olmrl synth tests", "olmrl checkpoint fp8"} <= set(headings)


def test_arguments_have_their_help_choices_and_defaults(commands):
    lines = commands.splitlines()
    assert "| `--resume` `never or auto` | auto: continue the newest" in commands
    (seed,) = [line for line in lines if line.startswith("| `--max-tests`")][:1]
    assert "(default: `40`)" in seed
    assert not any("--help" in line for line in lines)
    assert "%(" not in commands


def test_every_metric_has_a_row():
    found = [re.match(r"\| `([^`]+)`", row)[1] for row in rows(reference.metrics())]
    assert sorted(found) == sorted(metric.name for metric in METRICS)


def test_cells_cannot_break_their_table():
    text = reference.table(("a", "b"), [(reference._plain("x | y <b> *z* `p|q`"), "two\nlines")])
    (row,) = [line for line in text.splitlines() if line.startswith("| x")]
    cells = re.sub(r"`[^`]*`", "", row).split("|")
    assert len(cells) == 4
    assert "<b>" not in row
    assert "two lines" in row


def test_what_stands_between_the_marks_is_replaced():
    page = "a\n<!-- generated: status -->\nsee elsewhere\n<!-- end -->\nb"
    filled = reference.filled(page)
    assert "see elsewhere" not in filled
    assert filled.startswith("a\n") and filled.endswith("\nb")
    assert "| path | CPU test |" in filled
    with pytest.raises(ValueError, match="generated: poetry: allowed are config, commands"):
        reference.filled(page.replace("status", "poetry"))


def test_a_list_gets_the_empty_line_that_python_markdown_wants():
    page = "Text:\n- a\n- b\n  more\n- c\n\n```\nx\n- code\n```\n| t |\n- d\n1. e"
    assert reference.spaced(page) == page.replace("Text:\n", "Text:\n\n")
    assert reference.spaced("**Bold.** 3 things\n- a") == "**Bold.** 3 things\n\n- a"


def test_links_of_an_included_file_lead_where_they_led():
    text = reference.included("olmrl/mix/README.md")
    assert "](../formats.md#page-pairs)" in text
    assert not text.startswith("# ")


def test_a_notebook_becomes_text_code_and_what_it_printed(tmp_path, monkeypatch):
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Words."]},
        {
            "cell_type": "code",
            "source": ["print(1)"],
            "outputs": [{"output_type": "stream", "text": ["1\n"]}],
        },
    ]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    text = reference.notebook("n.ipynb")
    assert text == "Words.\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n"


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_figure_is_what_its_script_draws(name):
    drawn = figures.FIGURES[name]()
    problem = "run: python docs/hooks/figures.py"
    assert (figures.FOLDER / f"{name}.svg").read_text("utf-8") == drawn, problem


def test_the_picture_of_attention_is_the_rule_of_a_packed_batch():
    segments, prefixes = figures.row()
    for query, (mine, prefix) in enumerate(zip(segments, prefixes, strict=True)):
        seen = {key for key in range(len(segments)) if figures.sees(segments, prefixes, query, key)}
        own = {key for key in range(query + 1) if segments[key] == mine}
        prompt = {key for key in range(query + 1) if segments[key] == prefix}
        assert seen == own | prompt
    assert figures.packed_row().count("<rect") > len(segments) ** 2


def every_parser():
    """The parsers of all commands and of all their verbs."""
    doors = {command: [reference.parser_of(command)] for command in COMMANDS if command != "mix"}
    leaves = {command: parsers for command, _, parsers in reference.parsers()}
    return {c: [*doors.get(c, []), *leaves[c]] for c in COMMANDS}


def test_no_command_takes_a_shortened_option():
    loose = [p.prog for found in every_parser().values() for p in found if p.allow_abbrev]
    assert loose == []


@pytest.mark.parametrize(
    ("command", "words", "meant"),
    [
        ("grpo", ["--dry", "--config", "x.yaml"], "--dry-run"),
        ("read", ["x.pdf", "-o", "out", "--model", "m", "--base", "u"], "--base-url"),
        ("checkpoint", ["hf", "run", "out", "--bes"], "--best"),
        ("checkpoint", ["push", "run", "a/b", "--licens", "mit"], "--license"),
        ("synth", ["pages", "out", "--tra", "3"], "--train"),
        ("mix", ["stats", "pairs", "--output", "o", "--sam", "3"], "--samples"),
    ],
)
def test_a_shortened_option_is_refused_and_the_whole_one_named(command, words, meant, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, *words])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "unrecognized arguments: --" in error and f"; did you mean {meant}?" in error
