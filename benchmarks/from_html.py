"""`synth from-html` on documents that nobody here wrote: HTML of Debian's documentation packages.

    python benchmarks/from_html.py --work /tmp/from-html --documents 600

Downloads the packages with `apt-get download`, unpacks them, and makes pages with two browsers. The
result: yield, tests per page and type, what each check dropped, seconds a page and core; and, read
anew by another library than the one that proved them, how many tests contradict the text layer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from pathlib import Path

PACKAGES = (
    *("python3.11-doc", "git-doc", "postgresql-doc-15", "debian-policy", "developers-reference"),
    *("debian-reference-en", "bash-doc", "sqlite3-doc", "nginx-doc", "gawk-doc"),
)
ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("/tmp/olmrl-from-html"))
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    source, out = options.work / "source", options.work / "out"
    fetch(options.work / "packages", source)
    started = time.monotonic()
    subprocess.run(
        [
            *(sys.executable, "-m", "olmrl.synth", "from-html", source, out),
            *("--documents", str(options.documents), "--workers", str(options.workers)),
        ],
        check=True,
        cwd=ROOT,
    )
    seconds = time.monotonic() - started
    report = json.loads((out / "report.json").read_text("utf-8"))
    told = report["documents"]
    result = {
        "documents": options.documents,
        "documents_with_pages": told["with_pages"],
        "pages_set": told["pages_set"],
        "pages_with_tests": report["pages"],
        "tests": report["tests"],
        "per_type": report["per_type"],
        "rejected": report["rejected_candidates"],
        "pages_dropped": Counter(
            re.sub(r"\d+|'.*?'", "N", why) for why in report["pages_without_tests"].values()
        ).most_common(12),
        "left_out": told["left_out"],
        "without_pages": Counter(
            re.sub(r"\d+", "N", why) for why in told["without_pages"].values()
        ).most_common(12),
        "contradicted": contradicted(out / "bench"),
        "pages_per_second": told["pages_set"] / seconds,
        "seconds": {"all": round(seconds, 1), **report["seconds"]},
        "packages": PACKAGES,
        "hardware": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}",
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(sys.argv),
    }
    path = ROOT / "benchmarks" / "results" / "from_html.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def fetch(packages: Path, source: Path) -> None:
    """Download and unpack what is not there yet."""
    packages.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        target = source / name
        if target.exists():
            continue
        subprocess.run(["apt-get", "download", name], cwd=packages, check=False)
        for archive in packages.glob(f"{name}_*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive, target], check=True)


def contradicted(bench: Path) -> int:
    """Text, order and cell tests whose text poppler does not find on the page (in that order)."""
    wrong = 0
    texts: dict[str, str] = {}
    for file in bench.glob("*.jsonl"):
        for line in file.read_text("utf-8").splitlines():
            row = json.loads(line)
            if row["pdf"] not in texts:
                told = subprocess.run(
                    ["pdftotext", "-layout", bench / "pdfs" / row["pdf"], "-"],
                    capture_output=True,
                    check=True,
                )
                raw = subprocess.run(
                    ["pdftotext", "-raw", bench / "pdfs" / row["pdf"], "-"],
                    capture_output=True,
                    check=True,
                )
                texts[row["pdf"]] = key(told.stdout.decode()) + "\n" + key(raw.stdout.decode())
            needles = [row[k] for k in ("text", "before", "after", "cell") if row.get(k)]
            wrong += any(key(str(needle)) not in texts[row["pdf"]] for needle in needles)
    return wrong


def key(text: str) -> str:
    """Letters and digits."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).lower())


if __name__ == "__main__":
    main()
