"""The two layouts of olmOCR-mix on Hugging Face: names, columns, ids, safe unpacking."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from olmrl.markup.front_matter import ROTATIONS, PageResponse
from olmrl.mix import files
from olmrl.mix.responses import FIELDS, language
from olmrl.suffixes import has_suffix

Layout = Literal["0225", "1025"]

SUBSETS = ("00_documents", "01_books", "02_loc_transcripts", "03_national_archives")
"""Subsets of mix-1025."""

MAX_MEMBER_BYTES = 1 << 30
"""Largest file that will be unpacked from a tarball."""

_TRUE, _FALSE = frozenset(("true", "1", "yes", "y")), frozenset(("false", "0", "no", "n"))


class Names(NamedTuple):
    """Files of one subset and split in a data set."""

    parquet: str
    """File name of the table."""
    tarballs: str
    """Prefix of the tarballs' names below `pdf_tarballs/`; "" matches all of them."""


def names(layout: Layout, subset: str | None, split: str) -> Names:
    """File names of a subset and split.

    Args:
        layout: `0225` (`train-s2pdf.parquet`) or `1025` (`00_documents_train.parquet`).
        subset: e.g. `s2pdf` or `00_documents`; None: the one in the split's name (`train_s2pdf`).
        split: `train` or `eval`; in 0225 also the combined names `train_s2pdf`, `eval_iabooks`.

    Raises:
        ValueError: the subset is missing.
    """
    if layout == "0225":
        if subset is None:
            split, _, subset = split.partition("_")
        if split not in ("train", "eval") or subset not in ("s2pdf", "iabooks"):
            raise ValueError(
                f"mix-0225 has the splits train_s2pdf, eval_s2pdf, train_iabooks and eval_iabooks, "
                f"not {split}_{subset}"
            )
        return Names(f"{split}-{subset}.parquet", "")
    if not subset:
        raise ValueError(f"--subset is missing; mix-1025 has {', '.join(SUBSETS)}")
    return Names(f"{subset}_{split}.parquet", f"{subset}_{split}_")


def pair_id(layout: Layout, doc_id: str) -> str:
    """Relative name of the page pair with this document id.

    Raises:
        ValueError: the id is unsafe, or (0225) too short to split.
    """
    if layout == "0225" and "/" not in doc_id:
        if len(doc_id) <= 4:
            raise ValueError(f"id {doc_id!r} has 4 characters or fewer")
        return files.safe_relative(f"{doc_id[:4]}/{doc_id[4:]}")
    return files.safe_relative(doc_id)


def response_of(row: Mapping[str, Any]) -> tuple[PageResponse, dict[str, Any]]:
    """The typed record of a table row, and the remaining fields of its `extras`.

    Reads `response` (JSON text or object, 0225) or the six columns (1025), with `extras` on top.
    Values are coerced as the public tool does: booleans may be text; a rotation that is not one of
    the four becomes 0.

    Raises:
        ValueError: the JSON is broken or the record has the wrong types.
    """
    values = _object(row.get("response"), "response")
    if not values:
        values = {name: row.get(name) for name in FIELDS}
    values = {**values, **_object(row.get("extras"), "extras")}
    text = _null(values.get("natural_text"))
    rotation = _number(values.get("rotation_correction"))
    try:
        response = PageResponse(
            primary_language=language(_null(values.get("primary_language"))),
            is_rotation_valid=_bool(values.get("is_rotation_valid"), True),
            rotation_correction=rotation if rotation in ROTATIONS else 0,
            is_table=_bool(values.get("is_table"), False),
            is_diagram=_bool(values.get("is_diagram"), False),
            natural_text=(text.strip() or None) if isinstance(text, str) else text,
        )
    except TypeError as error:
        raise ValueError(str(error)) from error
    return response, {key: value for key, value in values.items() if key not in FIELDS}


def _object(value: Any, name: str) -> dict[str, Any]:
    value = _null(value)
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except json.JSONDecodeError as error:
            raise ValueError(f"column {name} is not JSON ({error.msg})") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"column {name} is not a JSON object")
    return value


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value


def _bool(value: Any, default: bool) -> bool:
    value = _null(value)
    if isinstance(value, str):
        text = value.strip().lower()
        return True if text in _TRUE else False if text in _FALSE else default
    return default if value is None else bool(value)


def _number(value: Any) -> int:
    try:
        return int(_null(value) or 0)
    except (TypeError, ValueError):
        return 0


def unpack(tarball: str, folder: str) -> Iterator[tuple[str, str | None]]:
    """Unpack the PDFs of a tarball atomically; existing ones of the same size are kept.

    Args:
        tarball: Local path of a .tar.gz (or .tar).
        folder: Local folder.

    Yields:
        (member name, None), or (member name, why it was left out): links, devices, absolute names,
        names with `..`, anything but .pdf, files above `MAX_MEMBER_BYTES`.

    Raises:
        ValueError: the tarball itself is broken.
    """
    try:
        with tarfile.open(tarball, "r|*") as archive:
            for member in archive:
                if not member.isdir():
                    yield member.name, _unpack_one(archive, member, folder)
    except Exception as error:  # of tarfile and what it unpacks with: no list is complete
        if isinstance(error, OSError) and error.errno in files.FATAL:
            raise
        raise ValueError(f"{tarball}: broken tarball ({error})") from error


def _unpack_one(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: str) -> str | None:
    if not member.isreg():
        return "not a regular file (links are not unpacked)"
    if not has_suffix(member.name, ".pdf"):
        return "not a .pdf"
    if member.size > MAX_MEMBER_BYTES:
        return f"{member.size} bytes, more than {MAX_MEMBER_BYTES}"
    try:
        target = files.join_inside(folder, member.name)
    except ValueError as error:
        return str(error)
    if os.path.isfile(target) and os.path.getsize(target) == member.size:
        return None
    stream = archive.extractfile(member)
    assert stream is not None
    files.write(target, stream.read())
    return None
