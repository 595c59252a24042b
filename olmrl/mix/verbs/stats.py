"""Counts, histograms and a contact sheet of page pairs: is this the mix we wanted?

Every ROOT is one subset and split (from its folder name, e.g. processed_00_documents_train). Writes
OUTPUT/stats.json, OUTPUT/card.markdown (the card of the data set, which `hub-push` completes) and
OUTPUT/stats.html: counts next to those of the published mix-1025, tokens and
page sizes, languages, flags, and a contact sheet of sampled pages with their text.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from tokenizers import Tokenizer

from olmrl import storage
from olmrl.arguments import positive, whole
from olmrl.data.render import BadPage
from olmrl.markup import front_matter
from olmrl.mix import files, pairs
from olmrl.mix.card import data_set_card
from olmrl.mix.pdf import PageImage
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.run import Outcome, Run, Skip, add_run_arguments, process, reading

PUBLISHED = {
    "00_documents_train": 231_668,
    "00_documents_eval": 1_122,
    "01_books_train": 16_575,
    "01_books_eval": 899,
    "02_loc_transcripts_train": 9_891,
    "02_loc_transcripts_eval": 98,
    "03_national_archives_train": 9_828,
    "03_national_archives_eval": 169,
}
"""Pages of the published mix-1025."""


class PageFacts(NamedTuple):
    """What is counted about one page."""

    subset: str
    """Label of its root."""
    size: int
    """Tokens with --tokenizer, else words."""
    language: str | None
    """Language in the front matter."""
    turned: bool
    """is_rotation_valid is false or a correction is given."""
    table: bool
    """is_table."""
    diagram: bool
    """is_diagram."""
    blank: bool
    """No text."""
    width: int
    """Pixels at --side."""
    height: int
    """Pixels at --side."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("roots", nargs="+", help="folders of page pairs")
    parser.add_argument("--output", required=True, help="folder for stats.html and stats.json")
    parser.add_argument("--tokenizer", help="tokenizer.json, or a model folder that has one")
    parser.add_argument("--side", type=positive, default=1288, help="longer side in pixels")
    parser.add_argument("--samples", type=whole(0), default=24, help="pages on the contact sheet")
    parser.add_argument("--seed", type=int, default=0)
    add_run_arguments(parser, workers=4)


def run(options: argparse.Namespace) -> int:
    """Measure the pairs; see the module."""
    tokenizer = load_tokenizer(options.tokenizer)
    found, beside = find(options.roots)
    settings = {k: getattr(options, k) for k in ("roots", "tokenizer", "side")}
    with (
        Run("stats", options.output, settings, state=options.state, total=len(found)) as verb,
        PdfPool(options.workers) as pool,
    ):
        verb.tell_beside(len(found), beside)

        def measure(key: str) -> Outcome:
            facts = measure_pair(key.split("\t")[0], found[key], pool, tokenizer, options.side)
            return Outcome(facts={"pages": 1}, note=list(facts))

        process(verb, ((key, key) for key in found), measure, workers=options.workers)
        pages = [PageFacts(*verb.noted[key]) for key in found if key in verb.noted]
        unit = "tokens" if tokenizer else "words"
        counts = summarise(pages, unit) | {"left_out": len(found) - len(pages)}
        files.write_json(storage.join(options.output, "stats.json"), counts)
        name = ", ".join(map(label_of, options.roots))
        files.write_text(
            storage.join(options.output, "card.markdown"), data_set_card(counts, name=name)
        )
        rng = random.Random(options.seed)
        good = [key for key in found if key in verb.noted]
        sheet = rng.sample(good, min(options.samples, len(good)))
        cards = [card(key, found[key], pool) for key in sheet]
        bad = verb.summary()["problems"][:200]
        html = page(counts, plots(pages, unit), cards, bad)
        storage.write_html(storage.join(options.output, "stats.html"), html)
    return verb.end(", ".join(options.roots), "page pair (*.md, *.pdf)")


def find(roots: list[str]) -> tuple[dict[str, pairs.Pair], dict[str, list[str]]]:
    """The pairs of all roots by their keys, which begin with the label of the root.

    With them, the files that belong to none by what they are.

    Raises:
        ValueError: a root has none, or two roots have one label.
    """
    labels = Counter(map(label_of, roots))
    twice = [root for root in roots if labels[label_of(root)] > 1]
    if twice:
        raise ValueError(
            f"{' and '.join(twice)}: both would be counted as {label_of(twice[0])!r}; rename one"
        )
    found: dict[str, pairs.Pair] = {}
    beside: defaultdict[str, list[str]] = defaultdict(list)
    for root in roots:
        folder, label = pairs.scan(root, with_pdf=True), label_of(root)
        found |= {f"{label}\t{pair.id}": pair for pair in folder.pairs}
        for kind, paths in folder.beside.items():
            beside[kind] += [f"{label}/{path}" for path in paths]
    return found, beside


def label_of(root: str) -> str:
    """Subset and split from a folder's name."""
    name = os.path.basename(root.rstrip("/")) or root
    return name.removeprefix("processed_")


def load_tokenizer(path: str | None) -> Tokenizer | None:
    """The tokenizer to count with, or None.

    Raises:
        ValueError: it cannot be read.
    """
    if path is None:
        return None
    file = os.path.join(path, "tokenizer.json") if os.path.isdir(path) else path
    if not os.path.isfile(file):
        raise ValueError(f"--tokenizer {path}: no tokenizer.json found")
    try:
        return Tokenizer.from_file(file)
    except Exception as error:  # its only type
        reason = str(error).splitlines()[0]
        raise ValueError(f"--tokenizer {file}: cannot be read ({reason})") from error


def measure_pair(
    subset: str, pair: pairs.Pair, pool: PdfPool, tokenizer: Tokenizer | None, side: int
) -> PageFacts:
    """Measure one pair.

    Raises:
        Skip: unreadable PDF or front matter.
    """
    try:
        with reading():
            response = front_matter.of_reference(storage.read_document(pair.md))
    except ValueError as error:
        raise Skip(str(error)) from error
    width, height = pool.call("page_size", pair.pdf)
    text = response.natural_text or ""
    size = len(tokenizer.encode(text).ids) if tokenizer else len(text.split())
    scale = side / max(width, height)
    turned = not response.is_rotation_valid or response.rotation_correction != 0
    return PageFacts(
        subset,
        size,
        response.primary_language,
        turned,
        response.is_table,
        response.is_diagram,
        response.natural_text is None,
        round(width * scale),
        round(height * scale),
    )


def summarise(pages: list[PageFacts], unit: str) -> dict[str, Any]:
    """Counts per subset, with the published ones, and overall shares."""
    by_subset = Counter(page.subset for page in pages)
    languages = Counter(page.language or "none" for page in pages)
    total = max(1, len(pages))
    sizes = np.array([page.size for page in pages] or [0])
    return {
        "pages": len(pages),
        "subsets": {
            name: {"pages": by_subset[name], "published": PUBLISHED.get(name)}
            for name in sorted(by_subset)
        },
        "unit": unit,
        "size": {
            "sum": int(sizes.sum()),
            "mean": round(float(sizes.mean()), 1),
            **{f"p{q}": int(np.percentile(sizes, q)) for q in (5, 50, 95, 99)},
        },
        "languages": dict(languages.most_common()),
        "shares": {
            name: round(sum(getattr(page, name) for page in pages) / total, 4)
            for name in ("blank", "turned", "table", "diagram")
        },
    }


def plots(pages: list[PageFacts], unit: str) -> list[str]:
    """Histograms as PNG data urls: text length, page sizes, languages."""
    # Deferred: a second of CPU that `--help` need not spend.
    import matplotlib  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    matplotlib.rcParams["font.size"] = 9
    sizes = [page.size for page in pages if not page.blank]
    lengths = Figure(figsize=(4.4, 2.8), layout="constrained")
    axes = lengths.subplots()
    axes.hist(sizes, bins=40, color="#39679e")
    axes.set(xlabel=f"{unit} per page", ylabel="pages")
    shapes = Figure(figsize=(4.4, 2.8), layout="constrained")
    axes = shapes.subplots()
    axes.scatter([p.width for p in pages], [p.height for p in pages], s=6, alpha=0.3, c="#39679e")
    axes.set(xlabel="width, pixels", ylabel="height, pixels")
    tongues = Figure(figsize=(4.4, 2.8), layout="constrained")
    axes = tongues.subplots()
    common = Counter(page.language or "none" for page in pages).most_common(12)
    axes.bar([name for name, _ in common], [count for _, count in common], color="#39679e")
    axes.set(xlabel="language", ylabel="pages")
    return [_data_url(figure) for figure in (lengths, shapes, tongues)]


def _data_url(figure: Any) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def card(key: str, pair: pairs.Pair, pool: PdfPool) -> dict[str, str]:
    """One page of the contact sheet."""
    text = storage.read_bytes(pair.md).decode("utf-8", "replace")
    entry = {"name": key.replace("\t", " / "), "text": text[:1500], "image": ""}
    try:
        image: PageImage = pool.call("page_image", pair.pdf, 1, 420, "webp")
        url = "data:image/webp;base64," + base64.b64encode(image.data).decode("ascii")
        entry["image"] = url
    except BadPage as bad:
        entry["text"] = str(bad)
    return entry


def page(
    counts: dict[str, Any],
    figures: Iterable[str],
    cards: Iterable[dict[str, str]],
    bad: list[dict[str, str]],
) -> str:
    """The report as one self-contained HTML page (all content is escaped)."""
    folder = Path(__file__).parent.parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("stats.html").render(
        counts=counts, figures=list(figures), cards=list(cards), bad=bad
    )
