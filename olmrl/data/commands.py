"""What `python -m olmrl.data` does: show what a page becomes on its way into the model."""

from __future__ import annotations

import argparse
import io
import os
from collections import Counter
from collections.abc import Iterator

import numpy as np
import ray
from PIL import Image

from olmrl import storage
from olmrl.cluster import Plan, Role
from olmrl.cluster.connect import connect
from olmrl.config import SftConfig
from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.data.encoded import IGNORED, EncodedExample
from olmrl.data.items import ExampleNote
from olmrl.data.order import first_place
from olmrl.data.page_sets import ExampleWork, place_random
from olmrl.data.render import BadPage
from olmrl.data.sets import PageSet, scan_sets
from olmrl.data.steps import Dropped, StepContext
from olmrl.data.streams import OrderedStream
from olmrl.data.tally import Tally
from olmrl.printable import printable
from olmrl.progress import track
from olmrl.types import UInt8Array

_BIN = 100
"""Tokens per line of the histogram."""

_WIDEST_BAR = 50


def show(config: SftConfig, arguments: argparse.Namespace) -> None:
    """Print a page, or the lengths of all pages.

    Raises:
        ValueError: there is no such set or page, or the model or a step is wrong.
    """
    image = arguments.save_image
    if image and os.path.splitext(image)[1].lower() not in Image.registered_extensions():
        raise ValueError(f"--save-image {image}: must end in .png, .webp or .jpg")
    train, evaluation = scan_sets(config.data, config.run.seed)
    sets = {"train": train, **{pages.name: pages for pages in evaluation}}
    if arguments.set not in sets:
        raise ValueError(f"--set {arguments.set}: unknown; allowed: {', '.join(sets)}")
    pages = sets[arguments.set]
    spec = EncoderSpec(config.model.path, chat=tuple(config.model.chat.items()))
    encoder = spec.build()
    if arguments.histogram:
        _show_histogram(config, pages, spec, arguments.dropped)
    else:
        index = _find(pages, arguments)
        _show_page(config, pages, index, encoder, arguments)


def _find(pages: PageSet, arguments: argparse.Namespace) -> int:
    if arguments.page is not None:
        for index, item in enumerate(pages.items):
            if arguments.page in item.source.pdf_path:
                return index
        raise ValueError(f"--page {arguments.page}: no path of {pages.name} contains it")
    if not 0 <= arguments.index < len(pages.items):
        last = len(pages.items) - 1
        raise ValueError(f"--index {arguments.index}: {pages.name} has pages 0 to {last}")
    return int(arguments.index)


def _show_page(
    config: SftConfig, pages: PageSet, index: int, encoder: Encoder, arguments: argparse.Namespace
) -> None:
    source, pipeline = pages.items[index]
    print(f"page {index} of {len(pages.items)} in {pages.name}: {printable(source.pdf_path)}")
    seed = config.training.seed(config.run) if pages.name == "train" else None
    place = first_place(index, len(pages.items), seed)
    print(f"augmented as at place {place} of epoch 0 (bad pages in the set would shift it)")
    sample = pipeline.run(source, StepContext(place_random(seed or 0, 0, place), encoder))
    if isinstance(sample, Dropped):
        print(f"dropped by {sample.step}: {sample.rule}")
        return
    assert sample.example is not None and sample.image is not None
    example = sample.example
    grid = example.page.image_grid_thw
    image_tokens = int(encoder.vision.count(grid).sum())
    prompt = len(example.page.prompt_ids)
    height, width = sample.image.shape[:2]
    print(f"image {width} x {height} pixels, patch grid {grid.tolist()}, {image_tokens} tokens")
    print(f"{example.num_tokens} tokens: {prompt} prompt + {len(example.response_ids)} response")
    if example.num_tokens > config.data.max_tokens:
        print(f"dropped in training: more than data.max_tokens={config.data.max_tokens}")
    print(f"\n--- prompt\n{printable(_prompt_text(encoder, example))}")
    learnt = example.labels[example.labels != IGNORED]
    print(
        f"\n--- labels ({len(learnt)} learnt)\n{printable(str(encoder.tokenizer.decode(learnt)))}"
    )
    if arguments.tokens:
        print("\n--- tokens: position, id, label (. = not learnt), text")
        for line in _token_lines(encoder, example):
            print(line)
    if arguments.save_image:
        _save(sample.image, arguments.save_image)
        print(f"\nimage written to {arguments.save_image}")


def _save(image: UInt8Array, path: str) -> None:
    stream = io.BytesIO()
    kind = Image.registered_extensions()[os.path.splitext(path)[1].lower()]
    Image.fromarray(image).save(stream, kind)
    storage.write_bytes(path, stream.getvalue())


def _prompt_text(encoder: Encoder, example: EncodedExample) -> str:
    ids = example.page.prompt_ids
    pad = str(encoder.tokenizer.decode([encoder.vision.image_token_id]))
    text = str(encoder.tokenizer.decode(ids))
    first = text.find(pad)
    count = text.count(pad)
    return f"{text[:first]}{pad} x {count}{text[first + count * len(pad) :]}" if count else text


def _token_lines(encoder: Encoder, example: EncodedExample) -> Iterator[str]:
    masked = np.full(len(example.page.prompt_ids), IGNORED)
    ids = np.concatenate([example.page.prompt_ids, example.response_ids]).tolist()
    labels = np.concatenate([masked, example.labels]).tolist()
    for position, (token, label) in enumerate(zip(ids, labels, strict=True)):
        if token == encoder.vision.image_token_id and 0 < position < len(ids) - 1:
            if ids[position - 1] != token:
                yield f"{position:6} {token:7} {'.':>7}  image tokens ..."
            continue
        shown = "." if label == IGNORED else label
        yield f"{position:6} {token:7} {shown:>7}  {encoder.tokenizer.decode([token])!r}"


def _show_histogram(
    config: SftConfig, pages: PageSet, spec: EncoderSpec, dropped: str | None
) -> None:
    connect(None, None, Plan((Role("data", 1, 1.0, 0.0),), None), False)
    work = ExampleWork(pages, spec, config.data.max_tokens)
    stream = OrderedStream(work, seed=None, epochs=1, prefetch=256)
    tally, bins, lost = Tally(), Counter[int](), []
    longest = 0
    for item in track(stream, "reading pages", len(pages.items)):
        note = item.note
        tally.add(note)
        if isinstance(note, ExampleNote):
            bins[note.num_tokens // _BIN] += 1
            longest = max(longest, note.num_tokens)
        else:
            lost.append(_lost_row(note))
    ray.shutdown()
    print(tally.summary())
    reasons = Counter(row["rule"] for row in lost if not row["step"])
    for reason, count in reasons.most_common(3):
        print(f"  {count} {printable(reason)}")
    if lost and not dropped:
        print("  --dropped FILE lists them all")
    print(f"\ntokens per page (longest {longest}, data.max_tokens {config.data.max_tokens})")
    scale = max(bins.values(), default=1) / _WIDEST_BAR
    for number in range(min(bins, default=0), max(bins, default=-1) + 1):
        bar = "#" * round(bins[number] / max(scale, 1))
        print(f"{number * _BIN:6}-{(number + 1) * _BIN - 1:<6} {bins[number]:7} {bar}")
    if dropped:
        storage.write_jsonl(dropped, lost)
        print(f"\n{len(lost)} dropped and bad pages written to {dropped}")


def _lost_row(value: Dropped | BadPage) -> dict[str, str]:
    if isinstance(value, BadPage):
        return {"pdf": value.path, "step": "", "rule": f"bad page: {value.reason}"}
    return {"pdf": value.pdf_path, "step": value.step, "rule": value.rule}
