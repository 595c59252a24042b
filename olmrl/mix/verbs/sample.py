"""Crawl list of PDFs -> single-page PDFs.

Draws PDFs with a seeded reservoir, drops those that the filter rejects, takes some pages of each
(always the first --first-pages, then random ones) and stops once --docs PDFs have yielded pages.
Writes OUTPUT/<sha1[:4]>/<sha1[4:]>-<page>.pdf, urls.jsonl (id, source) and pages.jsonl. The same
seed and list give the same pages with any number of workers.
"""

# See docs/formats.md#sampling-a-crawl

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Iterator
from typing import Any

from olmrl import storage
from olmrl.arguments import positive, real, whole
from olmrl.data.render import BadPage
from olmrl.mix import files, pairs
from olmrl.mix.pdf_child import Call
from olmrl.mix.pdf_filter import Rules, Sampled
from olmrl.mix.pdf_map import add_ray_argument, map_pdfs
from olmrl.mix.run import Outcome, Run, add_run_arguments, lost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "source", help="text file with one PDF path per line, a folder, or a glob (local or s3://)"
    )
    parser.add_argument("output", help="folder for the pages")
    parser.add_argument("--docs", type=positive, default=5000, help="PDFs to take pages from")
    parser.add_argument("--reservoir", type=positive, help="PDFs to draw (default 10 x --docs)")
    parser.add_argument(
        "--first-pages", type=whole(0), default=0, help="leading pages to always take"
    )
    parser.add_argument("--max-pages", type=positive, default=3, help="pages per PDF (silver: 15)")
    parser.add_argument("--seed", type=int, default=0)
    add_filter_arguments(parser, languages="en")
    add_run_arguments(parser, workers=4)
    add_ray_argument(parser)


def add_filter_arguments(parser: argparse.ArgumentParser, *, languages: str) -> None:
    """Options of `rules_of`."""
    parser.add_argument("--no-filter", action="store_true", help="keep every readable PDF")
    parser.add_argument(
        "--languages",
        default=languages,
        help="comma-separated codes, or `any` (default: %(default)s)",
    )
    parser.add_argument("--keep-forms", action="store_true", help="keep PDFs with form fields")
    parser.add_argument(
        "--spam-share", type=real(0, 1), default=0.004, help="largest share allowed"
    )


def run(options: argparse.Namespace) -> int:
    """Sample the pages; see the module."""
    names = ["source", "docs", "reservoir", "first_pages", "max_pages", "seed"]
    names += ("no_filter", "languages", "keep_forms", "spam_share")
    settings = {name: getattr(options, name) for name in names}
    drawn = draw(list_pdfs(options.source), options.reservoir or 10 * options.docs, options.seed)
    if not drawn:
        raise ValueError(f"{options.source}: lists no PDFs")
    with Run("sample", options.output, settings, state=options.state) as verb:
        if verb.counts["done"] < options.docs:
            take(verb, [pdf for pdf in drawn if not verb.finished(pdf)], options)
        write_lists(verb, drawn)
        verb.progress.say(f"{verb.counts['done']} PDFs, {verb.facts['pages']:.0f} pages")
    return verb.end(options.source, "PDF")


def list_pdfs(source: str) -> Iterator[str]:
    """Yield the paths of the crawl.

    Raises:
        ValueError: no such file or folder.
    """
    fs, inner = storage.filesystem(source)
    with storage.named(source):
        yield from _listed(source, fs, inner)


def _listed(source: str, fs: Any, inner: str) -> Iterator[str]:
    if any(mark in source for mark in "*?["):
        for path in fs.glob(inner):
            yield fs.unstrip_protocol(path) if storage.is_remote(source) else path
    elif fs.isdir(inner):
        yield from files.listing(source, ".pdf")
    elif fs.exists(inner):
        storage.refuse_stream(source)
        with fs.open(inner, "rb") as stream:
            for line in stream:
                if b"\0" in line:
                    raise ValueError(f"{source}: not a text file with a path on each line")
                path = line.decode("utf-8", "replace").strip()
                if path and not path.startswith("#"):
                    yield path
    else:
        raise ValueError(f"{source}: no such file or folder")


def draw(paths: Iterable[str], size: int, seed: int) -> list[str]:
    """A uniform sample of at most `size` distinct paths, shuffled (reservoir, one pass)."""
    rng = random.Random(seed)
    kept: list[str] = []
    for number, path in enumerate(paths):
        if len(kept) < size:
            kept.append(path)
        elif (place := rng.randrange(number + 1)) < size:
            kept[place] = path
    kept = list(dict.fromkeys(kept))
    rng.shuffle(kept)
    return kept


def rules_of(options: argparse.Namespace) -> Rules | None:
    """The filter that the options ask for."""
    if options.no_filter:
        return None
    codes = tuple(code.strip().lower() for code in options.languages.split(",") if code.strip())
    languages = None if codes == ("any",) else codes
    if languages is not None and not (
        codes and all(len(code) == 2 and code.isalpha() for code in codes)
    ):
        raise ValueError(f"--languages {options.languages!r}: must be two-letter codes, or any")
    return Rules(languages, options.keep_forms, options.spam_share)


def take(verb: Run, todo: list[str], options: argparse.Namespace) -> None:
    """Go through the drawn PDFs in order until enough of them have yielded pages."""
    arguments = (rules_of(options), options.first_pages, options.max_pages, options.seed)
    calls = [Call("olmrl.mix.pdf_filter:sample_pdf", path, arguments) for path in todo]
    seen = {note["sha1"]: path for path, note in verb.noted.items()}
    results = map_pdfs(calls, workers=options.workers, ray_address=options.ray)
    for path, result in zip(todo, results, strict=True):
        verb.record(path, settle(path, result, seen, options.output))
        if verb.counts["done"] >= options.docs:
            break


def settle(path: str, result: Any, seen: dict[str, str], output: str) -> Outcome:
    """Write the pages of one PDF, unless it was rejected or was seen under another path."""
    if isinstance(result, BadPage):
        return lost(result)
    assert isinstance(result, Sampled)
    if result.sha1 in seen:
        return Outcome("skipped", f"same content as {seen[result.sha1]}")
    seen[result.sha1] = path
    for page, data in result.pages.items():
        files.write(files.join_inside(output, page_id(result.sha1, page) + ".pdf"), data)
    note = {"sha1": result.sha1, "pages": sorted(result.pages), "of": result.page_count}
    return Outcome(facts={"pages": len(result.pages)}, note=note)


def page_id(sha1: str, page: int) -> str:
    """Id of a page as in olmOCR-mix: `abcd/<rest of the hash>-<page>`."""
    return f"{sha1[:4]}/{sha1[4:]}-{page}"


def write_lists(verb: Run, drawn: list[str]) -> None:
    """Write urls.jsonl and pages.jsonl in the order of the draw."""
    rows = [
        {"id": page_id(note["sha1"], page), "url": path, "page_number": page, "of": note["of"]}
        for path in drawn
        if (note := verb.noted.get(path))
        for page in note["pages"]
    ]
    files.write_lines(storage.join(verb.output, "pages.jsonl"), map(pairs.json_line, rows))
    urls = ({"id": row["id"], "url": row["url"]} for row in rows)
    files.write_lines(storage.join(verb.output, "urls.jsonl"), map(pairs.json_line, urls))
