"""A local HTTP server that speaks OpenAI's Files, Batches and Chat API, and fails on demand."""

import email.parser
import email.policy
import json
import os
import signal
import threading
import time
from collections import Counter
from urllib.parse import parse_qs, urlsplit

from local_server import LocalServer


class OpenAIServer(LocalServer):
    """State of one account.

    `plan[custom_id]` lists what becomes of a request at its successive submissions: "ok", an HTTP
    status such as 429, "expired", or "lost" (no line at all); when used up, "ok".
    `faults` is called before each request with its running number and "METHOD /path" and may give
    "drop" (handled, then the connection dies), "refuse" (dies unhandled), "kill" (handled, then
    `victim` dies), "kill-before", or a (status, headers, body) tuple.
    """

    key = "test-key"

    def __init__(self, answer, plan=None, faults=None, polls=2, page_size=2):
        self.answer = answer
        self.plan = {key: list(value) for key, value in (plan or {}).items()}
        self.faults = faults or (lambda number, request: None)
        self.polls = polls
        self.page_size = page_size
        self.batch_failures = []
        self.victim = None
        self.files = {}
        self.batches = {}
        self.polled = Counter()
        self.paid = Counter()
        self.chats = Counter()
        self.requests = []
        self.most_in_flight = 0
        self.lock = threading.Lock()

    def handle(self, http, method, body):
        with self.lock:
            number = len(self.requests)
            name = f"{method} {urlsplit(http.path).path}"
            self.requests.append(name)
            fault = self.faults(number, name)
        if fault == "kill-before":
            self.kill()
        if fault in ("refuse", "kill-before"):
            return self.hang_up(http)
        if isinstance(fault, tuple):
            return self.send(http, *fault)
        if http.headers.get("Authorization") != f"Bearer {self.key}":
            return self.send(http, *error(401, "invalid_api_key", "wrong key"))
        with self.lock:
            status, headers, answer = self.route(http, method, body)
        if fault == "kill":
            self.kill()
        if fault in ("drop", "kill"):
            return self.hang_up(http)
        self.send(http, status, headers, answer)

    def kill(self):
        # wait until the process exists for us and is known
        deadline = time.monotonic() + 5
        while self.victim is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(self.victim.pid, signal.SIGKILL)
        self.victim.wait()

    def route(self, http, method, body):
        url = urlsplit(http.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        parts = url.path.removeprefix("/v1/").split("/")
        if parts == ["chat", "completions"]:
            return self.chat(http, json.loads(body))
        if parts == ["files"]:
            if method == "POST":
                return self.upload(http, body)
            return self.page([{"id": i, **f["meta"]} for i, f in self.files.items()], query)
        if parts[0] == "files":
            return self.file(method, parts)
        if parts == ["batches"]:
            if method == "POST":
                return self.create(json.loads(body))
            return self.page(list(reversed(self.batches.values())), query)
        return self.poll(parts[1])

    def page(self, items, query):
        start = 0
        if "after" in query:
            start = [item["id"] for item in items].index(query["after"]) + 1
        shown = items[start : start + self.page_size]
        more = start + self.page_size < len(items)
        return 200, {}, {"object": "list", "data": shown, "has_more": more}

    def upload(self, http, body):
        head = f"Content-Type: {http.headers['Content-Type']}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        fields = {p.get_param("name", header="content-disposition"): p for p in form.iter_parts()}
        content = fields["file"].get_payload(decode=True)
        for line in content.splitlines():
            json.loads(line)
        return 200, {}, self.add_file(content, fields["file"].get_filename())

    def add_file(self, content, name):
        file_id = f"file-{len(self.files)}"
        meta = {"filename": name, "bytes": len(content), "purpose": "batch", "status": "processed"}
        self.files[file_id] = {"content": content, "meta": meta}
        return {"id": file_id, **meta}

    def file(self, method, parts):
        if self.files.get(parts[1]) is None or self.files[parts[1]]["content"] is None:
            return error(404, "not_found", "no such file")
        if method == "DELETE":
            self.files[parts[1]]["content"] = None
            self.files[parts[1]]["meta"]["filename"] = "deleted"
            return 200, {}, {"id": parts[1], "deleted": True}
        return 200, {}, self.files[parts[1]]["content"]

    def create(self, body):
        if body["input_file_id"] not in self.files:
            return error(400, "invalid_request_error", "no such input file")
        batch_id = f"batch_{len(self.batches)}"
        self.batches[batch_id] = {
            "id": batch_id,
            "object": "batch",
            "status": "in_progress",
            **body,
            "output_file_id": None,
            "error_file_id": None,
        }
        active = [b for b in self.batches.values() if b["status"] == "in_progress"]
        used = sum(self.files[b["input_file_id"]]["meta"]["bytes"] for b in active)
        self.most_in_flight = max(self.most_in_flight, used)
        return 200, {}, self.batches[batch_id]

    def poll(self, batch_id):
        batch = self.batches.get(batch_id)
        if batch is None:
            return error(404, "not_found", "no such batch")
        self.polled[batch_id] += 1
        if batch["status"] == "in_progress" and self.polled[batch_id] >= self.polls:
            self.finish(batch)
        return 200, {}, batch

    def finish(self, batch):
        if self.batch_failures:
            code = self.batch_failures.pop(0)
            batch["status"] = "failed"
            batch["errors"] = {"data": [{"code": code, "message": f"batch says {code}"}]}
            return
        good, bad, expired = [], [], False
        for line in self.files[batch["input_file_id"]]["content"].splitlines():
            row = json.loads(line)
            fate = (self.plan.get(row["custom_id"]) or ["ok"]).pop(0)
            base = {"id": f"r-{len(good)}-{len(bad)}", "custom_id": row["custom_id"]}
            if fate == "ok":
                self.paid[row["custom_id"]] += 1
                reply = self.answer(row["custom_id"], row["body"])
                response = {"status_code": 200, "request_id": "x", "body": reply}
                good.insert(0, {**base, "response": response, "error": None})
            elif fate == "expired":
                expired = True
                error_row = {"code": "batch_expired", "message": "too late"}
                bad.append({**base, "response": None, "error": error_row})
            elif fate != "lost":
                body = {"error": {"message": f"status {fate}"}}
                bad.append({**base, "response": {"status_code": fate, "body": body}, "error": None})
        batch["status"] = "expired" if expired else "completed"
        for kind, rows in (("output", good), ("error", bad)):
            if rows:
                content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
                batch[f"{kind}_file_id"] = self.add_file(content, f"{kind}.jsonl")["id"]

    def chat(self, http, body):
        key = http.headers["Idempotency-Key"]
        self.chats[key] += 1
        reply = self.answer(key, body)
        return reply if isinstance(reply, tuple) else (200, {}, reply)


def error(status, code, message):
    return status, {}, {"error": {"code": code, "message": message}}


def completion(content, finish="stop", refusal=None, model="gpt-4.1", tokens=(1000, 100)):
    """Body of a chat completion; `content` is made JSON unless it is text."""
    text = content if isinstance(content, str) or content is None else json.dumps(content)
    message = {"role": "assistant", "content": text, "refusal": refusal}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


def page_answer(**changes):
    """The six fields of a plain English page."""
    return {
        "primary_language": "en",
        "is_rotation_valid": True,
        "rotation_correction": 0,
        "is_table": False,
        "is_diagram": False,
        "natural_text": "Some text.",
        **changes,
    }
