"""Judge sampled pages in the browser: g good, b bad with a reason, arrows move.

Serves a page on this machine only. Each mark is written to OUTPUT/marks.jsonl at once, so a review
can be stopped and resumed at any time. --report prints the error rate with its 95 % interval and
writes summary.json; `filter --marks` drops the bad pages.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import secrets
from collections import Counter
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from olmrl import storage
from olmrl.arguments import positive, whole
from olmrl.data.render import BadPage
from olmrl.errors import sentence
from olmrl.mix import files, pairs
from olmrl.mix.pdf import PageImage
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.review_marks import MarkFile, error_rate
from olmrl.mix.sheet import content_policy

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
IMAGE_SIDE = 1400
"""Longer side of the displayed page, in pixels."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("pairs", help="folder of page pairs")
    parser.add_argument("output", help="local folder for marks.jsonl and summary.json")
    parser.add_argument("--sample", type=positive, default=200, help="pages to judge")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=whole(0, 65535), default=8765, help="0: any free port")
    parser.add_argument("--report", action="store_true", help="print the report and exit")


def run(options: argparse.Namespace) -> int:
    """Serve the review, or report; see the module."""
    if storage.is_remote(options.output):
        raise ValueError(f"{options.output}: marks need a local folder")
    if storage.exists(storage.join(options.pairs, "pdfs")):
        raise ValueError(
            f"{options.pairs}: has a folder pdfs/, as bench folders have; `mix review-tests` "
            "judges their tests"
        )
    storage.check_target(options.output)
    chosen = choose(options.pairs, options.sample, options.seed)
    marks = MarkFile(os.path.join(options.output, "marks.jsonl"))
    summary = report(options, chosen, marks)
    print_line(json.dumps(summary["error_rate"]))
    if options.report:
        return 0
    with PdfPool(2) as pool:
        review = Review(chosen, marks, pool)
        server = serve(review, options.port)
        print_line(f"http://127.0.0.1:{server.server_address[1]}/{review.key}/  (Ctrl-C ends)")
        try:
            server.serve_forever()
        finally:
            server.server_close()
            report(options, chosen, marks)
    return 0


def print_line(text: str) -> None:
    """Print without buffering, also into a pipe."""
    os.write(1, (text + "\n").encode("utf-8"))


def choose(folder: str, size: int, seed: int) -> list[pairs.Pair]:
    """The pages to judge: a seeded sample in random order.

    Raises:
        ValueError: there are none, or none has a PDF to show.
    """
    found = pairs.scan(folder).pairs
    if not any(storage.exists(pair.pdf) for pair in found):
        raise ValueError(f"{folder}: none of its page pairs has a PDF beside it, as {found[0].pdf}")
    return random.Random(seed).sample(found, min(size, len(found)))


def report(
    options: argparse.Namespace, chosen: list[pairs.Pair], marks: MarkFile
) -> dict[str, Any]:
    """Write and return the summary of the marks on the chosen pages."""
    known = [marks.marks[pair.id] for pair in chosen if pair.id in marks.marks]
    bad = [mark for mark in known if mark.verdict == "bad"]
    share, low, high = error_rate(len(bad), len(known))
    summary = {
        "verb": "review",
        "pairs": options.pairs,
        "sample": len(chosen),
        "seed": options.seed,
        "judged": len(known),
        "error_rate": {
            "judged": len(known),
            "bad": len(bad),
            "share": round(share, 4),
            "low_95": round(low, 4),
            "high_95": round(high, 4),
        },
        "reasons": dict(Counter(mark.reason for mark in bad).most_common()),
    }
    files.write_json(os.path.join(options.output, "summary.json"), summary)
    return summary


class Review:
    """What the browser can ask for.

    Args:
        chosen: Pages to judge.
        marks: Their verdicts.
        pool: Renders pages.
    """

    def __init__(self, chosen: list[pairs.Pair], marks: MarkFile, pool: PdfPool) -> None:
        self.chosen = chosen
        self.marks = marks
        self.pool = pool
        self.image = lru_cache(maxsize=32)(self._image)
        self.key = secrets.token_urlsafe(12)
        page = (Path(__file__).parent.parent / "templates" / "review.html").read_text("utf-8")
        self.html = page.encode("utf-8")
        script, style = (inside(page, tag) for tag in ("script", "style"))
        self.policy = f"{content_policy(script, style)}; connect-src 'self'; frame-ancestors 'none'"

    def _image(self, index: int) -> bytes:
        call = ("page_image", self.chosen[index].pdf, 1, IMAGE_SIDE, "webp")
        image: PageImage = self.pool.call(*call)
        return image.data

    def state(self) -> dict[str, Any]:
        """All pages with their marks, and the error rate."""
        ids = [pair.id for pair in self.chosen]
        found = {i: self.marks.marks[i]._asdict() for i in ids if i in self.marks.marks}
        bad = sum(mark["verdict"] == "bad" for mark in found.values())
        return {"ids": ids, "marks": found, "rate": error_rate(bad, len(found))}

    def text(self, index: int) -> str:
        """The markdown of a page."""
        return storage.read_document(self.chosen[index].md)


def inside(page: str, tag: str) -> str:
    """What the only element of a name holds, byte for byte."""
    return page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]


def serve(review: Review, port: int) -> ThreadingHTTPServer:
    """A server on loopback, whose address holds a key: other users reach loopback too.

    Raises:
        ValueError: the port cannot be had.
    """
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, review))
    except OSError as error:
        raise ValueError(f"--port {port}: {sentence(error)}; 0 takes a free one") from error
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, review: Review, *arguments: Any) -> None:
        self.review = review
        super().__init__(*arguments)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Do not log requests."""

    def do_GET(self) -> None:
        """Pages, images, texts and the state."""
        name = self._asked()
        if name is None:
            return
        index = (parse_qs(urlsplit(self.path).query).get("i") or ["0"])[0]
        if not re.fullmatch(r"[0-9]{1,9}", index) or int(index) >= len(self.review.chosen):
            return self._send(404, "text/plain", b"no such page")
        if name == "":
            return self._send(200, "text/html; charset=utf-8", self.review.html)
        if name == "state":
            return self._send_json(self.review.state())
        try:
            if name == "text":
                text = self.review.text(int(index)).encode("utf-8")
                return self._send(200, "text/plain; charset=utf-8", text)
            if name == "image":
                return self._send(200, "image/webp", self.review.image(int(index)))
        except (BadPage, OSError, ValueError) as bad:
            return self._send(404, "text/plain; charset=utf-8", storage.shown(str(bad)).encode())
        return self._send(404, "text/plain", b"no such address")

    def do_POST(self) -> None:
        """Store a mark. Only JSON is accepted: no other web site can make a browser send that."""
        if self._asked() is None:
            return
        size = self.headers.get("Content-Length") or ""
        small = re.fullmatch(r"[0-9]{1,4}", size) and int(size) > 0
        if self.headers.get("Content-Type") != "application/json" or not small:
            return self._send(400, "text/plain", b"a mark is a small JSON object")
        try:
            self.review.marks.add(storage.json_value(self.rfile.read(int(size)), "the mark"))
        except ValueError as error:
            return self._send(400, "text/plain; charset=utf-8", storage.shown(str(error)).encode())
        return self._send_json(self.review.state())

    def _asked(self) -> str | None:
        """What is asked for; None, after a refusal, from who has no key or under another name."""
        host = re.sub(r":\d+$", "", self.headers.get("Host", "")).lower()
        if host not in _LOOPBACK:  # DNS rebinding
            self._send(403, "text/plain", b"this page is served to localhost only")
            return None
        _, key, *rest = [*urlsplit(self.path).path.split("/"), ""][:4]
        if not secrets.compare_digest(key.encode(), self.review.key.encode()):
            self._send(404, "text/plain", b"the address holds a key: take it from the terminal")
            return None
        return rest[0]

    def _send_json(self, value: Any) -> None:
        self._send(200, "application/json", json.dumps(value).encode("ascii"))

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", self.review.policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(body)
