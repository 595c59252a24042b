"""Reads a bench folder: all tests of all JSONL files, grouped by page.

Layout (docs/formats.md#bench-folder):

bench_data/
  <category>.jsonl             tests, one per line
  pdfs/<sub>/<name>.pdf        a test's "pdf" is relative to pdfs/
  <candidate>/<sub>/<name>_pg{page}_repeat{n}.md
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from olmrl import storage
from olmrl.bench.candidates import PDF_DIR
from olmrl.bench.case import Case, CaseError
from olmrl.bench.cases import load_case
from olmrl.data.render import BadPage, page_count
from olmrl.suffixes import has_suffix
from olmrl.types import REJECTED


@dataclass(frozen=True)
class BenchPage:
    """One page with all its tests, gathered from all files."""

    pdf: str
    """PDF relative to `pdfs/`."""
    page: int
    """1-based page in the PDF."""
    pdf_path: Path
    """Path of the PDF."""
    cases: tuple[Case, ...]
    """Its tests, ordered by file and line."""
    files: tuple[str, ...]
    """The JSONL file name of each case, which is its scoring category."""


@dataclass(frozen=True)
class BenchFolder:
    """All tests of a folder."""

    path: Path
    """The folder that holds the JSONL files and `pdfs/`."""
    pages: tuple[BenchPage, ...]
    """Its pages, sorted by PDF and page number."""
    rejected: tuple[str, ...] = ()
    """Why each test that was left out was, with file and line."""
    judged: frozenset[tuple[str, int]] = frozenset()
    """(PDF, page) of the tests that a person rejected: pages that are not forgotten."""

    @property
    def cases(self) -> list[Case]:
        """All tests, page by page."""
        return [case for page in self.pages for case in page.cases]


def load_folder(
    path: str | Path, *, compat: bool = False, files: str = "", skip_invalid: bool = False
) -> BenchFolder:
    """Loads every test below a bench folder, but for those that a person rejected.

    Args:
        path: The folder, or one of its JSONL files.
        compat: Validate and judge as the public benchmark does; rejected tests count.
        files: Regular expression to find in a JSONL file's name (case-insensitive).
        skip_invalid: Leave out unusable tests and list them in `rejected`.

    Raises:
        CaseError: No folder, no tests, an unreadable line, a test that is invalid or whose PDF is
            missing, or a duplicate id within a file. The message names file and line.
    """
    root = Path(path)
    folder = root.parent if root.is_file() else root
    rejected: list[str] = []
    judged: set[tuple[str, int]] = set()
    pages: dict[tuple[str, int], list[tuple[Case, str]]] = defaultdict(list)
    for file in _jsonl_files(root, files):
        lines_of_ids: dict[str, int] = {}
        for number, line in _lines(file):
            try:
                case = load_case(line, compat=compat)
                if case.id in lines_of_ids:
                    first = lines_of_ids[case.id]
                    raise CaseError(f"the id {case.id!r} is already used in line {first}")
                if not (folder / PDF_DIR / case.pdf).is_file():
                    raise CaseError(f"test {case.id!r}: {PDF_DIR}/{case.pdf} does not exist")
            except CaseError as error:
                message = f"{file}:{number}: {error}"
                if not skip_invalid:
                    raise CaseError(message) from error
                rejected.append(message)
                continue
            lines_of_ids[case.id] = number
            if case.checked == REJECTED and not compat:
                rejected.append(f"{file}:{number}: test {case.id!r} was rejected by a person")
                judged.add((case.pdf, case.page))
                continue
            pages[case.pdf, case.page].append((case, file.name))
    if not pages:
        raise CaseError(f"{root} has no usable tests")
    return BenchFolder(
        folder,
        tuple(
            BenchPage(
                pdf=pdf,
                page=number,
                pdf_path=folder / PDF_DIR / pdf,
                cases=tuple(case for case, _ in found),
                files=tuple(name for _, name in found),
            )
            for (pdf, number), found in sorted(pages.items(), key=lambda item: str(item[0]))
        ),
        tuple(rejected),
        frozenset(judged),
    )


def untested_pages(folder: BenchFolder, baselines: bool) -> list[str]:
    """Pages of the PDFs below `pdfs/` that never had a test, as `name.pdf page 2`.

    Args:
        folder: The loaded tests.
        baselines: Whether the first page of every PDF with tests gets a baseline test.
    """
    tested: dict[str, set[int]] = defaultdict(set)
    for page in folder.pages:
        tested[page.pdf].add(page.page)
    for pdf, number in folder.judged:
        tested[pdf].add(number)
    root = folder.path / PDF_DIR
    missing = []
    for path in sorted(p for p in root.rglob("*") if has_suffix(p.name, ".pdf")):
        name = path.relative_to(root).as_posix()
        try:
            count = page_count(str(path))
        except BadPage as error:
            missing.append(str(error))
            continue
        covered = tested[name] | ({1} if baselines and tested[name] else set())
        missing += [f"{name} page {n}" for n in range(1, count + 1) if n not in covered]
    return missing


def _jsonl_files(root: Path, pattern: str) -> list[Path]:
    try:
        wanted = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise CaseError(f"--files {pattern!r} is not a regular expression: {error}") from error
    if not root.exists():
        raise CaseError(f"{root} does not exist")
    found = [root] if root.is_file() else sorted(root.iterdir())
    found = [path for path in found if has_suffix(path.name, ".jsonl")]
    folder = root.parent if root.is_file() else root
    if not (folder / PDF_DIR).is_dir():
        raise CaseError(f"{folder} has no folder {PDF_DIR}/")
    if not found:
        raise CaseError(f"{root} has no *.jsonl files")
    kept = [file for file in found if wanted.search(file.name)]
    if not kept:
        names = ", ".join(file.name for file in found)
        raise CaseError(f"no JSONL file of {root} matches {pattern!r}; it has {names}")
    return kept


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The non-blank lines of a file with their numbers, from 1."""
    for number, line in storage.jsonl_lines(storage.read_bytes(file)):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise CaseError(f"{file}:{number}: not UTF-8: {error.reason}") from error
        yield number, text
