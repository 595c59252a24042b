"""The Grafana dashboard shows metrics that exist: olmrl's own, and Ray's."""

import ast
import json
import re
from pathlib import Path

import pytest
from ray.dashboard.modules.metrics.dashboards import default_dashboard_panels

from olmrl.metrics import gauge_name

OWN = "ray_olmrl_"


@pytest.fixture(scope="module")
def dashboard(launch):
    return json.loads((launch / "grafana" / "olmrl.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def expressions(dashboard):
    return [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", [])]


@pytest.fixture(scope="module")
def names(expressions):
    """Every metric of every expression; a pattern stands for itself."""
    return {name for text in expressions for name in re.findall(r"\bray_[a-z_]+(?:\.\+)?", text)}


@pytest.fixture(scope="module")
def key_shapes(launch):
    """Regular expressions of the gauges that the code of olmrl can produce.

    A metric is a string with a slash, or an f-string: there a variable part may be any string that
    the code spells out (`f"time/{name}"`, and "optim" somewhere).
    """
    constants, shapes = set(), set()
    for path in (launch.parent / "olmrl").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        strings = [n for n in ast.walk(tree) if isinstance(n, ast.Constant)]
        constants |= {n.value for n in strings if isinstance(n.value, str)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else None for v in node.values]
                if parts and isinstance(parts[0], str) and re.fullmatch(r"[a-z]+/", parts[0]):
                    shapes.add(tuple(parts))
    words = {gauge_name(word).removeprefix("olmrl_") for word in constants if len(word) < 60}
    words -= {""}
    exact = {word for word in constants if re.fullmatch(r"[a-z_]+(/[a-z_]+)+", word)}
    return words, {gauge_name(key) for key in exact}, shapes


def produced(name, key_shapes):
    """Whether a gauge is one that some metric of olmrl is given."""
    words, exact, shapes = key_shapes
    if name in exact:
        return True
    for parts in shapes:
        pieces = ["(.+)" if p is None else re.escape(gauge_name(p)[len("olmrl_") :]) for p in parts]
        match = re.fullmatch("olmrl_" + "".join(pieces), name)
        if match and all(word in words for word in match.groups()):
            return True
    return False


def test_every_own_metric_of_the_dashboard_is_written_by_a_run(names, key_shapes):
    own = {n.removeprefix("ray_").removesuffix("_total") for n in names if n.startswith(OWN)}
    assert len(own) > 30
    missing = [
        n for n in own if n != "olmrl_step" and ".+" not in n and not produced(n, key_shapes)
    ]
    assert not missing


def test_a_pattern_of_the_dashboard_finds_metrics(names):
    patterns = [name for name in names if ".+" in name]
    assert patterns
    for pattern in patterns:
        assert re.fullmatch(pattern, "ray_" + gauge_name("reward/bench/type/absent"))


def test_a_metric_that_no_run_writes_is_noticed(key_shapes):
    assert produced("olmrl_reward_mean", key_shapes)
    assert not produced("olmrl_reward_meen", key_shapes)
    assert not produced("olmrl_time_brewing_coffee", key_shapes)


def test_ray_has_the_machine_metrics(names):
    known = Path(default_dashboard_panels.__file__).read_text("utf-8")
    used = {n for n in names if not n.startswith(OWN)}
    assert len(used) >= 4
    assert all(re.search(rf"\b{name}\b", known) for name in used)


def test_panels_follow_the_chosen_run_and_source(dashboard, expressions):
    variables = {v["name"]: v for v in dashboard["templating"]["list"]}
    assert set(variables) == {"datasource", "run"}
    of_runs = [text for text in expressions if OWN in text and f"{OWN}engine_" not in text]
    assert all('run=~"$run"' in text for text in of_runs)
    sources = [t["datasource"] for p in dashboard["panels"] for t in p.get("targets", [])]
    assert all(source["uid"] == "${datasource}" for source in sources)


def test_panels_do_not_overlap_and_have_their_own_ids(dashboard):
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
