"""What the models are asked about a page, stage by stage: texts that users can copy and edit."""

from __future__ import annotations

import hashlib
import re
from importlib import resources

from olmrl import storage
from olmrl.synth.asking.template import Template, places_of

PLACES = {
    "orientation": (),
    "layout": (),
    "html": ("width", "height", "layout"),
    "refine": ("width", "height", "faults", "html"),
    "densify": ("width", "height", "html"),
}
"""What each stage's template must leave room for, as `{{name}}`."""
_VERSION = re.compile(r"version: *(\S+) *\n")


def load_templates(folder: str | None) -> dict[str, Template]:
    """The templates of all stages.

    Args:
        folder: Where STAGE.md lie; None: those that come with olmrl.

    Raises:
        ValueError: a file is missing, has no version, or its places are not those of its stage.
    """
    return {stage: _parse(*_read(folder, stage), PLACES[stage]) for stage in PLACES}


def write_templates(folder: str) -> list[str]:
    """Copy olmrl's templates into a folder, to be edited; returns the files.

    Raises:
        ValueError: one of them is there already.
    """
    targets = {stage: storage.join(folder, f"{stage}.md") for stage in PLACES}
    for target in targets.values():
        if storage.exists(target):
            raise ValueError(f"{target}: is there already; choose another folder")
    for stage, target in targets.items():
        storage.write_text(target, _read(None, stage)[1])
    return list(targets.values())


def _read(folder: str | None, stage: str) -> tuple[str, str]:
    if folder is None:
        file = resources.files("olmrl.synth.pdfs") / "templates" / f"{stage}.md"
        return str(file), file.read_text("utf-8")
    path = storage.join(folder, f"{stage}.md")
    if not storage.exists(path):
        raise ValueError(
            f"{path}: no such template; `python -m olmrl.synth templates DIR` writes all of them"
        )
    return path, storage.read_document(path)


def _parse(path: str, source: str, places: tuple[str, ...]) -> Template:
    head = _VERSION.match(source)
    if head is None:
        raise ValueError(f"{path}: its first line must be `version: NAME`")
    text = source[head.end() :].strip()
    found = places_of(text)
    allowed = ", ".join(f"{{{{{place}}}}}" for place in places) or "none"
    for place in sorted(found - set(places)):
        raise ValueError(f"{path}: {{{{{place}}}}} is not known here; its places are: {allowed}")
    for place in places:
        if place not in found:
            raise ValueError(f"{path}: {{{{{place}}}}} is missing; its places are: {allowed}")
    if not text:
        raise ValueError(f"{path}: says nothing")
    return Template(text, head[1], hashlib.sha256(text.encode("utf-8")).hexdigest()[:16])
