"""A local archive: serves images by path, fails on demand, and counts what was asked."""

import io
import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


def picture(form="JPEG", size=(60, 80), frames=1, mode="RGB"):
    """Bytes of a small image."""
    out = io.BytesIO()
    image = Image.effect_noise(size, 60).convert(mode)
    more = {"save_all": True, "append_images": [image] * (frames - 1)} if frames > 1 else {}
    image.save(out, form, **more)
    return out.getvalue()


class ImageServer:
    """`images[path]` are the bodies; `faults[path]` what goes wrong first: a status, "drop" (dies
    before), "short" (dies in the middle of the body).
    """

    def __init__(self, images, faults=None):
        self.images = images
        self.faults = defaultdict(list, {key: list(value) for key, value in (faults or {}).items()})
        self.asked = Counter()
        self.times = []

    def __enter__(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def do_GET(self):
                server.serve(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        return self

    def __exit__(self, *error):
        self.http.shutdown()
        self.http.server_close()

    def serve(self, http):
        self.asked[http.path] += 1
        self.times.append(time.monotonic())
        fault = self.faults[http.path].pop(0) if self.faults[http.path] else None
        body = self.images.get(http.path)
        if fault == "drop":
            http.connection.close()
            return
        if isinstance(fault, int) or body is None:
            http.send_response(fault if isinstance(fault, int) else 404)
            http.send_header("Retry-After", "0")
            http.send_header("Content-Length", "0")
            http.end_headers()
            return
        http.send_response(200)
        http.send_header("Content-Length", str(len(body)))
        http.end_headers()
        http.wfile.write(body[: len(body) // 2] if fault == "short" else body)
