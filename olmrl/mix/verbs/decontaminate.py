"""Page pairs x a bench folder -> the pages that occur in the bench.

A page is contaminated if its URL is in the bench, its PDF has the same bytes as a bench PDF, or its
text shares at least --threshold of its 8-word runs with a bench page (text layer or reference).
Contaminated pages are listed in OUTPUT/contaminated.jsonl; --move-to sets them aside, and
`filter --drop` leaves them out. The exit code is 1 as long as any remain in place.
"""

# See docs/formats.md#contamination

from __future__ import annotations

import argparse
from collections.abc import Iterator

from olmrl import storage
from olmrl.data.render import BadPage
from olmrl.markup import front_matter
from olmrl.mix import files, pairs
from olmrl.mix.overlap import BenchIndex, Overlap
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.run import Fail, Outcome, Run, add_run_arguments, in_order, reading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("pairs", help="folder of page pairs")
    parser.add_argument("output", help="folder for the report")
    parser.add_argument("--bench", required=True, action="append", help="bench folder (repeatable)")
    parser.add_argument("--threshold", type=float, default=0.5, help="share of common 8-word runs")
    parser.add_argument("--move-to", help="move contaminated pairs to this folder")
    add_run_arguments(parser, workers=4)


def run(options: argparse.Namespace) -> int:
    """Find (and set aside) contaminated pages; see the module."""
    if not 0 < options.threshold <= 1:
        raise ValueError(f"--threshold {options.threshold:g} must be in (0, 1]")
    if options.move_to:
        storage.check_target(options.move_to)
        files.check_apart(options.pairs, options.move_to)
    found_pairs, beside = pairs.scan(options.pairs)
    settings = {k: getattr(options, k) for k in ("pairs", "bench", "threshold")}
    with Run("decontaminate", options.output, settings, state=options.state) as verb:
        with PdfPool(options.workers) as pool:
            index, sizes, unread = read_bench(options, pool)
        urls = pairs.read_urls(options.pairs)
        verb.tell_beside(len(found_pairs), beside)
        seen = without_url = 0
        for pair in found_pairs:
            url = urls.get(pair.id) or urls.get(pair.id.replace("/", ""))
            seen += 1
            without_url += url is None
            try:
                with reading():
                    found = overlap(pair, url, index, sizes, options.threshold)
            except Fail as fail:
                verb.record(pair.id, Outcome("failed", str(fail)))
                continue
            if found is not None and not verb.finished(pair.id):
                verb.record(pair.id, Outcome(facts={found.how: 1}, note=list(found)))
        verb.notes |= {"pages_in_place": seen, "pages_without_url": without_url}
        verb.notes |= {"bench_pdfs_unread": unread}
        rows = [
            {"id": key, "how": how, "bench": bench, "share": share}
            for key, (how, bench, share) in sorted(verb.noted.items())
        ]
        target = storage.join(options.output, "contaminated.jsonl")
        files.write_lines(target, map(pairs.json_line, rows))
        if options.move_to:
            there = {pair.id: pair for pair in found_pairs}
            for row in rows:
                if row["id"] in there:
                    set_aside(there[row["id"]], options.move_to)
        verb.progress.say(f"{len(rows)} of {seen} pages contaminated, {without_url} without URL")
        if unread:
            verb.progress.say(f"{len(unread)} bench PDFs without readable text, as {unread[0]}")
        return 1 if verb.counts["failed"] or (rows and not options.move_to) else 0


def read_bench(
    options: argparse.Namespace, pool: PdfPool
) -> tuple[BenchIndex, set[int], list[str]]:
    """Index of all bench folders, the sizes of their PDFs, and the PDFs that cannot be read.

    Raises:
        ValueError: a folder has no tests or no PDFs, or no page has a text to compare with.
    """
    urls: list[tuple[str, str]] = []
    pdfs: list[tuple[str, str]] = []
    texts: list[tuple[str, str]] = []
    for folder in options.bench:
        tests = [p for p in files.listing(folder, ".jsonl") if "/" not in files.relative(p, folder)]
        for path in tests:
            for number, row in storage.read_jsonl(path):
                if not isinstance(row, dict) or not row.get("pdf"):
                    raise ValueError(f"{path}, line {number}: a test needs a pdf")
                if row.get("url"):
                    urls.append((str(row["url"]), str(row["pdf"])))
        root = storage.join(folder, "pdfs")
        found = [(p, files.relative(p, root)) for p in files.listing(root, ".pdf")]
        if not tests or not found:
            raise ValueError(f"{folder}: not a bench folder (*.jsonl and pdfs/ with PDFs)")
        pdfs += found
        texts += references(folder)
    read = list(in_order(lambda pdf: layer(pool, *pdf), pdfs, workers=options.workers))
    texts += [entry for entries in read for entry in entries]
    unread = [path for (path, _), entries in zip(pdfs, read, strict=True) if not entries]
    if not texts:
        raise ValueError(f"{', '.join(options.bench)}: no usable PDF in it, as {unread[0]}")
    hashes = [(files.sha256_of(path), name) for path, name in pdfs]
    return BenchIndex(urls, hashes, texts), {files.size_of(path) for path, _ in pdfs}, unread


def references(folder: str) -> Iterator[tuple[str, str]]:
    """Reference transcriptions of a bench folder, if it has any."""
    root = storage.join(folder, "claude_original")
    if storage.exists(root):
        for path in files.listing(root, ".md"):
            yield front_matter.strip(storage.read_text(path)), files.relative(path, root)


def layer(pool: PdfPool, path: str, name: str) -> list[tuple[str, str]]:
    """The text layers of a bench PDF; none if it is unreadable."""
    try:
        count = pool.call("count_pages", path)
        return [(pool.call("page_text", path, page), name) for page in range(1, count + 1)]
    except BadPage:
        return []


def overlap(
    pair: pairs.Pair, url: str | None, index: BenchIndex, sizes: set[int], threshold: float
) -> Overlap | None:
    """Why a pair is contaminated, or None."""
    found = index.by_url(url)
    if found is None and storage.exists(pair.pdf) and files.size_of(pair.pdf) in sizes:
        found = index.by_hash(files.sha256_of(pair.pdf))
    if found is None:
        text = storage.read_bytes(pair.md).decode("utf-8", "replace")
        found = index.by_text(front_matter.strip(text), threshold)
    return found


def set_aside(pair: pairs.Pair, target: str) -> None:
    """Move a pair, the text last; safe to repeat after a kill."""
    aside = files.join_found(target, pair.id)
    for path, end in ((pair.pdf, ".pdf"), (pair.md, ".md")):
        if storage.exists(path):
            files.copy(path, aside + end)
            fs, inner = storage.to_write(path)
            fs.rm(inner)
