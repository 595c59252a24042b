"""DOCX, LaTeX, Markdown, EPUB, reST and Org documents as HTML, by pandoc; then as `from_html`.

Pandoc reads a user's file behind a fence: in its sandbox, which lets it open nothing but that file,
in a folder of its own, within limits on time, memory and output; no shell word comes from the file.
What a LaTeX file includes from beside it is put in its place beforehand.
"""

from __future__ import annotations

import functools
import math
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

from olmrl import storage
from olmrl.scratch import Scratch
from olmrl.synth.documents.settings import Kind
from olmrl.synth.web.source import MAX_BYTES as MAX_HTML_BYTES

FORMATS = {
    **{".docx": "docx", ".epub": "epub", ".tex": "latex", ".latex": "latex"},
    **{".md": "markdown", ".markdown": "markdown", ".rst": "rst", ".org": "org"},
}
"""Pandoc's reader of each suffix. Not ODT, of which it loses the formulas without a word."""
MAX_BYTES = 64_000_000
"""Largest document that is read."""
TIMEOUT_S = 60.0
"""Seconds that one document may take."""
MEMORY_BYTES = 2 << 30
"""Memory of pandoc for one document."""
OLDEST = (2, 15)
"""The first version with a sandbox."""

_FENCED = """
ulimit -c 0; ulimit -f "$1"; ulimit -t "$2"; ulimit -d "$3" 2>/dev/null
shift 3; exec "$@"
"""
_STEM = "olmrl-untitled"
"""Pandoc makes it the title of a document without one."""
_INCLUDED = re.compile(r"^([^%\n]*?)\\(?:input|include|subfile)\s*\{([^{}]+)\}", re.MULTILINE)
_MAX_INCLUDES = 200


def find_pandoc() -> str:
    """Path of pandoc.

    Raises:
        ValueError: there is none, or one without a sandbox.
    """
    path = shutil.which("pandoc")
    if path is None:
        raise ValueError(
            "from-docs needs pandoc, and there is none on the PATH: install it (Debian: apt-get "
            "install pandoc; others: pandoc.org/installing.html)"
        )
    told = _version(path)
    found = re.match(r"pandoc\S* (\d+)\.(\d+)", told)
    if not found or (int(found[1]), int(found[2])) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise ValueError(
            f"{path}: from-docs needs pandoc {wanted} or later, which has a sandbox; this one says "
            f"{told.splitlines()[0] if told else 'nothing'!r}"
        )
    return path


@functools.cache
def _version(path: str) -> str:
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout


def docs() -> Kind:
    """Documents that pandoc reads.

    Raises:
        ValueError: see `find_pandoc`.
    """
    find_pandoc()
    return Kind("document", "from-docs", tuple(FORMATS), to_html)


def to_html(path: str) -> bytes:
    """HTML of a document, formulas as LaTeX.

    Raises:
        ValueError: why it gives none.
    """
    suffix = PurePosixPath(path).suffix.lower()
    data = storage.read_bytes(path)
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES / 1e6:g} MB")
    if not data.strip():
        raise ValueError("an empty file")
    if FORMATS[suffix] == "latex":
        data = _whole_latex(path, data)
    with Scratch("pandoc") as folder:
        (Path(folder) / f"{_STEM}{suffix}").write_bytes(data)
        return _with_title_block(_run(folder, f"{_STEM}{suffix}", FORMATS[suffix]))


def _with_title_block(made: bytes) -> bytes:
    """Title, authors and abstract as a part of the text, which pandoc calls the page's header."""
    before, mark, rest = made.partition(b'<header id="title-block-header">')
    if mark:
        block, _, after = rest.partition(b"</header>")
        made = before + b"<div>" + block + b"</div>" + after
    return made.replace(f"<title>{_STEM}</title>".encode(), b"<title></title>", 1)


def _run(folder: str, name: str, reader: str) -> bytes:
    limits = (2 * MAX_HTML_BYTES // 512, math.ceil(TIMEOUT_S), MEMORY_BYTES >> 10)
    command = (
        *(
            find_pandoc(),
            "--sandbox",
            "--from",
            reader,
            "--to",
            "html",
            "--standalone",
            "--mathjax",
        ),
        *("--wrap=none", "--no-highlight", "--output", "made.html", name),
    )
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", _FENCED, "sh", *map(str, limits), *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"pandoc took longer than {TIMEOUT_S:g} s") from error
    if done.returncode < 0:
        raise ValueError(
            f"pandoc needs more than {MEMORY_BYTES >> 30} GiB of memory for it, writes more than "
            f"{2 * MAX_HTML_BYTES / 1e6:g} MB, or crashes (signal {-done.returncode})"
        )
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").split("\n")
        told = next((line.strip() for line in reversed(lines) if line.strip()), "")
        raise ValueError(f"pandoc cannot read it ({told[:200] or f'exit code {done.returncode}'})")
    made = Path(folder) / "made.html"
    if made.stat().st_size > MAX_HTML_BYTES:
        raise ValueError(f"larger than {MAX_HTML_BYTES / 1e6:g} MB as HTML")
    return made.read_bytes()


def _whole_latex(path: str, data: bytes) -> bytes:
    """A LaTeX document with what it includes from its own folder or below.

    Raises:
        ValueError: it is a part of another document.
    """
    text = _latin(data)
    if "\\begin{document}" not in text and "\\documentstyle" not in text:
        raise ValueError("a part of another LaTeX document (no \\begin{document})")
    folder = path.rpartition("/")[0]
    left = [_MAX_INCLUDES]

    def put(match: re.Match[str]) -> str:
        name = match[2].strip()
        part = PurePosixPath(name if PurePosixPath(name).suffix else f"{name}.tex")
        beside = storage.join(folder, str(part))
        if part.is_absolute() or ".." in part.parts or not left[0] or not storage.exists(beside):
            return match[0]
        left[0] -= 1
        return match[1] + _INCLUDED.sub(put, _latin(storage.read_bytes(beside)[:MAX_BYTES]))

    whole = _INCLUDED.sub(put, text).encode()
    if len(whole) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES / 1e6:g} MB with what it includes")
    return whole


def _latin(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
