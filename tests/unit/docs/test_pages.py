"""What the pages of the documentation say exists: keys, metrics, files, examples, notebooks."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path

import pytest
import yaml

from olmrl.config import ConfigError, GrpoConfig, SftConfig, load
from olmrl.config.explain import SCHEMAS, keys
from olmrl.metric_catalogue import METRICS, find
from olmrl.rewards import score

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in PAGES}
TEXTS["README.ko.md"] = (ROOT / "README.ko.md").read_text("utf-8")
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def plain(name: str) -> str:
    return name.replace("[]", "")


KEYS = {plain(key.name) for schema in SCHEMAS.values() for key in keys(schema)}
SECTIONS = {name.split(".")[0] for name in KEYS}
SPANS = [
    (page, span)
    for page, text in TEXTS.items()
    for span in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
]


def test_every_key_that_a_page_names_exists():
    named = [
        (page, found[1])
        for page, span in SPANS
        if (found := re.match(r"((?:[a-z_]+(?:\[\])?\.)+[a-z_]+)(?=$|[=:])", span))
        and found[1].split(".")[0].removesuffix("[]") in SECTIONS
        and not re.search(r"\.(?:py|md|yaml|jsonl|json|txt|safetensors|page|steps)$", found[1])
    ]
    assert len(named) > 100
    assert [(page, key) for page, key in named if plain(key) not in KEYS] == []


def test_every_metric_that_a_page_names_exists():
    rooms = {metric.name.split("/")[0] for metric in METRICS}
    named = [
        (page, span)
        for page, span in SPANS
        if re.fullmatch(r"[a-z]+(?:/[\w:<>]+)+", span) and span.split("/")[0] in rooms
    ]
    assert len(named) > 40
    folders = {"data/quickstart"}
    unknown = [(page, span) for page, span in named if find(span) is None and span not in folders]
    assert unknown == []


BLOCKS = [
    (page, block)
    for page, text in TEXTS.items()
    for block in re.findall(r"^ *```yaml\n(.*?)```", text, flags=re.S | re.M)
]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_configuration_in_a_page_is_one_that_a_run_takes(page, block, tmp_path):
    values = yaml.safe_load(block)
    file = tmp_path / "c.yaml"
    file.write_text(block)
    problems = []
    for schema, train in ((GrpoConfig, "data.train=d"), (SftConfig, "data.train=[{root: d}]")):
        given = [] if "train" in values.get("data", {}) else [train]
        try:
            load(schema, file, ["model.path=m", *given])
        except ConfigError as error:
            problems.append(str(error))
    assert len(problems) < 2, problems


def test_every_page_is_in_the_navigation_once():
    nav = re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8").split("\nnav:")[1])
    assert sorted(nav) == sorted(path.relative_to(DOCS).as_posix() for path in PAGES)


def test_every_generated_part_is_closed_and_can_be_made():
    for page, text in TEXTS.items():
        assert text.count("<!-- generated: ") == text.count("<!-- end -->"), page
        for what, argument in re.findall(r"<!-- generated: (\S+)(?: (\S+))? -->", text):
            assert what in ("config", "commands", "metrics", "file", "notebook", "status")
            assert not argument or (ROOT / argument).is_file(), (page, argument)


# -- the guide to rewards of one's own


@pytest.fixture
def reward_page(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", TEXTS["docs/guides/own_reward.md"], flags=re.S)
    (tmp_path / "number_reward.py").write_text(blocks[0])
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return blocks


def test_the_reward_of_the_guide_pays_what_it_says(reward_page):
    call, _, shown = reward_page[1].strip().rpartition("#")
    space: dict = {}
    tree = ast.parse(call)
    exec(compile(ast.Module(tree.body[:-1], []), "guide", "exec"), space)
    value = eval(compile(ast.Expression(tree.body[-1].value), "guide", "eval"), space)
    assert value == pytest.approx(ast.literal_eval(shown.strip()))


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ("<!-- 1200 2024 --> nothing", {}, 0.0),  # hidden numbers earn nothing
        ("---\nis_table: False\n---\n1200 and 2024", {}, 1.0),
        ("Sales 1,200 in 2023", {"strictness": 2.0}, 0.25),
    ],
)
def test_the_reward_of_the_guide_on_other_texts(reward_page, text, options, value):
    found = score(
        "number_reward:Numbers", [text], references=["Sales 1200 in 2024"], options=options
    )
    assert found == [pytest.approx(value)]


# -- notebooks


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_a_notebook_that_was_run_or_is_empty(path):
    notebook = json.loads(path.read_text("utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 4
    for cell in code:
        ast.parse("".join(cell["source"]))
        assert all(output["output_type"] == "stream" for output in cell["outputs"])


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_of_a_notebook_runs(path, capsys):
    space: dict = {"__name__": "__main__"}
    shown, printed = [], []
    for number, cell in enumerate(json.loads(path.read_text("utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), space)
            printed.append(capsys.readouterr().out)
            shown.append("".join(line for o in cell["outputs"] for line in o["text"]))
    if path.stem == "scoring":  # nothing in it depends on the machine
        assert [text.rstrip() for text in printed] == [text.rstrip() for text in shown]
    else:
        assert 0 < space["before"] < 1
        assert 0 < space["after"] < 1
        assert space["gap"] < 1e-4  # engine and learner agree: weights arrived, ids are the same
