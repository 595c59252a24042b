"""The pages that a model wrote as finished folders: bench, pairs, sheet and manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from olmrl.mix.sheet import SheetPage
from olmrl.synth.asking.template import Template
from olmrl.synth.making.finish import Finish
from olmrl.synth.making.proven import write_proven
from olmrl.synth.pdfs.book import Book
from olmrl.synth.pdfs.settings import Settings, terms_of


def write_folders(
    out: str,
    work: Path,
    book: Book,
    settings: Settings,
    templates: Mapping[str, Template],
    workers: int,
    typos: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Bench folder, pairs, sheet and manifest of the pages that bear their tests out."""
    if not book.made:
        reasons = Counter((book.postponed | book.dropped).values()).most_common(3)
        told = "; ".join(f"{count} x {reason}" for reason, count in reasons)
        raise ValueError(f"none of {len(book.pages)} pages was made ({told})")
    finish = Finish(settings.extras, typos, settings.choice.seed, workers)
    report = write_proven(
        out,
        work,
        sorted({*book.made, *typos}),
        seed=settings.choice.seed,
        most_tests=settings.most_tests,
        workers=workers,
        told=lambda page: finish.told(_known(book, finish, page)),
        finish=finish.bench,
    )
    finish.write(out, book.pages, lambda name: _row(name, book, settings, templates, report))
    ledger = book.ledger
    totals = sum(ledger.by_page.values(), Counter[str]())
    report["made"] = len(book.made)
    report["dropped"] = book.dropped
    report["not_this_time"] = book.postponed
    report["asked"] = {
        "model": settings.model,
        "answered_as": dict(ledger.models.most_common()),
        "calls": dict(sorted(ledger.calls.items())),
        **{name: round(value, 6) for name, value in sorted(totals.items())},
    }
    return report


def _known(book: Book, finish: Finish, page: SheetPage) -> SheetPage:
    """What the sheet tells of a page besides the render, truth and tests."""
    name = finish.source_of(page.name)
    record = book.made[name]
    left = tuple(
        f"left out of the HTML: {count} x {what}" for what, count in record["left"].items()
    )
    cost = float(book.ledger.by_page[page.name]["cost_usd"])
    picture = book.work / "pages" / f"{name}.jpg"
    return replace(
        page,
        # the source page shows what the redacted one must not
        source_picture=None if finish.extras.redact else picture.read_bytes(),
        notes=(record["likeness_told"], *left),
        cost=cost if cost else None,
    )


def _row(
    name: str,
    book: Book,
    settings: Settings,
    templates: Mapping[str, Template],
    report: Mapping[str, Any],
) -> dict[str, Any]:
    """One page in the manifest."""
    page, record = book.pages[name], dict(book.made.get(name, {}))
    record.pop("mark", None)
    record.pop("likeness_told", None)
    reason = book.dropped.get(name) or book.postponed.get(name)
    why = reason or report["pages_without_tests"].get(name)
    spent = book.ledger.by_page[name]
    price = terms_of(settings, 1.0).known_price
    return {
        "page": name,
        "source": page.source,
        "source_page": page.number,
        "model": settings.model,
        "answered_as": dict(book.ledger.models_of[name]),
        "templates": {
            stage: {"version": template.version, "sha256": template.digest}
            for stage, template in templates.items()
        },
        **({"licence": settings.extras.licence} if settings.extras.licence else {}),
        "price_per_million_tokens": list(price) if price else None,
        **record,
        **{key: round(value, 6) for key, value in sorted(spent.items())},
        "tests": report["tests_per_page"].get(name, 0),
        **({"dropped": why} if why else {}),
    }
