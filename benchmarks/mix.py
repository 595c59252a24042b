"""Pages per core-second of `sample`, `openai-build` and `hub-prepare` against olmocr's scripts.

    python benchmarks/mix.py --olmocr-python /path/to/venv/bin/python

The other venv has the `olmocr` package (its scripts also need poppler). Both sides get the same
PDFs. CPU seconds include all child processes and do not depend on other load; wall seconds and
peak memory are recorded too. --ray adds openai-build on Ray Data with 1 and 2 workers.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reportlab.pdfgen import canvas

WORDS = [
    *("the", "of", "and", "a", "to", "in", "is", "it", "you", "that", "he", "was", "for", "on"),
    *("report", "table", "figure", "result", "method", "value", "theory", "committee", "season"),
]


def make_pdf(path, pages, rng):
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing = canvas.Canvas(str(path), pagesize=(612, 792), invariant=1)
    for _ in range(pages):
        for line in range(52):
            words = " ".join(rng.choice(WORDS) for _ in range(14))
            drawing.setFont("Times-Roman" if line % 9 else "Helvetica-Bold", 10)
            drawing.drawString(60, 740 - 13 * line, words)
        drawing.showPage()
    drawing.save()


def measure(command, cwd):
    """CPU seconds (with children), wall seconds and peak memory of one command."""
    begin = time.monotonic()
    log = Path(cwd, "log.txt")
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=cwd, stdout=stream, stderr=stream,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "none"},
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed:\n{log.read_text()[-2000:]}")
    return {
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "wall_s": round(time.monotonic() - begin, 2),
        "peak_mb": usage.ru_maxrss // 1024,
    }


def rated(runs, pages):
    """Cost per page without start-up: the slope between a small and a large run."""
    small, large = runs
    cpu = (large["cpu_s"] - small["cpu_s"]) / (pages[1] - pages[0])
    return {
        "pages": list(pages),
        "runs": runs,
        "cpu_ms_per_page": round(1000 * cpu, 2),
        "pages_per_core_second": round(1 / cpu, 2),
        "peak_mb": [run["peak_mb"] for run in runs],
    }


def version(python):
    """Version of the olmocr package in the other venv."""
    code = "import importlib.metadata as m; print(m.version('olmocr'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def compare(name, ours, theirs, pages, work, only):
    """Run both sides on both sizes; `ours(i, out)` returns the commands for size i."""
    if only and not name.startswith(only):
        return None
    result = {}
    for side, commands in (("olmrl", ours), ("olmocr", theirs)):
        runs = []
        for size in (0, 1):
            out = Path(tempfile.mkdtemp(dir=work))
            parts = [measure(command, out) for command in commands(size, out)]
            total = {key: round(sum(part[key] for part in parts), 2) for key in ("cpu_s", "wall_s")}
            runs.append({**total, "peak_mb": max(part["peak_mb"] for part in parts)})
            shutil.rmtree(out)
        result[side] = rated(runs, pages)
    gain = result["olmocr"]["cpu_ms_per_page"] / result["olmrl"]["cpu_ms_per_page"]
    result["times_fewer_cpu_seconds"] = round(gain, 2)
    print(name, json.dumps(result, indent=1), flush=True)
    return result


def scaling(command, pages, work):
    """Pages per second of wall time with 1 and 2 Ray workers, also without start-up."""
    rates = {}
    for workers in (1, 2):
        small, large = (measure(command(i, workers), work)["wall_s"] for i in (0, 1))
        rates[f"{workers} workers"] = round((pages[1] - pages[0]) / (large - small), 2)
    print("pages per second", rates, flush=True)
    return {"pages_per_second": rates}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--olmocr-python", required=True)
    parser.add_argument("--out", default="benchmarks/results/mix.json")
    parser.add_argument("--pages", type=int, default=40, help="small run; the large one has 4x")
    parser.add_argument("--rows", type=int, default=1000, help="hub-prepare rows, small run")
    parser.add_argument("--only", help="prefix of the one comparison to run")
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    sizes = (options.pages, 4 * options.pages)
    rows = (options.rows, 4 * options.rows)
    mix, olmocr = [sys.executable, "-m", "olmrl.mix"], [options.olmocr_python, "-m"]
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        for index, count in enumerate(sizes):
            for number in range(count):
                make_pdf(root / f"single{index}/{number:05d}.pdf", 1, rng)
            for number in range(count // 4):
                make_pdf(root / f"crawl{index}/{number:05d}.pdf", 8, rng)
        head = (
            "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
            "is_table: False\nis_diagram: False\n---\n"
        )
        for index, count in enumerate(rows):
            folder = root / f"pairs{index}"
            for number in range(count):
                target = folder / f"{number % 256:02x}ab/{number:08d}-1"
                target.parent.mkdir(parents=True, exist_ok=True)
                source = root / f"single0/{number % sizes[0]:05d}.pdf"
                shutil.copy(source, f"{target}.pdf")
                Path(f"{target}.md").write_text(head + " ".join(rng.choices(WORDS, k=400)))
            label = ["--subset", "s", "--split", "train"]
            package = ["hub-package", "--processed-dir", folder, *label]
            measure([*mix, *package, "--output-dir", root / f"data{index}"], root)
        results = {
            "openai-build": compare(
                "openai-build",
                lambda i, out: [
                    [*mix, "openai-build", root / f"single{i}", out / "o", "--workers", 1]
                ],
                lambda i, out: [
                    [*olmocr, "olmocr.data.build_openai_batch_from_olmocrmix", root / f"single{i}",
                     "--output_dir", out / "o", "--num_workers", 1]
                ],
                sizes, work, options.only,
            ),
            "sample + openai-build vs buildsilver": compare(
                "sample + openai-build vs buildsilver",
                lambda i, out: [
                    [*mix, "sample", root / f"crawl{i}", out / "s", "--max-pages", 4,
                     "--workers", 1],
                    [*mix, "openai-build", out / "s", out / "o", "--workers", 1],
                ],
                lambda i, out: [
                    [*olmocr, "olmocr.data.buildsilver", "--glob_path",
                     f"{root}/crawl{i}/*.pdf", "--num_sample_docs", sizes[i],
                     "--max_sample_pages", 4, "--output", out / "o"]
                ],
                sizes, work, options.only,
            ),
            "hub-prepare": compare(
                "hub-prepare",
                lambda i, out: [
                    [*mix, "hub-prepare", "--dataset-path", root / f"data{i}", "--subset", "s",
                     "--split", "train", "--destination", out / "o", "--workers", 1]
                ],
                lambda i, out: [
                    [*olmocr, "olmocr.data.prepare_olmocrmix", "--dataset-path", root / f"data{i}",
                     "--subset", "s", "--split", "train", "--destination", out / "o"]
                ],
                rows, work, options.only,
            ),
        }  # fmt: skip
        if options.ray:
            results["openai-build on Ray Data"] = scaling(
                lambda i, n: [*mix, "openai-build", root / f"single{i}", root / f"ray{i}-{n}",
                              "--workers", n, "--ray", "local"],
                sizes, work,
            )  # fmt: skip
    hardware = f"{os.cpu_count()} CPU cores ({platform.machine()}), shared with other jobs"
    target = Path(options.out)
    known = json.loads(target.read_text())["results"] if target.exists() else {}
    for name, result in results.items():
        if result is not None:
            known[name] = {"command": " ".join(["python", *sys.argv]), **result}
    out = {
        "hardware": hardware,
        "date": time.strftime("%Y-%m-%d"),
        "load_average_at_start": load,
        "versions": {
            "python": platform.python_version(),
            "ray": importlib.metadata.version("ray"),
            "olmocr": version(options.olmocr_python),
        },
        "results": known,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    main()
