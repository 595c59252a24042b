"""The card of a data set of page pairs, from what `stats` counted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from olmrl.share.cards import front_matter, plain, table
from olmrl.share.upload import TAG

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))
"""The Hub's names for numbers of rows, by their upper bound."""
_MOST_LANGUAGES = 12


class Table(NamedTuple):
    """A parquet file of the data set."""

    file: str
    subset: str
    split: str
    rows: int


def data_set_card(
    counts: Mapping[str, Any],
    *,
    name: str,
    tables: Sequence[Table] = (),
    licence: Mapping[str, str | None] | None = None,
) -> str:
    """The card as markdown.

    Args:
        counts: what `stats` wrote into stats.json.
        name: of the data set.
        tables: its parquet files, if it is packaged.
        licence: `license`, and with `other` `license_name` and `license_link`.
    """
    pages = sum(one.rows for one in tables) or counts["pages"]
    codes = [code for code in counts["languages"] if re.fullmatch("[a-z]{2,3}", str(code))]
    head = front_matter(
        {
            **(licence or {}),
            "task_categories": ["image-to-text"],
            "language": codes,
            "size_categories": [_size(pages)],
            "tags": ["ocr", "document", TAG],
            "configs": _configs(tables),
        }
    )
    unit, size = counts["unit"], counts["size"]
    parts = [
        f"{head}\n# {plain(name)}",
        f"{pages:,} document pages as pairs of a one-page PDF and its text: markdown with a front "
        "matter that names language, rotation, tables and diagrams.",
    ]
    if licence:
        parts.append(f"Licence: {plain(licence.get('license_name') or licence['license'])}.")
    if tables:
        rows = [(one.subset, one.split, one.file, f"{one.rows:,}") for one in tables]
        parts += ["## Files", table(("subset", "split", "file", "pages"), rows)]
        parts.append(_use(name, tables[0]))
    subsets = [(label, f"{one['pages']:,}") for label, one in counts["subsets"].items()]
    parts += ["## Pages", table(("folder", "pages"), subsets)]
    lengths = [(what, f"{size[what]:,}") for what in ("mean", "p5", "p50", "p95", "p99", "sum")]
    parts += [f"## Length in {plain(unit)}", table(("", unit), lengths)]
    shown = list(counts["languages"].items())[:_MOST_LANGUAGES]
    parts += ["## Languages", table(("language", "pages"), [(k, f"{v:,}") for k, v in shown])]
    shares = [(what, f"{share:.1%}") for what, share in counts["shares"].items()]
    parts += ["## Kinds of pages", table(("pages that are, or have", "share"), shares)]
    parts.append("Counted by `olmrl mix stats`.")
    return "\n\n".join(parts) + "\n"


def _use(name: str, first: Table) -> str:
    return (
        "The PDFs lie in tarballs, the text in the parquet files. As folders to train on:\n\n"
        f"    olmrl mix hub-prepare --dataset-path {name} --subset {first.subset} "
        f"--split {first.split} --destination pages"
    )


def _size(pages: int) -> str:
    return next((label for bound, label in _SIZES if pages < bound), "n>1M")


def _configs(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """Subsets and splits, as the Hub's viewer wants them."""
    subsets: dict[str, list[dict[str, str]]] = {}
    for one in tables:
        subsets.setdefault(one.subset, []).append({"split": one.split, "path": one.file})
    return [{"config_name": name, "data_files": found} for name, found in subsets.items()]
