"""What `python -m olmrl.bench run` does before it scores: read a bench folder's pages."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from olmrl import storage
from olmrl.bench.candidates import PDF_DIR
from olmrl.data.page import REFERENCE_FOLDER, PageSource, scan_bench
from olmrl.data.render import BadPage
from olmrl.evaluation.figures import with_baselines
from olmrl.evaluation.reading import whole_answer
from olmrl.markup import front_matter
from olmrl.mix.progress import ProgressDisplay
from olmrl.progress import waiting
from olmrl.read.backend import Item, Outcome, read_items
from olmrl.read.opening import make_job, opened

SETTINGS = ".reading.json"
"""In a candidate's folder: how its pages are read."""


@dataclass
class Transcribed:
    """What became of the pages."""

    written: int = 0
    invalid: list[str] = field(default_factory=list)
    """Pages without a whole answer; the text of their last attempt is written."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """(page id, reason): nothing was written."""


def transcribe_folder(options: argparse.Namespace) -> None:
    """Read the pages into the candidate's folder; those whose file is there are not read again.

    Raises:
        ValueError: the candidate's name is that of another folder, or its other pages were read in
            another way.
    """
    options.candidate = candidate_name(options.candidate, options.model)
    out = str(options.folder / options.candidate)
    storage.check_target(out)
    sources = pages_to_read(options)
    wanted = missing_pages(sources, out, options.repeats)
    show = ProgressDisplay("read", len(wanted))
    done = Transcribed()
    try:
        if wanted:
            job = make_job(options, show.say)
            show.say(job.described())
            keep_settings(out, job.settings)
            items = [Item(name, source) for name, (source, _) in wanted.items()]
            with ExitStack() as stack:
                with waiting("starting Ray and engines"):
                    backend = stack.enter_context(opened(job, options, show.say))
                for outcome in read_items(backend, items, job.how):
                    write_outcomes([outcome], wanted, done)
                    show.show({"done": done.written, "failed": len(done.failed)}, {})
    finally:
        show.close()
    show.say(
        f"{done.written} pages transcribed, "
        f"{len(sources) * options.repeats - len(wanted)} already there, "
        f"{len(done.invalid)} without a valid answer, {len(done.failed)} failed"
    )
    for page_id, reason in done.failed[:10]:
        show.say(f"failed: {page_id}: {reason}")


def candidate_name(given: str | None, model: str) -> str:
    """Name of the candidate's folder: as given, else the last part of the model's.

    Raises:
        ValueError: it would be that of the PDFs or of the references, not in the bench folder, or
            no name at all.
    """
    name = given or PurePosixPath(os.path.abspath(model) if os.path.exists(model) else model).name
    if name in (PDF_DIR, REFERENCE_FOLDER) or name.strip(".") == "":
        raise ValueError(
            f"--candidate {name!r}: a folder of the bench itself; name one for the transcriptions"
        )
    if "/" in name or name.startswith("."):
        raise ValueError(
            f"--candidate {name!r}: must be the name of a folder in the bench folder, without '/' "
            "and not hidden"
        )
    return name


def pages_to_read(options: argparse.Namespace) -> list[PageSource]:
    """The pages that scoring will ask for."""
    folder, files = str(options.folder), options.files or None
    sources = scan_bench(folder, files, with_rejected=options.compat)
    return sources if options.skip_baseline else with_baselines(sources)


def keep_settings(out: str, settings: Mapping[str, object]) -> None:
    """Write down how a candidate is read, so that a later call reads on in the same way.

    Raises:
        ValueError: its other pages were read differently.
    """
    path = storage.join(out, SETTINGS)
    if storage.exists(path):
        before = storage.json_value(storage.read_bytes(path), path)
        for key, value in settings.items():
            if before.get(key) != value:
                raise ValueError(
                    f"{out}: its pages were read with {key} {before.get(key)!r}, but now it is "
                    f"{value!r}; give the old value or another --candidate"
                )
        return
    storage.write_json(path, dict(settings))


def missing_pages(
    sources: Iterable[PageSource], out: str, repeats: int
) -> dict[str, tuple[PageSource, str]]:
    """Source and file of the transcriptions that are not there yet, by name."""
    every = {
        f"{source.page_id}#{repeat}": (source, target_path(out, source, repeat))
        for source in sources
        for repeat in range(1, repeats + 1)
    }
    return {name: found for name, found in every.items() if not storage.exists(found[1])}


def write_outcomes(
    outcomes: Iterable[Outcome], wanted: Mapping[str, tuple[PageSource, str]], done: Transcribed
) -> None:
    """Write what was read, each page to its file, and count."""
    for name, outcome in outcomes:
        source, target = wanted[name]
        if isinstance(outcome, BadPage):
            done.failed.append((source.page_id, str(outcome)))
        elif outcome.completion is None:
            done.failed.append((source.page_id, outcome.failure))
        else:
            if whole_answer(outcome.completion) is None:
                done.invalid.append(source.page_id)
            storage.write_text(target, front_matter.strip(outcome.completion.text))
            done.written += 1


def target_path(out: str, source: PageSource, repeat: int) -> str:
    """Path of a transcription: `OUT/<sub>/<name>_pg{P}_repeat{R}.md`."""
    pdf = PurePosixPath(source.page_id.rpartition("::")[0])
    name = f"{pdf.stem}_pg{source.page_number}_repeat{repeat}.md"
    return storage.join(out, *pdf.parent.parts, name)
