"""`synth from-html` and `from-docs` on documents that nobody here wrote: Debian's documentation.

    python benchmarks/from_html.py --work /tmp/from-html

Downloads packages with `apt-get download`, unpacks them, and makes pages: from HTML manuals, and
from LaTeX and EPUB sources with pandoc. The result says how many documents gave pages, tests per
page and type, what each check dropped, and seconds per page, of the clock and of all processes
together. Then poppler, which had no part in the proof, reads every page anew: how many tests
contradict its text.

Needs Chromium, pandoc, poppler-utils and psutil, and 250 MB for the packages.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

PACKAGES = {
    "from-html": (
        *("python3.11-doc", "git-doc", "postgresql-doc-15", "debian-policy"),
        *("developers-reference", "debian-reference-en", "bash-doc", "sqlite3-doc", "nginx-doc"),
    ),
    "from-docs": (
        *("texlive-science-doc", "texlive-humanities-doc", "debian-policy", "debmake-doc"),
        "developers-reference",
    ),
}
NEEDLES = (
    *("text", "before", "after", "cell", "up", "down", "left", "right"),
    *("top_heading", "left_heading"),
)
"""Fields of a test that name a text of the page."""
SOURCES = (".tex", ".epub", ".docx")
"""What `from-docs` is measured on, also packed with gzip."""
ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "results" / "from_html.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("/tmp/olmrl-from-html"))
    parser.add_argument("--html", type=int, default=520, help="HTML documents")
    parser.add_argument("--docs", type=int, default=120, help="LaTeX and EPUB documents")
    parser.add_argument("--pages-per-document", type=int, default=2)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    result: dict[str, Any] = {}
    for verb, count in (("from-html", options.html), ("from-docs", options.docs)):
        source = options.work / "source" / verb
        fetch(PACKAGES[verb], options.work / "packages", source)
        if verb == "from-docs":
            source = gather(source, options.work / "documents")
        result[verb] = measure(verb, source, options.work / verb, count, options)
        result |= {
            "packages": PACKAGES,
            "hardware": f"{os.cpu_count()} cores, {processor()}",
            "date": time.strftime("%Y-%m-%d"),
            "command": " ".join(["python", *sys.argv]),
        }
        OUT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        print(json.dumps(result[verb], indent=1))


def measure(
    verb: str, source: Path, out: Path, count: int, options: argparse.Namespace
) -> dict[str, Any]:
    shutil.rmtree(out, ignore_errors=True)
    load = os.getloadavg()[0]
    started = time.monotonic()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "olmrl.synth", verb, source, out),
            *("--documents", str(count), "--workers", str(options.workers)),
            *("--pages-per-document", str(options.pages_per_document)),
        ],
        cwd=ROOT,
    )
    clock = CpuClock(process.pid)
    if process.wait():
        raise SystemExit(f"{verb} failed")
    seconds, cpu = time.monotonic() - started, clock.stop()
    report = json.loads((out / "report.json").read_text("utf-8"))
    told = report["documents"]
    rejected = report["rejected_candidates"]
    candidates = report["tests"] + sum(rejected.values())
    checked, contradictions = contradicted(out / "bench")
    return {
        "documents": told["taken"],
        "documents_with_pages": told["with_pages"],
        "share_with_pages": round(told["with_pages"] / told["taken"], 3),
        "by_suffix": by_suffix(out / "work" / "documents"),
        "pages_set": told["pages_set"],
        "pages_with_tests": report["pages"],
        "tests": report["tests"],
        "tests_per_page": round(report["tests"] / report["pages"], 1),
        "tests_per_page_by_type": {
            kind: round(n / report["pages"], 2) for kind, n in report["per_type"].items()
        },
        "share_of_candidates_dropped": {
            why: round(n / candidates, 5) for why, n in summed(rejected).items()
        },
        "pages_without_tests": summed(Counter(report["pages_without_tests"].values())),
        "left_out": told["left_out"],
        "documents_without_pages": summed(Counter(told["without_pages"].values())),
        "checked_with_poppler": checked,
        "contradicted": len(contradictions),
        "contradictions": contradictions[:10],
        "seconds": {"all": round(seconds, 1), **report["seconds"]},
        "pages_per_second": round(told["pages_set"] / seconds, 2),
        "cpu_seconds": round(cpu, 1),
        "cpu_seconds_per_page": round(cpu / told["pages_set"], 3),
        "workers": options.workers,
        "load_before": round(load, 1),
    }


def summed(counts: dict[str, int]) -> dict[str, int]:
    """Counts by reason, numbers and examples of the reasons left out."""
    total: Counter[str] = Counter()
    for why, count in counts.items():
        total[re.sub(r"\d+|'[^']*'|\([^()]*\)$", "N", why)] += count
    return dict(total.most_common(20))


def by_suffix(records: Path) -> dict[str, str]:
    """'with pages / all' of each kind of document."""
    found: dict[str, list[int]] = {}
    for path in records.glob("*.json"):
        record = json.loads(path.read_text("utf-8"))
        found.setdefault(Path(record["source"]).suffix, []).append(bool(record["pages"]))
    return {suffix: f"{sum(pages)} / {len(pages)}" for suffix, pages in sorted(found.items())}


class CpuClock:
    """CPU seconds of a process and all that descend from it, browsers included, looked at often."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._seconds: dict[tuple[int, float], float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.3):
            try:
                family = [self._process, *self._process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for member in family:
                try:
                    times = member.cpu_times()
                    self._seconds[member.pid, member.create_time()] = times.user + times.system
                except psutil.NoSuchProcess:
                    continue

    def stop(self) -> float:
        self._done.set()
        self._thread.join()
        return sum(self._seconds.values())


def fetch(packages: tuple[str, ...], archives: Path, source: Path) -> None:
    """Download and unpack what is not there yet."""
    archives.mkdir(parents=True, exist_ok=True)
    for name in packages:
        target = source / name
        if target.exists():
            continue
        if not list(archives.glob(f"{name}_*.deb")):
            subprocess.run(["apt-get", "download", name], cwd=archives, check=True)
        (archive,) = archives.glob(f"{name}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, target], check=True)


def gather(source: Path, target: Path) -> Path:
    """A folder with the sources alone, unpacked; what stands beside a file stays beside it."""
    for path in sorted(source.rglob("*")):
        name = path.name.removesuffix(".gz")
        if path.is_file() and name.lower().endswith(SOURCES):
            place = target / path.relative_to(source).with_name(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes()
            place.write_bytes(gzip.decompress(data) if path.suffix == ".gz" else data)
    return target


def contradicted(bench: Path) -> tuple[int, list[str]]:
    """Tests whose texts poppler does not find on their page, or finds the other way round."""
    checked, wrong = 0, []
    layers: dict[str, tuple[str, str]] = {}
    for file in sorted(bench.glob("*.jsonl")):
        for line in file.read_text("utf-8").split("\n"):
            row = json.loads(line) if line else {"type": "baseline"}
            if row["type"] in ("baseline", "math"):
                continue  # they name no text
            if row["pdf"] not in layers:
                pdf = bench / "pdfs" / row["pdf"]
                layers[row["pdf"]] = read(pdf, "-layout"), read(pdf, "-raw")
            checked += 1
            laid, raw = layers[row["pdf"]]
            needles = {name: key(str(row[name])) for name in NEEDLES if row.get(name)}
            before, after = (
                raw.find(needles.get("before", "")),
                raw.rfind(needles.get("after", "")),
            )
            if any(needle not in laid and needle not in raw for needle in needles.values()):
                wrong.append(f"{row['id']}: not on the page")
            elif row["type"] == "order" and before >= after:
                wrong.append(f"{row['id']}: the other way round")
    return checked, wrong


def read(pdf: Path, how: str) -> str:
    told = subprocess.run(["pdftotext", how, pdf, "-"], capture_output=True, check=True)
    return key(told.stdout.decode())


def key(text: str) -> str:
    """Letters and digits."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).lower())


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


if __name__ == "__main__":
    main()
