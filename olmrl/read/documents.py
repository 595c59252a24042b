"""Which PDFs to read: files and folders, local or remote, each with a name of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from olmrl import storage
from olmrl.mix import files
from olmrl.suffixes import cut_suffix


class Document(NamedTuple):
    """One PDF."""

    name: str
    """Path below the folder that was given, or the file's name; without `.pdf`."""
    path: str
    """Local path or URL."""


def find_documents(places: Sequence[str]) -> list[Document]:
    """The PDFs in files and folders, sorted by name.

    Raises:
        ValueError: a place does not exist or holds no PDF, or two PDFs have the same name.
    """
    found: dict[str, Document] = {}
    for place in places:
        for document in _in_place(place):
            other = found.setdefault(document.name, document)
            if other.path != document.path:
                raise ValueError(
                    f"{other.path} and {document.path} would both be written as {document.name}; "
                    "name a folder that holds both"
                    if os.path.dirname(other.path) != os.path.dirname(document.path)
                    else f"{other.path} and {document.path} would both be written as "
                    f"{document.name}; rename one of them"
                )
    return [found[name] for name in sorted(found)]


def _in_place(place: str) -> Iterator[Document]:
    if not storage.is_remote(place):  # whoever reads the texts later may stand in another folder
        place = os.path.abspath(place.removeprefix("file://"))
    fs, inner = storage.filesystem(place)
    with storage.named(place):
        is_file, is_folder = fs.isfile(inner), fs.isdir(inner)
    if is_file:
        yield Document(_named(PurePosixPath(place).name), place)
        return
    if not is_folder:
        raise ValueError(f"{place}: no such file or folder")
    pdfs = files.listing(place, ".pdf")
    if not pdfs:
        raise ValueError(f"{place}: holds no PDF")
    for path in pdfs:
        yield Document(_named(files.relative(path, place)), path)


def _named(relative: str) -> str:
    """The name without `.pdf`; a slug if it could not be a path of its own."""
    name = cut_suffix(relative, ".pdf")
    try:
        return files.safe_relative(name)
    except ValueError:
        return files.slug(name)
