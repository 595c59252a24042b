"""A vision model's endpoint by script: it knows its pages, and answers each stage well or badly."""

import base64
import hashlib
from collections import Counter, defaultdict

from openai_server import OpenAIServer, completion

TELLS = {
    "orientation": "how its text stands",
    "layout": "how it is laid out",
    "html": "Typeset the page",
    "refine": "The first image is a page",
    "densify": "twice as",
}
"""Words by which a stage's prompt is known."""


def upright(turn=0, blank=False, legible=True):
    """An answer to the question how a page stands."""
    return {"rotation_correction": turn, "is_blank": blank, "is_legible": legible}


def looks(columns=1, language="en"):
    """An answer to the question what a page looks like."""
    return {
        "language": language, "columns": columns, "header": None, "footer": "7", "blocks": ["text"],
    }  # fmt: skip


def document(body, lang="en", style=""):
    """A whole HTML document."""
    return (
        f'<!DOCTYPE html><html lang="{lang}"><head><style>{style}</style></head>'
        f"<body>{body}</body></html>"
    )


def picture_key(png):
    """What a picture is known by."""
    return hashlib.sha256(png).hexdigest()


class PageServer(OpenAIServer):
    """Says what `says(page, stage, attempt)` says: an object or a text, a whole
    `completion(...)`, a (status, headers, body) tuple, or None, for a good answer.

    `pages` maps the `picture_key` of a request's first picture to the page's name.
    """

    def __init__(self, pages, says=lambda page, stage, attempt: None, **more):
        super().__init__(self._reply, **more)
        self.pages = pages
        self.says = says
        self.html = defaultdict(lambda: document("<p>A page of some twenty letters.</p>"))
        """Good HTML by page, or by (page, stage)."""
        self.asked = Counter()
        """Requests by (page, stage)."""
        self.seen = {}
        """(number of pictures, prompt, body without its messages) of the last request of each."""

    def _reply(self, key, body):
        parts = body["messages"][0]["content"]
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        pngs = [base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in urls]
        (prompt,) = [part["text"] for part in parts if part["type"] == "text"]
        stage = next(stage for stage, words in TELLS.items() if words in prompt)
        page = self.pages.get(picture_key(pngs[0]), "?")
        attempt = self.asked[page, stage]
        self.asked[page, stage] += 1
        self.seen[page, stage] = (len(urls), prompt, {**body, "messages": None})
        said = self.says(page, stage, attempt)
        said = self.good(page, stage) if said is None else said
        whole = isinstance(said, tuple) or (isinstance(said, dict) and "choices" in said)
        return said if whole else completion(said, model=body["model"])

    def good(self, page, stage):
        """A good answer."""
        if stage == "orientation":
            return upright()
        if stage == "layout":
            return looks()
        return {"html": self.html.get((page, stage)) or self.html[page]}
