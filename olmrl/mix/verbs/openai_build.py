"""Single-page PDFs -> OpenAI batch request files.

Writes OUTPUT/batch_requests_NNNN.jsonl, each below --max-bytes and 50,000 requests, in the order of
the sorted PDFs, and OUTPUT/index/<same name> with one row per request: its custom_id and PDF.
"""

# See docs/formats.md#labelling-requests

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from olmrl import storage
from olmrl.arguments import positive, real
from olmrl.data.render import BadPage
from olmrl.mix import files, prompts
from olmrl.mix.pdf import PageImage
from olmrl.mix.pdf_child import Call
from olmrl.mix.pdf_map import add_ray_argument, map_pdfs
from olmrl.mix.run import Outcome, Run, add_run_arguments, lost
from olmrl.suffixes import cut_suffix, of_kind

MAX_REQUESTS = 50_000
"""Maximum requests per batch (the API's own limit)."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9._/-]{1,120}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("input", help="folder (local or s3://) searched for one-page *.pdf")
    parser.add_argument("output", help="folder for the request files")
    parser.add_argument("--model", default="gpt-4.1", help="default %(default)s")
    parser.add_argument("--prompt", default="olmrl-silver-v1", help=prompts.SILVER_NAMES)
    parser.add_argument(
        "--anchor-chars",
        type=positive,
        help="most characters of the PDF's own text, for a prompt that has it (default 4000)",
    )
    parser.add_argument("--side", type=positive, default=2048, help="pixels of the longer side")
    parser.add_argument("--temperature", type=real(0), default=0.1)
    parser.add_argument("--max-tokens", type=positive, default=12000)
    parser.add_argument("--logprobs", action="store_true", help="ask for top 5 log-probabilities")
    parser.add_argument(
        "--max-bytes", type=positive, default=99 * 1024 * 1024, help="limit of one request file"
    )
    parser.add_argument("--max-pdfs", type=positive, help="use at most this many PDFs")
    parser.add_argument("--only", help="JSONL with the custom_ids to build (retry.jsonl)")
    add_run_arguments(parser, workers=4)
    add_ray_argument(parser)


def custom_id(relative_pdf: str) -> str:
    """The id of a request: the PDF's relative path without its last `.pdf` if that is plain
    (at most 120 letters, digits, `._/-`), else a readable slug with a hash of the path.
    """
    stem = cut_suffix(relative_pdf, ".pdf")
    if _PLAIN_ID.fullmatch(stem) and ".." not in stem and not stem.startswith("/"):
        return stem
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._")[:80]
    digest = hashlib.sha256(relative_pdf.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{readable}-{digest}" if readable else digest


def request_line(
    request_id: str, image: PageImage, anchor: str, template: str, options: argparse.Namespace
) -> bytes:
    """One line of a batch file, newline included."""
    text = prompts.fill(template, image.width, image.height, anchor)
    body = prompts.chat_body(options, text, [image.data], prompts.page_schema())
    if options.logprobs:
        body |= {"logprobs": True, "top_logprobs": 5}
    row = {"custom_id": request_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(row).encode("ascii") + b"\n"


def run(options: argparse.Namespace) -> int:
    """Build the request files; see the module."""
    prompt = _prompt(options)
    settings = {
        "input": options.input,
        "prompt": options.prompt,
        "prompt_sha256": prompts.digest(prompt.template),
        **{k: getattr(options, k) for k in ("model", "side", "temperature", "max_tokens")},
        **{k: getattr(options, k) for k in ("logprobs", "max_bytes", "max_pdfs", "only")},
        "anchor_chars": prompt.anchor_chars,
    }
    pdfs, twins = _selected(options)
    with Run("openai-build", options.output, settings, state=options.state) as verb:
        verb.leave_twins(twins)
        parts = [key for key in verb.finished_keys if key.endswith(".jsonl")]
        index = storage.join(options.output, "index")
        rows = (row for name in parts for _, row in storage.read_jsonl(storage.join(index, name)))
        built = {row["pdf"] for row in rows}
        todo = [pdf for pdf in pdfs if pdf not in built and not verb.finished(pdf)]
        lines = _requests(verb, todo, prompt, options)
        for number, group in enumerate(_parts(lines, options), start=len(parts)):
            _write_part(verb, f"batch_requests_{number:04d}.jsonl", group)
        pages, parts_done = int(verb.facts["pages"]), verb.counts["done"]
        verb.progress.say(f"{pages} requests in {parts_done} files")
    return verb.end(options.input, "PDF (*.pdf)")


def _selected(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Relative paths of the PDFs to build requests for, and of those with the name of another.

    Raises:
        ValueError: there are none.
    """
    names = [files.relative(p, options.input) for p in files.listing(options.input, ".pdf")]
    pdfs = of_kind(names, ".pdf")
    found = list(pdfs.by_stem.values())
    if not found:
        raise ValueError(f"{options.input}: no *.pdf found below it")
    if options.only:
        wanted = {row["custom_id"] for _, row in storage.read_jsonl(options.only)}
        found = [pdf for pdf in found if custom_id(pdf) in wanted]
        if not found:
            raise ValueError(f"--only {options.only}: names no PDF below {options.input}")
    return list(islice(found, options.max_pdfs)), pdfs.twins


class Prompt(NamedTuple):
    """What is asked about each page."""

    template: str
    """For `prompts.fill`."""
    anchor_chars: int | None
    """Most characters of anchor text; None: it has none."""


def _prompt(options: argparse.Namespace) -> Prompt:
    template = prompts.silver_prompt(options.prompt)
    if prompts.ANCHOR in template:
        return Prompt(template, options.anchor_chars or prompts.ANCHOR_CHARS)
    if options.anchor_chars:
        raise ValueError(
            f"--anchor-chars: prompt {options.prompt!r} has no place {prompts.ANCHOR}; take "
            "olmrl-silver-anchor-v1, olmocr-silver-v1 or a file with that place"
        )
    return Prompt(template, None)


def _requests(
    verb: Run, pdfs: list[str], prompt: Prompt, options: argparse.Namespace
) -> Iterator[tuple[str, str, bytes]]:
    """(relative PDF, custom id, request line) in order; bad PDFs are recorded and left out."""
    wanted = (options.side, prompt.anchor_chars)
    calls = (Call("anchored_page", storage.join(options.input, pdf), wanted) for pdf in pdfs)
    results = map_pdfs(calls, workers=options.workers, ray_address=options.ray)
    for pdf, result in zip(pdfs, results, strict=True):
        if isinstance(result, BadPage):
            verb.record(pdf, lost(result))
            continue
        image, anchor = result
        line = request_line(custom_id(pdf), image, anchor, prompt.template, options)
        if len(line) > options.max_bytes:
            reason = f"its request has {len(line)} bytes, --max-bytes is {options.max_bytes}"
            verb.record(pdf, Outcome("skipped", reason))
            continue
        yield pdf, custom_id(pdf), line


def _parts(
    lines: Iterable[tuple[str, str, bytes]], options: argparse.Namespace
) -> Iterator[Iterator[tuple[str, str, bytes]]]:
    """Split the stream of requests into groups that each fit one file, without buffering one."""
    source = iter(lines)
    ahead: list[tuple[str, str, bytes]] = list(islice(source, 1))

    def group() -> Iterator[tuple[str, str, bytes]]:
        size = count = 0
        while ahead and count < MAX_REQUESTS and size + len(ahead[0][2]) <= options.max_bytes:
            entry = ahead.pop()
            size += len(entry[2])
            count += 1
            yield entry
            ahead.extend(islice(source, 1))

    while ahead:
        yield group()


def _write_part(verb: Run, name: str, group: Iterator[tuple[str, str, bytes]]) -> None:
    rows: list[str] = []
    size = 0
    with files.staged(storage.join(verb.output, name)) as local, open(local, "wb") as stream:
        for pdf, request_id, line in group:
            stream.write(line)
            size += len(line)
            rows.append(json.dumps({"custom_id": request_id, "pdf": pdf}))
    files.write_lines(storage.join(verb.output, "index", name), rows)
    verb.record(name, Outcome(facts={"pages": len(rows), "bytes": size}))
