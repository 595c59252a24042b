"""Page rendering against two poppler processes per page, and the whole input pipeline.

    python benchmarks/rendering.py                 # needs pdftoppm and pdfinfo (poppler-utils)

Peers render a page with pdfinfo and pdftoppm and decode the PNG; olmrl renders it in process. CPU
seconds include child processes and do not depend on other load. `pipeline` takes one page from
disk to token ids and patches (published steps at 1288 px); `image processor` is transformers' own
against ours on the same pixels. --ray N adds the stream on N Ray workers.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", RAY_AUTH_MODE="disabled")

import numpy as np
import psutil
import pypdfium2
import ray
import transformers
from PIL import Image
from reportlab.pdfgen.canvas import Canvas
from transformers import AutoImageProcessor

from olmrl.cluster import Plan, Role
from olmrl.cluster.connect import connect
from olmrl.data.encode import EncoderSpec
from olmrl.data.page import scan_pairs
from olmrl.data.page_sets import ExampleWork
from olmrl.data.render import render_page
from olmrl.data.sets import PageItem, PageSet
from olmrl.data.steps import build_pipeline
from olmrl.data.streams import OrderedStream
from olmrl.synth.model import make_model

LONGEST = 1288
HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)
STEPS = (
    {"name": "FrontMatterParser"},
    {"name": "FilterOutRotatedDocuments"},
    {"name": "ReformatLatexBoldItalic"},
    {"name": "DatasetTextRuleFilter"},
    {"name": "PDFRenderer", "target_longest_image_dim": LONGEST},
    {"name": "RotationAugmentation", "probability": 0.02},
    {"name": "Prompt", "prompt": "olmrl-v1"},
    {"name": "FrontMatterOutputFormat"},
    {"name": "InstructUserMessages", "prompt_first": True},
    {"name": "Tokenizer"},
)
WORDS = ["the", "of", "and", "report", "table", "figure", "result", "method", "value", "theory"]


def write_pages(folder: Path, count: int) -> None:
    """Write letter pages: half of them text, half a scan under a few lines of text."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    for k in range(count):
        text = [" ".join(rng.choices(WORDS, k=12)) for _ in range(52)]
        canvas = Canvas(str(folder / f"{k:04d}.pdf"), pagesize=(612, 792))
        if k % 2:
            noise = np.random.default_rng(k).normal(225, 12, (1100, 850)).clip(0, 255)
            path = folder / f"{k}.jpg"
            Image.fromarray(noise.astype(np.uint8)).save(path, quality=80)
            canvas.drawImage(str(path), 0, 0, 612, 792)
        for line, words in enumerate(text):
            canvas.drawString(60, 740 - 13 * line, words)
        canvas.save()
        (folder / f"{k:04d}.md").write_text(HEAD + "\n".join(text))


def cpu_seconds() -> float:
    """Of this process and all below it: ended, and alive as the one that reads PDFs."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ended = sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, kinds))
    alive = (child.cpu_times() for child in psutil.Process().children(recursive=True))
    return ended + sum(times.user + times.system for times in alive)


def measure(work, items: list) -> dict[str, float]:
    """CPU and wall milliseconds per item, after one item of warm-up."""
    work(items[0])
    wall, cpu = time.perf_counter(), cpu_seconds()
    for item in items:
        work(item)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    return {
        "cpu_ms_per_page": round(1e3 * cpu / len(items), 2),
        "wall_ms_per_page": round(1e3 * wall / len(items), 2),
        "pages_per_core_second": round(len(items) / cpu, 1),
    }


def poppler(path: str) -> np.ndarray:
    """The public method: one process for the MediaBox, one for the pixels, then decode the PNG."""
    info = subprocess.run(
        ["pdfinfo", "-f", "1", "-l", "1", "-box", "-enc", "UTF-8", path],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    line = next(row for row in info.splitlines() if "MediaBox" in row)
    x0, y0, x1, y1 = map(float, line.split(":")[1].split())
    dpi = LONGEST * 72 / max(abs(x1 - x0), abs(y1 - y0))
    png = subprocess.run(
        ["pdftoppm", "-png", "-f", "1", "-l", "1", "-r", str(dpi), path],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def measure_ray(pages: PageSet, spec: EncoderSpec, workers: int) -> dict[str, float]:
    """Pages per second of the whole stream with warm workers."""
    role = Role("data", 1, float(workers), 0.0)
    connect(None, workers, Plan((role,), None), dashboard=False)
    many = PageSet("bench", pages.items * 8)
    for some in (pages, many):
        stream = OrderedStream(ExampleWork(some, spec, 16384, 1), seed=1, epochs=1, prefetch=64)
        started = time.perf_counter()
        count = sum(1 for _ in stream)
        seconds = time.perf_counter() - started
    ray.shutdown()
    return {"workers": workers, "pages": count, "pages_per_s": round(count / seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=40)
    parser.add_argument("--ray", type=int, nargs="*", default=[], help="numbers of Ray workers")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "pages")
        write_pages(folder, arguments.pages)
        texts = [path.read_text() for path in folder.glob("*.md")]
        model = make_model(texts, Path(scratch, "model"), vocab_size=512)
        spec = EncoderSpec(str(model))
        sources = scan_pairs(str(folder)).sources
        pages = PageSet("bench", tuple(PageItem(s, build_pipeline(STEPS)) for s in sources))
        paths = [source.pdf_path for source in sources]
        images = [render_page(path, 1, LONGEST) for path in paths[:10]]
        theirs = AutoImageProcessor.from_pretrained(str(model), backend="pil")
        patcher = spec.build()
        figures = {
            "render olmrl": measure(lambda p: render_page(p, 1, LONGEST), paths),
            "render poppler": measure(poppler, paths),
            "image processor olmrl": measure(
                lambda i: patcher.encode_prompt("p", "<|image_pad|>", [i]), images
            ),
            "image processor transformers": measure(
                lambda i: theirs(Image.fromarray(i), return_tensors="np"), images
            ),
            "pipeline olmrl": measure(
                lambda k: ExampleWork(pages, spec, 16384, 1)(0, k, k), list(range(len(paths)))
            ),
        }
        figures["stream"] = [measure_ray(pages, spec, workers) for workers in arguments.ray]
    result = {
        "figures": figures,
        "pages": arguments.pages,
        "hardware": f"{os.cpu_count()} CPU cores ({platform.machine()}), "
        f"load {os.getloadavg()[0]:.0f} from neighbours",
        "date": datetime.date.today().isoformat(),
        "versions": {
            "pypdfium2": pypdfium2.version.PYPDFIUM_INFO.version,
            "poppler": _poppler_version(),
            "transformers": transformers.__version__,
            "ray": ray.__version__,
        },
        "command": "python " + " ".join(sys.argv),
    }
    target = Path(__file__).parent / "results" / "rendering.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _poppler_version() -> str:
    shown = subprocess.run(["pdftoppm", "-v"], capture_output=True, text=True, check=True).stderr
    return shown.split()[2]


if __name__ == "__main__":
    main()
