"""A page on this machine that follows a run: `olmrl report RUN --serve`.

    browser --every 3 s--> state: what has changed --> parts of the page, made and escaped here

Only loopback is served. The address holds a key, so that neither another user of the machine nor a
page of the web can read the run; requests under another host's name are refused (DNS rebinding).
Nothing is written, and no request names a file: pictures are found by the name that the run gave.
"""

from __future__ import annotations

import errno
import json
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from olmrl.errors import sentence
from olmrl.report import views
from olmrl.report.follow import run_views
from olmrl.report.groups import ORDERS, chosen
from olmrl.report.html import TEMPLATES
from olmrl.run.directory import RunDirectory

HOST = "127.0.0.1"
_LOOK_S = 1.0
"""Shortest time between two looks at the run directories."""
_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
_PICTURE = re.compile(r"pages/[0-9a-f]{16}\.png")
_HTML, _JSON = "text/html; charset=utf-8", "application/json"
_FILES = {"run.css": "text/css; charset=utf-8", "run.js": "text/javascript; charset=utf-8"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Missing(Exception):
    """What was asked for is not there; the message is for the one who asks."""


class Site:
    """What is answered to each request; safe for many threads."""

    def __init__(self, directories: Sequence[RunDirectory]) -> None:
        self.views = run_views(directories)
        self._lock = threading.Lock()
        self._looked = -_LOOK_S
        self._answers: dict[str, Callable[[dict[str, str]], tuple[str, bytes]]] = {
            "": self._document,
            "state": self._state,
            "part": self._part,
            "heldout": self._heldout,
            "groups": self._groups,
            "group": self._group,
            "picture": self._picture,
        }

    def answer(self, name: str, asked: dict[str, str]) -> tuple[str, bytes]:
        """Content type and body.

        Args:
            name: what is asked for; "" is the page.
            asked: the query.

        Raises:
            _Missing: there is no such thing.
        """
        if name in _FILES:
            return _FILES[name], (TEMPLATES / name).read_bytes()
        if name not in self._answers:
            raise _Missing(f"{name}: no such address")
        with self._lock:
            if time.monotonic() - self._looked >= _LOOK_S:
                for view in self.views:
                    view.update()
                self._looked = time.monotonic()
            return self._answers[name](asked)

    def _document(self, asked: dict[str, str]) -> tuple[str, bytes]:
        return _HTML, _bytes(views.document(self.views, None))

    def _state(self, asked: dict[str, str]) -> tuple[str, bytes]:
        rows = [view.metrics.rows for view in self.views]
        evaluations = [[one["name"] for one in view.evaluations] for view in self.views]
        newest = [[view.recorded_groups, *(g.name for g in view.groups[:1])] for view in self.views]
        listed = [_sizes(view.directory.path) for view in self.views]
        state = {
            "status": [view.status() for view in self.views],
            "recorded": views.recorded(self.views),
            "steps": views.heldout_steps(self.views),
            "pages": views.heldout_pages(self.views),
            "stamps": {
                "answer": str([rows, evaluations]),
                "curves": str(rows),
                "time": str(rows),
                "heldout": str(evaluations),
                "groups": str(newest),
                "lists": str(listed),
            },
        }
        return _JSON, json.dumps(state).encode()

    def _part(self, asked: dict[str, str]) -> tuple[str, bytes]:
        name = asked.get("name", "")
        if name == "curves":
            return _HTML, _bytes(views.part("curves", views.sections(self.views)))
        macros = {"answer": "answers", "time": "times", "lists": "lists"}
        if name not in macros:
            raise _Missing(f"part {name}: parts are curves, {', '.join(macros)}")
        return _HTML, _bytes(views.part(macros[name], [views.run_shown(v) for v in self.views]))

    def _heldout(self, asked: dict[str, str]) -> tuple[str, bytes]:
        step, page_id = _number(asked, "step"), asked.get("page", "")
        found = [views.panel(view, page_id, step) for view in self.views]
        pages = [(n, page) for n, (_, page) in enumerate(found) if page is not None]
        if not pages:
            raise _Missing(f"{page_id}: no transcription up to step {step}")
        number, page = pages[0]
        return _HTML, _bytes(
            views.part(
                "heldout_sheet",
                _address(number, page["image"]),
                page["reference"],
                [(view.name, panel) for view, (panel, _) in zip(self.views, found, strict=True)],
            )
        )

    def _groups(self, asked: dict[str, str]) -> tuple[str, bytes]:
        order = asked.get("order", "")
        if order not in ORDERS:
            raise _Missing(f"order {order}: orders are {', '.join(ORDERS)}")
        lines = [
            views.group_line(group, number, view.name if len(self.views) > 1 else None)
            for number, view in enumerate(self.views)
            for group in chosen(view.groups, order)
        ]
        return _HTML, _bytes(views.part("group_lines", views.merged(lines, order)))

    def _group(self, asked: dict[str, str]) -> tuple[str, bytes]:
        number = self._run(asked)
        group = self.views[number].group(asked.get("name", ""))
        if group is None:
            raise _Missing("the run no longer holds this group")
        shown = views.group_shown(group, _address(number, group["image"]))
        return _HTML, _bytes(views.part("group_card", shown))

    def _picture(self, asked: dict[str, str]) -> tuple[str, bytes]:
        path = asked.get("path", "")
        if not _PICTURE.fullmatch(path):
            raise _Missing("no such picture")
        try:
            return "image/png", (self.views[self._run(asked)].directory.path / path).read_bytes()
        except OSError as error:
            raise _Missing("no such picture") from error

    def _run(self, asked: dict[str, str]) -> int:
        number = _number(asked, "run")
        if number >= len(self.views):
            raise _Missing(f"run {number}: {len(self.views)} are shown")
        return number


class Server(ThreadingHTTPServer):
    """Serves a site on loopback, under an address that holds a key."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, site: Site, port: int) -> None:
        """Take the port; 0 takes a free one.

        Raises:
            ValueError: another process uses it.
        """
        self.site = site
        self.key = secrets.token_urlsafe(12)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                reason = "is taken" if error.errno == errno.EADDRINUSE else "needs more rights"
                raise ValueError(
                    f"--port {port}: {reason}; choose another, or 0 for a free one"
                ) from error
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away; anything else is a fault of ours."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """What to open."""
        return f"http://{HOST}:{self.server_address[1]}/{self.key}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "olmrl"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """Answer a request."""
        asked = urlsplit(self.path)
        host = self.headers.get("Host", "")
        if re.sub(r":\d+$", "", host).lower() not in _LOOPBACK:
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"this page is served to localhost only")
            return
        _, key, *rest = [*asked.path.split("/"), ""][:4]
        if not secrets.compare_digest(key.encode(), self.server.key.encode()):
            text = b"The address holds a key: take it from the terminal where olmrl report runs."
            self._send(HTTPStatus.NOT_FOUND, "text/plain", text)
            return
        query = {name: values[-1] for name, values in parse_qs(asked.query).items()}
        try:
            kind, body = self.server.site.answer(rest[0], query)
        except _Missing as missing:
            self._send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", _bytes(str(missing)))
            return
        except (OSError, ValueError) as error:  # the folder was removed, config.yaml is broken
            text = _bytes(sentence(error))
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", text)
            return
        self._send(HTTPStatus.OK, kind, body)

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is for the address."""


def _address(run: int, path: str) -> str | None:
    """Where a page's picture is served."""
    return f"picture?run={run}&path={quote(path)}" if _PICTURE.fullmatch(path) else None


def _number(asked: dict[str, str], name: str) -> int:
    text = asked.get(name, "")
    if not re.fullmatch(r"\d{1,9}", text):
        raise _Missing(f"{name}: {text!r} is not a number")
    return int(text)


def _sizes(path: Path) -> list[int]:
    files = [path / name for name in ("bad_pages.jsonl", "dropped_groups.jsonl", "config.yaml")]
    return [file.stat().st_size if file.exists() else 0 for file in files]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "xmlcharrefreplace")
