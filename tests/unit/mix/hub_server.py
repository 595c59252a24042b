"""A local Hugging Face hub: serves one data set from a folder, by HTTP."""

import hashlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """`repo` is OWNER/NAME; every other id is unknown."""

    def __init__(self, repo, folder):
        self.repo = repo
        self.folder = folder
        self.sent = Counter()

    def __enter__(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def do_GET(self):
                server.serve(self, True)

            def do_HEAD(self):
                server.serve(self, False)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        return self

    def __exit__(self, *error):
        self.http.shutdown()
        self.http.server_close()

    def names(self):
        files = (p for p in sorted(self.folder.rglob("*")) if p.is_file())
        return [str(p.relative_to(self.folder)) for p in files if ".mix" not in p.parts]

    def serve(self, http, body):
        path = unquote(urlsplit(http.path).path)
        if path.startswith(f"/api/datasets/{self.repo}/tree/"):
            rows = [
                {"type": "file", "path": name, "oid": "0" * 40,
                 "size": (self.folder / name).stat().st_size}
                for name in self.names()
            ]  # fmt: skip
            return self.send(http, json.dumps(rows).encode(), {}, body)
        if path.startswith(f"/api/datasets/{self.repo}"):
            info = {"id": self.repo, "sha": COMMIT, "tags": [], "private": False, "gated": False}
            info["siblings"] = [{"rfilename": name} for name in self.names()]
            return self.send(http, json.dumps(info).encode(), {}, body)
        start = f"/datasets/{self.repo}/resolve/{COMMIT}/"
        name = path.removeprefix(start)
        if path.startswith(start) and name in self.names():
            data = (self.folder / name).read_bytes()
            tag = hashlib.sha256(data).hexdigest()
            self.sent[name] += body
            return self.send(http, data, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, body)
        http.send_response(404)
        http.send_header("X-Error-Code", "RepoNotFound")
        http.send_header("Content-Length", "0")
        http.end_headers()

    def send(self, http, data, headers, body):
        http.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            http.send_header(key, value)
        http.end_headers()
        if body:
            http.wfile.write(data)
