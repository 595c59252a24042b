"""A local OpenAI-compatible server that answers pages by a script, and PDFs to send it."""

import base64
import io
import json
import threading

from local_server import LocalServer
from PIL import Image
from reportlab.pdfgen.canvas import Canvas

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: {upright}\nrotation_correction: {turn}\n"
    "is_table: False\nis_diagram: False\n---\n"
)


def whole(text, turn=0):
    """A whole answer; `turn` other than 0 calls the page rotated."""
    return HEAD.format(upright=turn == 0, turn=turn) + text


class ReadingServer(LocalServer):
    """Answers each page by `answer(size, attempt)`, where size is of its image.

    An answer is a text, (text, finish reason), or an HTTP status. `before` is called ahead of each
    answer with the number of requests so far.
    """

    def __init__(self, answer, before=lambda number: None):
        self.answer = answer
        self.before = before
        self.asked = []
        """(size, body without the image, headers) of each request."""
        self._lock = threading.Lock()

    @property
    def sizes(self):
        """Of the images, in order."""
        return [size for size, _, _ in self.asked]

    def handle(self, http, method, body):
        body = json.loads(body)
        parts = body.pop("messages")[0]["content"]
        (image,) = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        (body["prompt"],) = [part["text"] for part in parts if part["type"] == "text"]
        body["order"] = [part["type"] for part in parts]
        png = base64.b64decode(image.removeprefix("data:image/png;base64,"))
        size = Image.open(io.BytesIO(png)).size
        with self._lock:
            attempt = sum(known in (size, size[::-1]) for known in self.sizes)
            self.asked.append((size, body, dict(http.headers)))
            number = len(self.asked)
        self.before(number)
        said = self.answer(size, attempt)
        if isinstance(said, int):
            status, value = said, {"error": {"message": f"status {said}", "code": None}}
        else:
            text, reason = said if isinstance(said, tuple) else (said, "stop")
            status = 200
            value = {
                "choices": [{"message": {"content": text}, "finish_reason": reason}],
                "usage": {"prompt_tokens": 100, "completion_tokens": len(text)},
            }
        self.send(http, status, {}, value)


def write_pages(path, widths):
    """A PDF with a page of each width and of height 100 pt, so that its image tells which it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    for width in widths:
        canvas.setPageSize((width, 100))
        canvas.drawString(2, 50, f"layer {width}")
        canvas.showPage()
    canvas.save()
    path.write_bytes(buffer.getvalue())
    return path
