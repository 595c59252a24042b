"""Pages and tests with known truth, and a tiny model to read them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from olmrl import shipped, storage
from olmrl.arguments import ArgumentParser, positive
from olmrl.door import behind_door
from olmrl.errors import check_all
from olmrl.markup.browser import is_sandboxed
from olmrl.models.registry import FAMILIES, family
from olmrl.printable import printable
from olmrl.progress import waiting
from olmrl.run.quiet import quiet_libraries
from olmrl.synth.making import extras

if TYPE_CHECKING:
    from olmrl.synth.documents.settings import Kind


def _parser(prog: str, verb: str) -> argparse.ArgumentParser:
    parser = ArgumentParser(prog, description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    pages = verbs.add_parser("pages", help="PDF pages with markdown truth and unit tests")
    pages.add_argument("out", help="folder to write: train/, heldout/, sft*/")
    pages.add_argument("--train", type=int, default=256, help="bench pages to train on")
    pages.add_argument("--heldout", type=int, default=64, help="bench pages to test on")
    pages.add_argument("--sft", type=int, default=0, help="page pairs with imperfect labels")
    pages.add_argument("--clean", type=int, default=0, help="page pairs with true labels")
    pages.add_argument("--seed", type=int, default=0)
    pages.add_argument("--difficulty", type=int, default=1, help="1 (easiest) to 3")
    pages.add_argument(
        "--whole-lines",
        action="store_true",
        help="tests ask for whole lines of text (default: two words, order of single words)",
    )
    pages.add_argument(
        "--habit",
        action="append",
        default=[],
        metavar="NAME=RATE",
        help="how often a habit appears in the labels of sft/ (repeatable), e.g. endless=0",
    )
    model = verbs.add_parser("model", help="a tiny, randomly initialised model")
    model.add_argument("out", help="folder to write")
    model.add_argument(
        "--texts",
        "--pages",
        nargs="+",
        required=True,
        help="files or folders with .md and .txt texts to train the tokenizer on",
    )
    model.add_argument("--size", default="tiny", help="tiny or small")
    model.add_argument(
        "--family", default="qwen2_5_vl", help=f"one of {', '.join(FAMILIES)} (default qwen2_5_vl)"
    )
    model.add_argument("--vocab-size", type=positive, default=640)
    model.add_argument("--seed", type=int, default=0)
    tests = verbs.add_parser("tests", help="unit tests from pages with known truth")
    tests.add_argument("pairs", help="folder with X.pdf + X.md or X.html, searched recursively")
    tests.add_argument("out", help="bench folder to write")
    tests.add_argument("--seed", type=int, default=0)
    tests.add_argument("--max-tests", type=int, default=40, help="maximum tests per page")
    tests.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    web = verbs.add_parser("from-html", help="pages and proven tests from your own HTML")
    web.add_argument("source", help="folder with .html files, searched recursively")
    _add_page_options(web)
    docs = verbs.add_parser(
        "from-docs", help="the same from DOCX, LaTeX, Markdown, EPUB, reST and Org (pandoc)"
    )
    docs.add_argument("source", help="folder with documents, searched recursively")
    _add_page_options(docs)
    pdfs = verbs.add_parser(
        "from-pdfs",
        help="pages and proven tests like those of your PDFs, written by a vision model",
    )
    if verb == "from-pdfs":
        _add_pdf_arguments(pdfs)
    templates = verbs.add_parser("templates", help="what from-pdfs asks, to be edited")
    templates.add_argument("out", help="folder for orientation.md, layout.md, html.md, ...")
    return parser


def _add_page_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "out", help="folder to write: bench/, pairs/, sheet/, manifest.jsonl, report.json"
    )
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument(
        "--pages-per-document", type=positive, default=4, help="most pages of one file"
    )
    verb.add_argument("--documents", type=positive, help="most files, drawn by seed (default: all)")
    verb.add_argument("--max-tests", type=positive, default=40, help="maximum tests per page")
    verb.add_argument(
        "--language",
        default="en",
        metavar="XX",
        help="of documents in Latin letters that name no language (default en)",
    )
    verb.add_argument("--workers", type=positive, default=os.cpu_count() or 1, help="browsers")
    verb.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="set pages on Ray: `local` starts Ray here, else a cluster's address (auto, "
        "ray://...), whose nodes must all see SOURCE and OUT and have Chromium",
    )
    extras.add_arguments(verb)


# The imports of the heavy halves are deferred: drawing and reading pages takes a second of CPU, a
# model's code ten.


def _add_pdf_arguments(parser: argparse.ArgumentParser) -> None:
    try:
        from olmrl.synth.pdfs.options import add_arguments
    except ModuleNotFoundError as error:
        raise ValueError(
            f"needs the package {error.name}: pip install 'olmrl[mix,chromium]'"
        ) from error
    add_arguments(parser)


def _rates(settings: Sequence[str]) -> dict[str, float]:
    from olmrl.synth.invented.labels import RATES

    rates = dict(RATES)
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            rates[name] = float(value)
        except ValueError:
            raise ValueError(f"--habit {setting!r}: expected NAME=RATE, RATE in 0..1") from None
    return rates


def _pages(options: argparse.Namespace) -> str:
    from olmrl.synth.pages import write_data_set

    folder = write_data_set(
        options.out,
        train=options.train,
        heldout=options.heldout,
        sft=options.sft,
        clean=options.clean,
        seed=options.seed,
        difficulty=options.difficulty,
        rates=_rates(options.habit),
        whole_lines=options.whole_lines,
    )
    return (
        f"{folder}: {options.train} training, {options.heldout} held-out pages, "
        f"{options.sft + options.clean} page pairs"
    )


def _check_text(place: str) -> None:
    if not os.path.exists(shipped.find(place)):
        raise ValueError(f"--texts {place}: no such file or folder")


def _check_out(options: argparse.Namespace) -> None:
    """The folder to write can be one, and is not the one that is read."""
    storage.check_target(options.out)
    source = getattr(options, "source", None) or getattr(options, "pairs", None)
    if source is not None and os.path.realpath(source) == os.path.realpath(options.out):
        raise ValueError(f"{options.out}: is the folder that is read; name another one to write")


def _model(options: argparse.Namespace) -> str:
    check_all(
        *(partial(_check_text, place) for place in options.texts),
        partial(_check_out, options),
        partial(family, options.family, "--family"),
    )
    with waiting("making the model"):
        # Deferred: torch and transformers take seconds to import, and `pages` needs neither.
        from transformers.utils.logging import disable_progress_bar

        from olmrl.synth.model import gather_texts, make_model

        disable_progress_bar()
        folder = make_model(
            gather_texts(options.texts),
            options.out,
            size=options.size,
            vocab_size=options.vocab_size,
            seed=options.seed,
            family=options.family,
        )
    return f"{folder}: a {options.size} {FAMILIES[options.family].title}"


def _tests(options: argparse.Namespace) -> str:
    from olmrl.synth.derived.folder import derive_folder

    report = derive_folder(
        options.pairs,
        options.out,
        seed=options.seed,
        most=options.max_tests,
        workers=options.workers,
    )
    kinds = ", ".join(f"{count} {kind}" for kind, count in report["per_type"].items())
    lines = [f"{options.out}: {report['tests']} tests on {report['pages']} pages ({kinds})"]
    barren = report["pages_without_tests"]
    lines += [f"  no test from {name}: {why}" for name, why in _first(barren, 5)]
    if barren:
        reasons = f"{options.out}/derive_report.json"
        lines.append(f"  {len(barren)} pages without tests in all; every reason: {reasons}")
    return "\n".join(lines)


def _from_html(options: argparse.Namespace) -> str:
    from olmrl.synth.documents.settings import HTML

    return _make_pages(options, HTML)


def _from_docs(options: argparse.Namespace) -> str:
    from olmrl.synth.documents.from_docs import docs

    return _make_pages(options, docs())


def _make_pages(options: argparse.Namespace, kind: Kind) -> str:
    from olmrl.synth.documents.from_html import from_html
    from olmrl.synth.documents.settings import Settings

    settings = Settings(
        seed=options.seed,
        pages_per_document=options.pages_per_document,
        documents=options.documents,
        most_tests=options.max_tests,
        language=options.language,
        extras=extras.from_options(options),
    )
    report = from_html(options.source, options.out, settings, options.workers, kind, options.ray)
    told, kinds = report["documents"], report["per_type"].items()
    lines = [
        f"{options.out}: {report['tests']} tests on {report['pages']} of {_attempts(report)} pages "
        f"({', '.join(f'{count} {kind}' for kind, count in kinds)})",
        f"  {told['found']} documents, {told['copies']} of them copies of others; {told['taken']} "
        f"taken: {told['with_pages']} gave pages, {told['taken'] - told['with_pages']} did not"
        + (f"; {told['unreadable']} could not be read" if told["unreadable"] else ""),
    ]
    lines += [f"  left out: {count} x {what}" for what, count in _first(told["left_out"], 5)]
    lines += [f"  no page from {name}: {why}" for name, why in _first(told["without_pages"], 5)]
    lines += [
        f"  no test from {name}: {why}" for name, why in _first(report["pages_without_tests"], 5)
    ]
    if not is_sandboxed():
        lines.append("  Chromium ran without its own sandbox: it has none for root")
    lines += extras.told(report)
    lines.append(f"  look at {options.out}/sheet/index.html; all reasons are in report.json")
    return "\n".join(lines)


def _attempts(report: dict[str, Any]) -> int:
    """How many pages there might have been."""
    pictured = sum(counts.get("pages", 0) for counts in report.get("variants", {}).values())
    pages_set: int = report["documents"]["pages_set"]
    return pages_set + int(pictured)


def _from_pdfs(options: argparse.Namespace) -> str:
    from olmrl.synth.pdfs.commands import run

    return run(options)


def _templates(options: argparse.Namespace) -> str:
    from olmrl.synth.pdfs.template_files import write_templates

    return "\n".join(write_templates(options.out))


def _first(told: dict[str, Any], count: int) -> Iterator[tuple[str, Any]]:
    return islice(told.items(), count)


def main(arguments: Sequence[str] | None = None, prog: str = "python -m olmrl.synth") -> int:
    """Run one verb; a user error ends in one sentence and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verb = given[0] if given else ""
    quiet_libraries()

    def work() -> None:
        options = _parser(prog, verb).parse_args(given)
        verbs = {
            **{"pages": _pages, "model": _model, "tests": _tests},
            **{"from-html": _from_html, "from-docs": _from_docs},
            **{"from-pdfs": _from_pdfs, "templates": _templates},
        }
        if options.verb != "model":  # which says all that is wrong at once
            _check_out(options)
        print(printable(verbs[options.verb](options)))

    return behind_door(f"{prog} {verb}", work, stopped="stopped; the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
