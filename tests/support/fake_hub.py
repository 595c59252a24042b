"""A Hugging Face Hub on this machine, as far as its client needs it to receive files."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_a_token_that_must_not_be_seen"
SMALL = 1000
"""Larger files are kept apart, by their SHA-256."""


@dataclass
class Repo:
    """A repository: content by name, and what it is."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


class FakeHub:
    """Holds `repos` by "model/org/name" or "dataset/org/name"; `sent` are the large files sent."""

    def __init__(self):
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.sent: list[str] = []
        self.requests: list[str] = []
        self.fail_after: int | None = None
        """Large files after which the line breaks."""
        self.may_write = True

    def __enter__(self):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def answer(self, status, value, headers=()):
                body = json.dumps(value).encode()
                self.send_response(status)
                for name, text in headers:
                    self.send_header(name, text)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle_any(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                path = unquote(urlsplit(self.path).path)
                hub.requests.append(f"{self.command} {path}")
                authorised = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                if not authorised and not path.startswith("/large/"):
                    return self.answer(401, {"error": "Invalid credentials"})
                return hub.serve(self, path, body)

            do_GET = do_POST = do_PUT = handle_any

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        return self

    def __exit__(self, *error):
        self.http.shutdown()
        self.http.server_close()

    def serve(self, http, path, body):
        if path == "/api/validate-yaml":
            return http.answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(http, json.loads(body))
        if path.startswith("/large/"):
            return self.receive(http, path.removeprefix("/large/"), body)
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.batch(http, json.loads(body))
        kind, _, rest = path.removeprefix("/api/").partition("s/")
        name = "/".join(rest.split("/")[:2])
        repo = self.repos.get(f"{kind}/{name}")
        if repo is None:
            return http.answer(404, {"error": "Not found"}, [("X-Error-Code", "RepoNotFound")])
        if "/preupload/" in rest:
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if f["size"] > SMALL else "regular"}
                for f in files
            ]  # fmt: skip
            return http.answer(200, {"files": modes})
        if "/commit/" in rest:
            return self.commit(http, repo, body, kind, name)
        return http.answer(200, self.describe(name, repo))

    def create(self, http, given):
        if not self.may_write:
            return http.answer(403, {"error": "You don't have the rights"})
        name = f"{given.get('type', 'model')}/{given['organization']}/{given['name']}"
        private = given.get("private", given.get("visibility") == "private")
        self.repos[name] = Repo(private, {".gitattributes": b"* text"}, ["first"])
        place = name.removeprefix("model/").replace("dataset/", "datasets/", 1)
        return http.answer(200, {"url": f"{self.url}/{place}"})

    def describe(self, name, repo):
        siblings = []
        for file, data in repo.files.items():
            blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
            row = {"rfilename": file, "size": len(data), "blobId": blob}
            if len(data) > SMALL:
                sha256 = hashlib.sha256(data).hexdigest()
                row["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 128}
            siblings.append(row)
        return {
            "id": name, "private": repo.private, "siblings": siblings, "sha": self.head(repo),
            "tags": self.tags(repo), "gated": False, "disabled": False, "downloads": 0, "likes": 0,
        }  # fmt: skip

    def head(self, repo):
        return hashlib.sha1("".join(repo.commits).encode()).hexdigest()

    def tags(self, repo):
        card = repo.files.get("README.md", b"").decode()
        return (yaml.safe_load(card.split("---")[1]) or {}).get("tags", []) if card else []

    def batch(self, http, given):
        objects = []
        for one in given["objects"]:
            row = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.large:
                row["actions"] = {"upload": {"href": f"{self.url}/large/{one['oid']}"}}
            objects.append(row)
        return http.answer(200, {"transfer": "basic", "objects": objects})

    def receive(self, http, oid, body):
        if self.fail_after is not None and len(self.sent) >= self.fail_after:
            return http.answer(400, {"error": "the line broke"})
        assert hashlib.sha256(body).hexdigest() == oid
        self.large[oid] = body
        self.sent.append(oid)
        return http.answer(200, {})

    def commit(self, http, repo, body, kind, name):
        for line in body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "header":
                if value.get("parentCommit") not in (None, self.head(repo)):
                    return http.answer(412, {"error": "A commit has happened since"})
                repo.commits.append(value["summary"])
            elif row["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                repo.files[value["path"]] = self.large[value["oid"]]
            elif row["key"] == "deletedFile":
                del repo.files[value["path"]]
        oid = self.head(repo)
        place = f"{'datasets/' if kind == 'dataset' else ''}{name}"
        return http.answer(200, {"commitUrl": f"{self.url}/{place}/commit/{oid}", "commitOid": oid})
