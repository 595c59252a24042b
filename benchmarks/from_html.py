"""`synth from-html` and `from-docs` on documents that nobody here wrote: Debian's documentation.

    python benchmarks/from_html.py --work /tmp/from-html

Downloads packages with `apt-get download`, unpacks them, and makes pages: from HTML manuals, and
from LaTeX and EPUB sources with pandoc. The result says how many documents gave pages, tests per
page and type, what each check dropped, and seconds per page, of the clock and of all processes
together. Then poppler, which had no part in the proof, reads every page anew: how many tests
contradict its text. Documents come in parts; a call that was stopped goes on with the next one.

Needs Chromium, pandoc, poppler-utils and psutil, and 250 MB for the packages.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
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
    parser.add_argument("--docs", type=int, default=100, help="LaTeX and EPUB documents")
    parser.add_argument("--part", type=int, default=104, help="documents of one part")
    parser.add_argument("--pages-per-document", type=int, default=2)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--most-parts", type=int, default=1000, help="stop after so many new ones")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "packages": PACKAGES,
        "hardware": f"{os.cpu_count()} cores, {processor()}",
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python", *sys.argv]),
    }
    left = options.most_parts
    for verb, count in (("from-html", options.html), ("from-docs", options.docs)):
        parts = []
        for number, source in enumerate(documents(verb, count, options)):
            path = options.work / f"{verb}-{number}.json"
            if not path.exists():
                if not left:
                    return
                left -= 1
                told = measure(verb, source, options.work / f"{verb}-{number}", options)
                path.write_text(json.dumps(told))
            parts.append(json.loads(path.read_text()))
        result[verb] = present(parts) | {"workers": options.workers}
        print(json.dumps(result[verb], indent=1))
    OUT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def documents(verb: str, count: int, options: argparse.Namespace) -> list[Path]:
    """Folders of documents drawn by seed, no two of them alike."""
    folders = [options.work / "parts" / f"{verb}-{n}" for n in range(-(-count // options.part))]
    if folders[-1].exists():
        return folders
    source = options.work / "source" / verb
    fetch(PACKAGES[verb], options.work / "packages", source)
    suffixes = (".html", ".htm", ".xhtml") if verb == "from-html" else SOURCES
    if verb == "from-docs":
        source = gather(source, options.work / "documents")
    found = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path
        for path in sorted(source.rglob("*"))
        if path.is_file() and path.name.lower().endswith(suffixes) and is_whole(path)
    }
    chosen = random.Random(0).sample(sorted(found), min(count, len(found)))
    for at, folder in enumerate(folders):
        for digest in chosen[at * options.part : (at + 1) * options.part]:
            path = found[digest]
            place = folder / digest[:8] / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    return folders


def is_whole(path: Path) -> bool:
    """Whether it is a document, not a part that another LaTeX file includes."""
    return path.suffix != ".tex" or b"\\begin{document}" in path.read_bytes()


def measure(verb: str, source: Path, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What became of one part, as counts that can be added."""
    shutil.rmtree(out, ignore_errors=True)
    load = os.getloadavg()[0]
    started = time.monotonic()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "olmrl.synth", verb, source, out),
            *("--workers", str(options.workers)),
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
    checked, contradictions = contradicted(out / "bench")
    return {
        "documents": told["taken"],
        "documents_with_pages": told["with_pages"],
        "by_suffix": by_suffix(out / "work" / "documents"),
        "pages_set": told["pages_set"],
        "pages_with_tests": report["pages"],
        "tests": report["tests"],
        "per_type": report["per_type"],
        "rejected": report["rejected_candidates"],
        "pages_without_tests": Counter(report["pages_without_tests"].values()),
        "left_out": told["left_out"],
        "documents_without_pages": Counter(told["without_pages"].values()),
        "checked_with_poppler": checked,
        "contradicted": len(contradictions),
        "contradictions": contradictions,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "load_before": [round(load, 1)],
    }


def present(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """All parts as one result."""
    total: dict[str, Any] = {}
    for key_ in parts[0]:
        values = [part[key_] for part in parts]
        if isinstance(values[0], dict):
            total[key_] = dict(sum(map(Counter, values), Counter()).most_common())
        else:
            total[key_] = sum(values, start=type(values[0])())
    pages, rejected = total["pages_with_tests"], total.pop("rejected")
    candidates = total["tests"] + sum(rejected.values())
    for reasons in ("pages_without_tests", "left_out", "documents_without_pages"):
        total[reasons] = summed(total[reasons])
    return total | {
        "share_with_pages": round(total["documents_with_pages"] / total["documents"], 3),
        "tests_per_page": round(total["tests"] / pages, 1),
        "tests_per_page_by_type": {k: round(n / pages, 2) for k, n in total["per_type"].items()},
        "share_of_candidates_dropped": {
            why: round(n / candidates, 5) for why, n in summed(rejected).items()
        },
        "seconds": round(total["seconds"], 1),
        "pages_per_second": round(total["pages_set"] / total["seconds"], 2),
        "cpu_seconds": round(total["cpu_seconds"], 1),
        "cpu_seconds_per_page": round(total["cpu_seconds"] / total["pages_set"], 3),
    }


def summed(counts: dict[str, int]) -> dict[str, int]:
    """Counts by reason, numbers and examples of the reasons left out."""
    total: Counter[str] = Counter()
    for why, count in counts.items():
        total[re.sub(r"\d+|'[^']*'|\([^()]*\)$", "N", why)] += count
    return dict(total.most_common(20))


def by_suffix(records: Path) -> Counter[str]:
    """Documents of each kind, and those of them that gave pages."""
    found: Counter[str] = Counter()
    for path in records.glob("*.json"):
        record = json.loads(path.read_text("utf-8"))
        suffix = Path(record["source"]).suffix
        found[suffix] += 1
        found[f"{suffix} with pages"] += bool(record["pages"])
    return found


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
