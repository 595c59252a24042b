"""Bench folder -> the same with a share of its PDFs turned by 90, 180 or 270 degrees.

Tests stay as they are. The references of a turned PDF (claude_original/) say how to turn it back.
All other PDFs and references are links (copies on s3://); other candidates' texts are left out.
Which PDFs are turned follows from --seed and their names. The test files are written last, so that
a folder that was not finished is no bench folder.
"""

# See docs/formats.md#rotation

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from olmrl import storage
from olmrl.arguments import real
from olmrl.data.page import REFERENCE_FOLDER, bench_files, scan_bench
from olmrl.data.render import BadPage, UnreadPage
from olmrl.markup import front_matter
from olmrl.mix import files
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.run import Fail, Outcome, Run, Skip, add_run_arguments, process
from olmrl.suffixes import of_kind

ANGLES = (90, 180, 270)
"""Degrees clockwise by which a PDF can be turned."""

_REFERENCE = re.compile(r"(.+)_pg\d+_repeat\d+\.md")
_NUMBERED = re.compile(r"(.+)_page\d+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("bench", help="bench folder (local or s3://)")
    parser.add_argument("output", help="bench folder to make")
    parser.add_argument(
        "--share", type=real(0, 1, above=True), default=0.05, help="of the PDFs (default 0.05)"
    )
    parser.add_argument("--seed", type=int, default=0)
    add_run_arguments(parser, workers=4)


@dataclass(frozen=True)
class Bench:
    """What a bench folder holds besides its test files."""

    root: str
    references: dict[str, list[str]]
    """Names below the reference folder, by PDF below `pdfs/`; sorted."""


def run(options: argparse.Namespace) -> int:
    """Turn the pages; see the module."""
    files.check_apart(options.bench, options.output)
    bench = read_bench(options.bench)
    angles = choose(bench, options.share, options.seed)
    if not angles:
        count = len(bench.references)
        raise ValueError(f"{options.bench}: --share {options.share:g} of its {count} PDFs is none")
    settings = {k: getattr(options, k) for k in ("bench", "share", "seed")}
    settings["pdfs_sha256"] = _digest("\n".join(bench.references)).hex()[:16]
    total = len(bench.references)
    with (
        Run("rotate", options.output, settings, state=options.state, total=total) as verb,
        PdfPool(options.workers) as pool,
    ):

        def work(pdf: str) -> Outcome:
            return carry(bench, pdf, angles.get(pdf, 0), options.output, pool)

        process(verb, ((pdf, pdf) for pdf in bench.references), work, workers=options.workers)
        left = {key for key, (status, _, _) in verb.problems.items() if status == "skipped"}
        turned = {pdf: angles[pdf] for pdf in sorted(angles) if pdf not in left}
        verb.notes["turned_clockwise"] = turned
        verb.progress.say(f"{len(turned)} of {total} PDFs turned, {len(left)} could not be")
        if not turned and not verb.counts["failed"]:
            raise verb.useless(options.bench, f"PDF (of the {len(angles)} drawn to be turned)")
        if verb.counts["failed"]:
            return 1
        for path in bench_files(bench.root):
            files.copy(path, storage.join(options.output, path.rpartition("/")[2]))
    return 0


def read_bench(root: str) -> Bench:
    """Find what has to be carried over.

    Raises:
        ValueError: not a bench folder, without tests, or with a damaged row (file and line).
    """
    scan_bench(root)
    pdfs = storage.join(root, "pdfs")
    found = (files.relative(p, pdfs) for p in files.listing(pdfs, ".pdf"))
    references: dict[str, list[str]] = {pdf: [] for pdf in sorted(found)}
    folder = storage.join(root, REFERENCE_FOLDER)
    if storage.exists(folder):
        pdf_of = of_kind(references, ".pdf").by_stem
        for path in files.listing(folder, ".md"):
            name = files.relative(path, folder)
            for stem in _stems(name):
                if stem in pdf_of:
                    references[pdf_of[stem]].append(name)
    return Bench(root, references)


def _stems(reference: str) -> list[str]:
    """PDFs, without suffix, that a reference may belong to, by either way of naming it."""
    own = _REFERENCE.fullmatch(reference)
    if own is None:
        return []
    public = _NUMBERED.fullmatch(own[1])
    return [own[1], public[1]] if public else [own[1]]


def choose(bench: Bench, share: float, seed: int) -> dict[str, int]:
    """The PDFs to turn, and their degrees clockwise.

    Raises:
        ValueError: two PDFs that would be turned differently share a reference.
    """
    pdfs = list(bench.references)
    drawn = {pdf: _digest(f"{seed}/{pdf}") for pdf in pdfs}
    ranked = sorted(pdfs, key=drawn.__getitem__)
    angles = {pdf: ANGLES[drawn[pdf][-1] % 3] for pdf in ranked[: round(share * len(pdfs))]}
    first: dict[str, str] = {}
    for pdf, names in bench.references.items():
        for name in names:
            other = first.setdefault(name, pdf)
            if angles.get(other) != angles.get(pdf):
                raise ValueError(
                    f"{_path(bench.root, name)} belongs to both {other} and {pdf}, which would be "
                    "turned differently; rename one of them or take another --seed"
                )
    return angles


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def carry(bench: Bench, pdf: str, degrees: int, output: str, pool: PdfPool) -> Outcome:
    """Bring one PDF and its references into the output, turned if asked.

    Raises:
        Skip: it cannot be turned; it was brought over as it is.
        Fail: it cannot be read now.
    """
    source = storage.join(bench.root, "pdfs", pdf)
    target = storage.join(output, "pdfs", pdf)
    names = bench.references[pdf]
    if degrees:
        try:
            texts = [turned_reference(_path(bench.root, name), degrees) for name in names]
            data: bytes = pool.call("turned", source, degrees)
        except UnreadPage as error:
            raise Fail(error.reason) from error
        except ValueError as error:
            _bring(bench, names, source, target, output)
            reason = error.reason if isinstance(error, BadPage) else str(error)
            raise Skip(f"left as it is: {reason}") from error
        for name, text in zip(names, texts, strict=True):
            files.write(_path(output, name), text.encode("utf-8"))
        files.write(target, data)
    else:
        _bring(bench, names, source, target, output)
    return Outcome(facts={"turned": 1} if degrees else {})


def _bring(bench: Bench, names: Sequence[str], source: str, target: str, output: str) -> None:
    for name in names:
        files.place(_path(bench.root, name), _path(output, name))
    files.place(source, target)


def _path(root: str, name: str) -> str:
    return storage.join(root, REFERENCE_FOLDER, name)


def turned_reference(path: str, degrees: int) -> str:
    """The reference of a page that was turned clockwise; without front matter, as it is.

    Raises:
        ValueError: its front matter is incomplete or cannot be read.
    """
    text = storage.read_document(path)
    if not front_matter.split(text)[0]:
        return text
    try:
        old = front_matter.parse(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    correction = (old.rotation_correction + degrees) % 360
    return front_matter.format(
        replace(old, is_rotation_valid=correction == 0, rotation_correction=correction)
    )
