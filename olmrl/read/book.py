"""What has been read, page by page, in a journal; documents are written as they are complete.

    book = Book(out, settings, formats)      reads the journal of an earlier call
    book.open(document, pages)               for each PDF; book.missing(name) says what to read
    book.add(name, page)                     journalled; the last page of a document writes it
    book.close()                             documents with pages that failed this time

kill -9 loses at most the pages in flight. A document's files depend on its pages only, so that a
continued call leaves the same files as an undisturbed one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from olmrl import storage
from olmrl.markup.front_matter import PageResponse
from olmrl.mix import files
from olmrl.mix.journal import Journal
from olmrl.read.documents import Document
from olmrl.read.output import PageText, dolma, markdown, plain_text

STATE = ".read"
"""Folder of the journal, in the output folder."""
BAD_PAGES = "bad_pages.jsonl"
_SUFFIXES = {"markdown": ".md", "text": ".txt"}
_FINAL = ("read", "fallback", "bad")
"""Kinds that are not tried again."""


@dataclass(slots=True)
class _Open:
    """A document with what is known of its pages."""

    path: str
    count: int
    reason: str = ""
    """Why the PDF cannot be opened."""
    settled: set[int] = field(default_factory=set)
    """Pages that need no reading."""
    texts: dict[int, PageText] = field(default_factory=dict)
    """Pages, as long as the document is not written."""
    written: set[str] = field(default_factory=set)
    """Formats in which it was written whole."""


class Book:
    """The pages and documents of one output folder.

    Args:
        out: the folder, local or remote.
        settings: everything that shapes the text; a call with others is refused.
        formats: some of markdown, dolma and text.
        now: ISO time, of the first call if this continues one.

    Raises:
        ValueError: another process works here, or the settings differ from the first call's.
    """

    def __init__(
        self, out: str, settings: Mapping[str, Any], formats: tuple[str, ...], now: str
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Pages by kind, over all calls."""
        self.tokens: Counter[str] = Counter()
        """Prompt and completion tokens, over all calls."""
        self.written = 0
        """Documents written by this call."""
        self._out = out
        self._formats = formats
        self._began = now
        self._documents: dict[str, _Open] = {}
        self._problems: dict[tuple[str, int], dict[str, Any]] = {}
        there = storage.list_files(out) if _is_folder(out) else []
        self._there = {files.relative(path, out) for path in there}
        self._journal = Journal(storage.join(out, STATE), {"verb": "read", **settings})
        for record in self._journal.records:
            self._fold(record)
        if not self._documents:
            self._record({"began": now})

    def unknown(self, documents: list[Document]) -> list[Document]:
        """Documents whose pages have not been counted yet.

        Raises:
            ValueError: a name stands for another PDF in this folder, or what would be written is
                there already, and is not of this command.
        """
        for document in documents:
            known = self._documents.get(document.name)
            if known is not None and known.path != document.path:
                raise ValueError(
                    f"{self._out}: holds {document.name} of {known.path} already, not of "
                    f"{document.path}; choose another output folder"
                )
        fresh = [d for d in documents if d.name not in self._documents]
        strange = sorted(self._there & {file for d in fresh for file in self._files(d.name)})
        if strange:
            raise ValueError(
                f"{self._out}: holds {strange[0]} already, which `olmrl read` did not write and "
                "would replace; choose another output folder"
            )
        return fresh

    def open(self, document: Document, pages: int, reason: str = "") -> None:
        """Note a document.

        Args:
            document: the PDF.
            pages: how many it has; 0 if it cannot be opened.
            reason: why it cannot.
        """
        row = {"document": document.name, "path": document.path, "pages": pages, "reason": reason}
        self._record(row)

    def skip(self, document: Document, reason: str) -> None:
        """Note a document that could not be opened this time; the next call tries again."""
        self._problem(document.path, 0, "failed", reason)

    def missing(self, document: Document) -> list[int]:
        """Numbers of the pages to read, in order; those of a complete document: none."""
        known = self._documents.get(document.name)
        if known is None:
            return []
        return [n for n in range(1, known.count + 1) if n not in known.settled]

    def add(self, name: str, page: PageText) -> None:
        """Note what became of a page; a page that failed is not final, and not journalled."""
        if page.kind in _FINAL:
            self._record({"document": name, "page": page.number, "is": _packed(page)})
            self._write_if_complete(name)
            return
        document = self._documents[name]
        document.texts[page.number] = page
        self._problem(document.path, page.number, page.kind, page.reason)

    def finish(self) -> None:
        """Write what is still to be written: formats asked for anew, documents with failed pages,
        and the list of problems."""
        for name, document in self._documents.items():
            if document.texts and len(document.texts) == document.count:
                self._write(name, document)
        path = storage.join(self._out, BAD_PAGES)
        files.write_lines(path, map(json.dumps, self.problems()))

    def close(self) -> None:
        """Release the journal."""
        self._journal.close()

    def problems(self) -> list[dict[str, Any]]:
        """Pages and documents that are not read, with the reason."""
        return [self._problems[key] for key in sorted(self._problems)]

    @property
    def documents(self) -> int:
        """Documents that could be opened."""
        return len(self._documents) - self.unreadable

    @property
    def unreadable(self) -> int:
        """Documents that could not be opened, for good."""
        return sum(bool(document.reason) for document in self._documents.values())

    def _record(self, record: dict[str, Any]) -> None:
        self._journal.append(record)
        self._fold(record)

    def _fold(self, record: Mapping[str, Any]) -> None:
        if "began" in record:
            self._began = record["began"]
        elif "page" not in record:
            name, path, reason = record["document"], record["path"], record["reason"]
            self._documents[name] = _Open(path, record["pages"], reason)
            if reason:
                self._problem(path, 0, "bad", reason)
        elif record["page"] == "all":
            self._fold_written(record["document"], record["written"])
        else:
            self._fold_page(self._documents[record["document"]], record["page"], record["is"])

    def _fold_page(self, document: _Open, number: int, packed: Mapping[str, Any]) -> None:
        page = _unpacked(number, packed)
        document.settled.add(number)
        document.texts[number] = page
        self.counts[page.kind] += 1
        self.tokens.update(prompt=page.prompt_tokens, completion=page.tokens)
        if page.kind != "read":
            self._problem(document.path, number, page.kind, page.reason)

    def _fold_written(self, name: str, formats: list[str]) -> None:
        """Forget the texts of a document whose files are there."""
        document = self._documents[name]
        document.written.update(formats)
        if document.written >= set(self._formats) and self._there >= set(self._files(name)):
            document.texts = {}

    def _problem(self, path: str, number: int, kind: str, reason: str) -> None:
        row = {"path": path, "page": number, "kind": kind, "reason": reason}
        self._problems[path, number] = row

    @property
    def failed(self) -> int:
        """Pages and documents that could not be read this time; the next call tries again."""
        return sum(row["kind"] == "failed" for row in self._problems.values())

    def _files(self, name: str) -> list[str]:
        """Files of a document, relative to the output folder, one per format."""
        return [
            f"results/{files.slug(name)}.jsonl" if form == "dolma" else name + _SUFFIXES[form]
            for form in self._formats
        ]

    def _write_if_complete(self, name: str) -> None:
        document = self._documents[name]
        if len(document.settled) == document.count:
            self._write(name, document)

    def _write(self, name: str, document: _Open) -> None:
        pages = [document.texts[number] for number in sorted(document.texts)]
        for form, file in zip(self._formats, self._files(name), strict=True):
            files.write_text(storage.join(self._out, file), self._text(form, document.path, pages))
            self._there.add(file)
        self.written += 1
        if len(document.settled) == document.count:
            whole = {"document": name, "page": "all", "written": list(self._formats)}
            self._record(whole)
        document.texts = {}

    def _text(self, form: str, path: str, pages: list[PageText]) -> str:
        if form == "dolma":
            return dolma(path, pages, self._began)
        return markdown(pages) if form == "markdown" else plain_text(pages)


def _is_folder(path: str) -> bool:
    fs, inner = storage.filesystem(path)
    with storage.named(path):
        return bool(fs.isdir(inner))


def _packed(page: PageText) -> dict[str, Any]:
    """A page without what is empty."""
    value = {k: v for k, v in asdict(page).items() if v}
    del value["number"]
    return value


def _unpacked(number: int, value: Mapping[str, Any]) -> PageText:
    response = value.get("response")
    return PageText(number, **{**value, "response": PageResponse(**response) if response else None})
