"""A sheet of pages to look at: picture, truth and tests; keys accept or reject a page.

Everything that comes from a page is escaped, and the sheet may neither load nor send anything.
"""

from __future__ import annotations

import html
import io
import json
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from olmrl.data.render import render_page

MOST_PAGES = 200
SIDE = 1000
_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:0;color:#222;background:#f3f3f3}
header{position:sticky;top:0;background:#fff;padding:.6em 1em;border-bottom:1px solid #ccc}
article{display:grid;grid-template-columns:minmax(0,5fr) minmax(0,4fr) minmax(0,3fr);gap:1em;
margin:1em;padding:1em;background:#fff;border:2px solid #ddd}
article.here{border-color:#36c}article.accept{background:#f0faf0}article.reject{background:#fbeeee}
img{width:100%;border:1px solid #bbb}pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0}
li{margin-bottom:.3em;overflow-wrap:anywhere}h2{grid-column:1/-1;margin:0;font-size:1em}
"""
_SCRIPT = """
const pages = [...document.querySelectorAll("article")], key = "olmrl-sheet:" + location.pathname;
let at = 0, verdicts = {};
try { verdicts = JSON.parse(localStorage.getItem(key)) || {}; } catch (error) { verdicts = {}; }
function show() {
  pages.forEach((page, number) => {
    page.className = (verdicts[page.id] || "") + (number === at ? " here" : "");
  });
  const count = (what) => Object.values(verdicts).filter((v) => v === what).length;
  document.getElementById("count").textContent =
    `${count("accept")} accepted, ${count("reject")} rejected, ${pages.length} pages`;
}
function judge(verdict) {
  verdicts[pages[at].id] = verdict;
  try { localStorage.setItem(key, JSON.stringify(verdicts)); } catch (error) { /* none here */ }
  move(1);
}
function move(by) {
  at = Math.max(0, Math.min(pages.length - 1, at + by));
  pages[at].scrollIntoView({ block: "start" });
  show();
}
addEventListener("keydown", (event) => {
  if (event.key === "a") judge("accept");
  else if (event.key === "r") judge("reject");
  else if (event.key === "j" || event.key === "ArrowDown") move(1);
  else if (event.key === "k" || event.key === "ArrowUp") move(-1);
  else return;
  event.preventDefault();
});
document.getElementById("save").addEventListener("click", () => {
  const lines = Object.entries(verdicts).map((v) => JSON.stringify({ page: v[0], verdict: v[1] }));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\\n") + "\\n"]));
  link.download = "verdicts.jsonl";
  link.click();
});
show();
"""


@dataclass(frozen=True)
class PageNote:
    """What else is to be seen of a page."""

    source: Path | None = None
    """Picture (JPEG) of the page that it was made from."""
    lines: tuple[str, ...] = ()
    """Sentences: likeness, cost, checks that failed."""


def write_sheet(
    bench: Path, pages: Path, report: dict[str, Any], out: Path, notes: Mapping[str, PageNote]
) -> None:
    """Write OUT/index.html and a picture of each page.

    Args:
        bench: The bench folder that was derived.
        pages: Folder with X.pdf and X.md of its pages.
        report: Of `derive_folder`.
        out: Folder to write.
        notes: By page name.
    """
    tests: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(bench.glob("*.jsonl")):
        for line in path.read_text("utf-8").split("\n"):
            if line:
                row = json.loads(line)
                tests[Path(row["pdf"]).stem].append(row)
    out.mkdir(parents=True, exist_ok=True)
    names = sorted(report["tests_per_page"])
    articles = []
    for name in names[:MOST_PAGES]:
        picture = io.BytesIO()
        Image.fromarray(render_page(str(pages / f"{name}.pdf"), 1, SIDE)).save(picture, "JPEG")
        (out / f"{name}.jpg").write_bytes(picture.getvalue())
        truth = (pages / f"{name}.md").read_text("utf-8")
        note = notes.get(name, PageNote())
        if note.source is not None:
            shutil.copy(note.source, out / f"{name}.source.jpg")
        articles.append(_article(name, truth, tests[Path(name).stem], note))
    shown = f"{len(names)} pages" + (
        f", the first {MOST_PAGES} shown" if len(names) > MOST_PAGES else ""
    )
    (out / "index.html").write_text(_whole(shown, articles), "utf-8")


def _article(name: str, truth: str, tests: list[dict[str, Any]], note: PageNote) -> str:
    rows = "".join(f"<li>{html.escape(_sentence(test))}</li>" for test in tests)
    title = html.escape(name)
    told = "".join(f"<p>{html.escape(line)}</p>" for line in note.lines)
    source = ""
    if note.source is not None:
        source = f'<img src="{title}.source.jpg" alt="the page it was made from">'
    return (
        f'<article id="{title}"><h2>{title}</h2><div>{source}<img src="{title}.jpg" alt="the page">'
        f"</div><pre>{html.escape(truth)}</pre><div>{told}<ol>{rows}</ol></div></article>"
    )


def _sentence(test: dict[str, Any]) -> str:
    hidden = ("pdf", "page", "id", "type", "max_diffs", "case_sensitive", "checked", "url")
    told = "; ".join(
        f"{k}: {v}" for k, v in test.items() if k not in hidden and v not in ("", None)
    )
    return f"{test['type']}: {told}" if told else str(test["type"])


def _whole(shown: str, articles: list[str]) -> str:
    return f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>Pages and their tests</title><style>{_STYLE}</style></head><body>
<header>{shown}. <b>a</b> accept, <b>r</b> reject, <b>j</b> and <b>k</b> move.
<span id="count"></span> <button id="save">Save verdicts</button></header>
{"".join(articles)}<script>{_SCRIPT}</script></body></html>
"""
