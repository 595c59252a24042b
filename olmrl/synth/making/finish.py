"""From derived pages to finished ones: benchmarks' pages go, variants come, a manifest tells all.

finish = Finish(extras, facts, seed=seed, workers=workers)
write_proven(..., finish=finish.bench, told=finish.told)
finish.write(out)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from olmrl import storage
from olmrl.mix.sheet import SheetPage, sentence
from olmrl.synth.cleaning.against import overlapping
from olmrl.synth.derived.bench_rows import BenchRows, Row, pdf_of, told_apart
from olmrl.synth.derived.typo_tests import typo_tests
from olmrl.synth.making.extras import Extras, Reader
from olmrl.synth.making.reader import read_pages
from olmrl.synth.variants.pictured import add_variants


@dataclass
class Finish:
    """Finishes the bench folder of one call.

    Args:
        extras: What the user asked for.
        facts: What is known of each page that was set, by its name: `source`, `source_page`,
            `licence`, `seconds`; `variant` with `of` and how it was made; of pages that models
            wrote `model`, `template`, `cost_usd`.
        seed: Of the run.
        workers: Processes.
    """

    extras: Extras
    facts: Mapping[str, Mapping[str, Any]]
    seed: int
    workers: int
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The manifest, by page."""

    def bench(self, folder: Path, pages: Path, report: dict[str, Any]) -> None:
        """Change a derived folder in place.

        Args:
            folder: Bench folder.
            pages: Folder with X.pdf and X.md of its pages, and those that gave no test.
            report: Of `derive_folder`; gets `tests_per_page` of what is left.

        Raises:
            ValueError: a folder of `against` is no bench folder, or no page is left.
        """
        bench = BenchRows(folder)
        for name in report["tests_per_page"]:
            self.rows[name] = {"page": name, **self.facts.get(name, {})}
        self._drop_known(bench, pages, report)
        self._add_typo_tests(bench, pages, report)
        self._add_variants(bench, pages, report)
        if self.extras.reader is not None:
            self._ask_reader(bench, self.extras.reader, report)
        bench.write()
        self._count(bench, report)

    def _drop_known(self, bench: BenchRows, pages: Path, report: dict[str, Any]) -> None:
        if not self.extras.against:
            return
        truths = [(name, pages / f"{name}.md") for name in report["tests_per_page"]]
        known = overlapping(truths, self.extras.against, self.workers)
        for name, reason in known.items():
            self.rows[name]["dropped"] = reason
        bench.keep(lambda row: Path(row["pdf"]).stem not in known)
        report["in_benches"] = known
        if known and not bench.pages():
            first = next(iter(known.values()))
            raise ValueError(f"--against: every page occurs in a bench; the first {first}")

    def _add_typo_tests(self, bench: BenchRows, pages: Path, report: dict[str, Any]) -> None:
        refused: Counter[str] = Counter()
        for page in bench.pages():
            row = self.rows[page.name]
            if "typos" not in row:
                continue
            truths = ((pages / f"{name}.md").read_text("utf-8") for name in (row["of"], page.name))
            path = str(pdf_of(bench.folder, page))
            tests, reasons = typo_tests(page.pdf, path, row["typos"], *truths)
            bench.files.setdefault("text_present.jsonl", []).extend(tests)
            row["typo_tests"] = len(tests)
            refused += reasons
        if refused:
            report["rejected_candidates"] |= {f"typo: {why}": n for why, n in refused.items()}

    def _add_variants(self, bench: BenchRows, pages: Path, report: dict[str, Any]) -> None:
        sources = [page for page in bench.pages() if "variant" not in self.rows[page.name]]
        told: dict[str, Counter[str]] = {}
        made = add_variants(bench, self.extras.variants, self.seed, self.workers, sources)
        for variant in made:
            counted = told.setdefault(variant.kind, Counter())
            counted += variant.dropped
            if variant.page is None:
                counted["pages without"] += 1
                continue
            counted["pages"] += 1
            name = variant.page.name
            storage.write_bytes(pages / f"{name}.pdf", variant.pdf)
            storage.write_text(pages / f"{name}.md", variant.truth)
            source = {k: v for k, v in self.rows[variant.source].items() if k not in _OWN}
            self.rows[name] = source | {
                "page": name,
                "variant": variant.kind,
                "of": variant.source,
                "made": variant.facts,
                "tests_dropped": dict(variant.dropped),
            }
        if told:
            report["variants"] = {kind: dict(counts) for kind, counts in told.items()}

    def _ask_reader(self, bench: BenchRows, reader: Reader, report: dict[str, Any]) -> None:
        """Drop the pages that the second reader cannot read, and list the tests that it fails.

        Raises:
            ValueError: no page is left.
        """
        asked = [p for p in bench.pages() if self.rows[p.name].get("variant") != "rotate"]
        answers = bench.folder.parent / "reader"
        verdicts = read_pages(bench.folder, asked, reader, answers)
        failed: dict[str, set[str]] = {}
        for page in asked:
            verdict = verdicts[page.name]
            self.rows[page.name] |= verdict.row | {"reader_told": verdict.sentence}
            rows = [row for _, row in page.tests if row["id"] in verdict.failed]
            self.rows[page.name]["reader_failed"] = [sentence(row) for row in rows]
            failed[page.name] = {told_apart(row) for row in rows}
        refused = {name: v.refused for name, v in verdicts.items() if v.refused}
        for name, row in self.rows.items():
            if row.get("of") in refused:
                refused.setdefault(name, "the second reader drops its source page")
            if name in refused:
                row.setdefault("dropped", refused[name])

        def stays(row: Row) -> bool:
            name = Path(row["pdf"]).stem
            judged = name if name in failed else str(self.rows[name]["of"])
            known_bad = reader.strict and told_apart(row) in failed.get(judged, ())
            return name not in refused and not known_bad

        before = sum(map(len, bench.files.values()))
        bench.keep(stays)
        report["reader"] = {
            "model": reader.model,
            "pages_read": sum(bool(verdict.tests) for verdict in verdicts.values()),
            "pages_dropped": refused,
            "tests_failed": sum(map(len, failed.values())),
            "tests_dropped": before - sum(map(len, bench.files.values())),
        }
        if not bench.pages():
            first = next(iter(refused.values()), "it fails every test")
            raise ValueError(f"--reader {reader.model}: no page is left; e.g. {first}")

    def _count(self, bench: BenchRows, report: dict[str, Any]) -> None:
        left = bench.pages()
        report["tests_per_page"] = {page.name: len(page.tests) for page in left}
        per_type = Counter(row["type"] for page in left for _, row in page.tests)
        report |= {"pages": len(left), "tests": per_type.total()}
        report["per_type"] = dict(per_type.most_common())
        for page in left:
            self.rows[page.name] |= {"pdf": page.pdf, "tests": len(page.tests)}

    def told(self, page: SheetPage) -> SheetPage:
        """Add to the sheet what is known of a page."""
        row = self.rows[page.name]
        checks = [f"test dropped: {n} x {why}" for why, n in row.get("tests_dropped", {}).items()]
        fails = [f"the second reader fails: {test}" for test in row.get("reader_failed", ())]
        return replace(
            page,
            failed_checks=(*page.failed_checks, *checks),
            notes=(*page.notes, *fails),
            reader_verdict=row.get("reader_told"),
        )

    def source_of(self, name: str) -> str:
        """The page that a page is a variant of; itself if it is none."""
        return str(self.rows.get(name, {}).get("of", name))

    def write(
        self,
        out: str,
        others: Iterable[str] = (),
        base: Callable[[str], Mapping[str, Any]] = lambda name: {},
    ) -> None:
        """Write OUT/manifest.jsonl.

        Args:
            out: Folder.
            others: Names of further pages, which were not finished.
            base: What else is known of a page that is no variant; a variant's row has it too.
        """
        rows = []
        for name in sorted({*self.rows, *others}):
            source = self.source_of(name)
            known = {k: v for k, v in base(source).items() if name == source or k not in _OWN}
            row = {**known, **self.rows.get(name, {})}
            rows.append({k: v for k, v in row.items() if k not in _SHEET_ONLY})
        storage.write_jsonl(storage.join(out, "manifest.jsonl"), rows)


_SHEET_ONLY = ("reader_told", "reader_failed")
_OWN = (
    *("tests", "typo_tests", "pdf", "seconds", "cost_usd"),
    *("calls_made", "prompt_tokens", "completion_tokens"),
)
"""Keys of a manifest row that are of one page, and not of its variants."""
