"""What a run directory holds, as the templates show it: the report and the page that follows a run.

RunView --(pure)--> plain data --> templates/run_parts.html --> report.html, or parts of a page
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from olmrl.markup import front_matter
from olmrl.metrics import read_rows
from olmrl.report import charts
from olmrl.report.answer import Answer, answer, plain, signed
from olmrl.report.differences import Piece, differences
from olmrl.report.follow import GROUPS, RunView
from olmrl.report.groups import (
    ORDERS,
    GroupFile,
    JudgedTest,
    chosen,
    judged_tests,
    ranked,
    selected,
)
from olmrl.report.html import TEMPLATES, environment
from olmrl.report.waits import Waits, waits
from olmrl.types import PolicyVersion

_LISTED = 200
_TESTS = 60
"""Tests of a group shown, those that most completions fail first."""
PAGES, MOMENTS = 4, 8
"""Held-out pages, and evaluations of each, in a report that has no server behind it."""
CARDS, COMPLETIONS = 3, 6
"""Groups of each order, and completions of a group, likewise."""

Picture = Callable[[RunView, str], str | None]
"""Address of a page's picture, from the run and the path in its directory."""


@dataclass(frozen=True, slots=True)
class RunShown:
    """A run, for the parts that show all of a run."""

    name: str
    status: str
    answer: Answer
    waits: Waits | None
    lists: tuple[tuple[str, tuple[str, ...], list[tuple[str, ...]], int], ...]
    """Title, header, rows, rows left out."""
    config_text: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A transcription beside what it should be."""

    title: str
    facts: tuple[tuple[str, str], ...]
    pieces: tuple[Piece, ...]
    checks: tuple[Mapping[str, Any], ...] = ()

    @property
    def failed(self) -> int:
        """Tests that it failed."""
        return sum(not check["passed"] for check in self.checks)


@dataclass(frozen=True, slots=True)
class Panel:
    """A held-out page as a run read it at one step."""

    step: int
    transcripts: tuple[Shown, ...]
    against: str


@dataclass(frozen=True, slots=True)
class GroupShown:
    """A prompt group with its completions side by side."""

    image: str | None
    truth: str | None
    against: str
    numbers: tuple[int, ...]
    tests: tuple[JudgedTest, ...]
    more_tests: int
    transcripts: tuple[Shown, ...]
    left_out: int


def run_shown(view: RunView, *, live: bool = True) -> RunShown:
    """A run as a whole; what it is doing now if `live`, else only what it has done."""
    columns = view.metrics.columns
    return RunShown(
        view.name,
        view.status() if live else view.record(),
        answer(view.evaluations, columns),
        waits(columns, view.config),
        tuple(_lists(view)),
        view.config_text,
    )


def sections(views: Sequence[RunView]) -> list[tuple[str, list[charts.Chart]]]:
    """Title and charts of every section of curves that has any."""
    columns = {view.name: view.metrics.columns for view in views}
    found = [(title, charts.charts(title, columns)) for title in charts.CHARTS]
    return [(title, drawn) for title, drawn in found if drawn]


def panel(view: RunView, page_id: str, step: int) -> tuple[Panel, Mapping[str, Any] | None]:
    """A held-out page as the run read it at a step or last before, and its row of the evaluation.

    Args:
        view: the run.
        page_id: the page.
        step: steps in the weights.
    """
    for evaluation in reversed([one for one in view.evaluations if one["step"] <= step]):
        page = next((p for p in evaluation.get("pages", ()) if p["page_id"] == page_id), None)
        if page is not None:
            shown = tuple(
                _shown(mode if len(rows) == 1 else f"{mode}, first of {len(rows)}", rows[0], page)
                for mode, rows in page["rollouts"].items()
                if rows
            )
            return Panel(evaluation["step"], shown, "truth"), page
    return Panel(step, (), "truth"), None


def heldout_pages(views: Sequence[RunView]) -> list[str]:
    """Ids of the held-out pages whose transcriptions are kept."""
    rows = (page for view in views for one in view.evaluations for page in one.get("pages", ()))
    return list(dict.fromkeys(page["page_id"] for page in rows))


def heldout_steps(views: Sequence[RunView]) -> list[int]:
    """Steps with transcriptions of held-out pages, of any of the runs."""
    return sorted({one["step"] for view in views for one in view.evaluations if one.get("pages")})


def group_shown(group: Mapping[str, Any], image: str | None, most: int | None = None) -> GroupShown:
    """A recorded group, its completions in order of reward.

    Args:
        group: as in `rollouts/`.
        image: address of the page's picture.
        most: completions shown at most; the best and the worst stay.
    """
    order = ranked(group["rollouts"])
    left_out = max(0, len(order) - most) if most else 0
    if left_out:
        assert most is not None
        order = [*order[: most - most // 2], *order[-(most // 2) :]]
    truth = group["reference"]
    best = order[0][1]["text"] if order else ""
    totals = [row["total"] for _, row in order if row["total"] is not None]
    mean = sum(totals) / len(totals) if totals else 0.0
    rows = judged_tests([row for _, row in order])
    shown = []
    for number, row in order:
        facts = list(_facts(row))
        if row["total"] is not None:
            facts.insert(1, ("advantage", f"{row['total'] - mean:+.2f}"))
        wanted = best if truth is None else truth
        pieces = tuple(_beside(wanted, row["text"]))
        shown.append(Shown(f"#{number}", tuple(facts), pieces))
    return GroupShown(
        image,
        truth,
        "best completion" if truth is None else "truth",
        tuple(number for number, _ in order),
        tuple(rows[:_TESTS]),
        max(0, len(rows) - _TESTS),
        tuple(shown),
        left_out,
    )


def group_line(group: GroupFile, number: int, run: str | None) -> dict[str, Any]:
    """A recorded group in a line; with its run, if there are several."""
    return asdict(group) | {"number": number, "run": run, "failed": group.failed}


def merged(lines: Sequence[dict[str, Any]], order: str) -> list[dict[str, Any]]:
    """Lines of several runs, each in an order of `ORDERS`, as one list in that order."""
    places: dict[str, Callable[[dict[str, Any]], float]] = {
        "worst": lambda line: line["passed"],
        "advantage": lambda line: -line["advantage"],
        "stale": lambda line: -line["staleness"],
    }
    return sorted(lines, key=places.get(order, lambda line: -line["step"]))


def document(views: Sequence[RunView], picture: Picture | None) -> str:
    """A whole document.

    Args:
        views: runs, updated.
        picture: gives pictures to a report that needs no server; None makes the page that a server
            fills.
    """
    runs = [run_shown(view, live=picture is None) for view in views]
    style = (TEMPLATES / "run.css").read_text("utf-8")
    values: dict[str, Any] = {
        "live": picture is None,
        "title": "olmrl: " + " and ".join(view.name for view in views),
        "runs": runs,
        "sections": sections(views),
        "recorded": recorded(views),
        "orders": ORDERS,
    }
    if picture is not None:
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        values |= {
            "style": style,
            "policy": f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
            "base-uri 'none'; form-action 'none'",
            "sheets": list(_sheets(views, picture)),
            "cards": list(_cards(views, picture)),
            "empty_orders": empty_orders(views),
        }
    return environment.get_template("run.html").render(values)


def empty_orders(views: Sequence[RunView]) -> set[str]:
    """Orders that no group has a place in."""
    return {order for order in ORDERS if not any(chosen(view.groups, order) for view in views)}


def part(name: str, *arguments: Any) -> str:
    """A part of the page by the name of its macro."""
    module = environment.get_template("run_parts.html").module
    return str(getattr(module, name)(*arguments))


def recorded(views: Sequence[RunView]) -> str:
    """How many groups were recorded, and how many of them are looked at."""
    total = sum(view.recorded_groups for view in views)
    if not total:
        return "No prompt group has been recorded (only GRPO has them)."
    newest = f", of which the newest {GROUPS} of a run are looked at" if total > GROUPS else ""
    were = "was" if total == 1 else "were"
    return (
        f"{_counted(total, 'group')} {were} recorded before anything was dropped{newest}. "
        "advantage: largest distance of a reward from the group's mean."
    )


def _shown(title: str, row: Mapping[str, Any], page: Mapping[str, Any]) -> Shown:
    truth = page["reference"]
    pieces = [Piece("same", row["text"])] if truth is None else _beside(truth, row["text"])
    return Shown(title, tuple(_facts(row)), tuple(pieces), tuple(row["verdicts"]))


def _beside(truth: str, text: str) -> list[Piece]:
    """The differences; front matter is none where the truth is plain markdown."""
    body = front_matter.strip(text)
    if body == text or not front_matter.is_plain(truth):
        return differences(truth, text)
    begins = text.rfind(body)
    return [Piece("same", text[:begins]), *differences(truth, text[begins:])]


def _facts(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if row["total"] is not None:
        yield "reward", f"{row['total']:.3f}"
    for name, value in row["rewards"].items():
        yield name, "failed" if value is None else f"{value:.3f}"
    for name, error in row["errors"].items():
        yield f"{name} failed", error
    yield "tokens", str(row["tokens"])
    yield "ended by", row["finish_reason"]
    yield "weights of step", str(PolicyVersion.parse(row["version"]).step)


def _lists(view: RunView) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]], int]]:
    found = view.directory.pages_found()
    beside: list[tuple[str, ...]] = [
        (kind, path) for kind, paths in found.items() if isinstance(paths, list) for path in paths
    ]
    counts: list[tuple[str, ...]] = [
        (kind, str(len(value) if isinstance(value, list) else value))
        for kind, value in found.items()
    ]
    if counts:
        yield "Pages found", ("what became of them", "count"), counts, 0
    if beside:
        title = f"Files that are no pages ({len(beside)})"
        yield title, ("why", "file"), beside[:_LISTED], max(0, len(beside) - _LISTED)
    bad = [(str(r.get("page_id")), str(r.get("reason"))) for r in view.directory.bad_pages()]
    if bad:
        title = f"Bad pages ({len(bad)})"
        yield title, ("page", "reason"), list(bad[:_LISTED]), max(0, len(bad) - _LISTED)
    path = view.directory.path / "dropped_groups.jsonl"
    rows = read_rows(path) if path.exists() else []
    lost = [tuple(str(r.get(k)) for k in ("group_id", "reason", "detail")) for r in rows]
    if lost:
        title = f"Groups that could not be generated or scored ({len(lost)})"
        header = ("group", "reason", "detail")
        yield title, header, lost[-_LISTED:], max(0, len(lost) - _LISTED)


def _sheets(views: Sequence[RunView], picture: Picture) -> Iterator[dict[str, Any]]:
    """Held-out pages with their readings at some of the steps."""
    steps = _spread(heldout_steps(views), MOMENTS)
    for number, page_id in enumerate(heldout_pages(views)[:PAGES]):
        sheet: dict[str, Any] = {"page_id": page_id, "image": None, "truth": None, "columns": []}
        for place, view in enumerate(views):
            panels = {}
            for step in steps:
                shown, page = panel(view, page_id, step)
                panels[shown.step] = shown
                if page is not None and sheet["image"] is None:
                    sheet |= {"image": picture(view, page["image"]), "truth": page["reference"]}
            column = {"id": f"h{number}-{place}", "run": view.name, "panels": panels.values()}
            sheet["columns"].append(column)
        yield sheet


def _cards(views: Sequence[RunView], picture: Picture) -> Iterator[dict[str, Any]]:
    """The first groups of every order, the newest first."""
    for number, view in enumerate(views):
        orders = selected(view.groups, CARDS)
        for group in view.groups:
            value = view.group(group.name) if group.name in orders else None
            if value is not None:
                image = picture(view, value["image"])
                yield {
                    "line": group_line(group, number, view.name if len(views) > 1 else None),
                    "orders": " ".join(orders[group.name]),
                    "group": group_shown(value, image, COMPLETIONS),
                }


def _spread(steps: Sequence[int], most: int) -> list[int]:
    """At most so many, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(k * (len(steps) - 1) / (most - 1))] for k in range(most)]


def _marked(text: str) -> str:
    """Text in which a line end can be seen, as it may be all that differs."""
    return text.replace("\n", "↵\n")


def _counted(count: int, noun: str) -> str:
    """`1 test`, `2 tests`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


environment.globals |= {"width": charts.WIDTH, "height": charts.HEIGHT}
environment.filters |= {"plain": plain, "signed": signed, "marked": _marked, "counted": _counted}
