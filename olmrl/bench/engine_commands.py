"""What `python -m olmrl.bench run` does before it scores: transcribe a bench folder's pages."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from olmrl.cluster.connect import start_ray
from olmrl.config.schema import RolloutConfig, SamplingConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.page import scan_bench
from olmrl.evaluation.transcribe import LADDER, TranscribeSettings, transcribe


def transcribe_folder(options: argparse.Namespace) -> None:
    """Transcribe the pages with the training engines, into the candidate's folder."""
    console = Console()
    options.candidate = options.candidate or Path(options.model.rstrip("/")).name
    sources = scan_bench(str(options.folder), options.files or None)
    temperatures = LADDER if options.ladder else (options.temperature,)
    gpus = start_ray(options.workers, options.gpus)
    rollout = RolloutConfig(
        engine=options.engine,
        workers=options.workers,
        dtype=options.dtype,
        max_model_len=options.max_model_len,
        tensor_parallel_size=max(1, gpus),
        enforce_eager=gpus == 0,
        kv_cache_gb=None if gpus else options.kv_cache_gb,
        sampling=SamplingConfig(max_tokens=options.max_tokens),
    )
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("pages", total=len(sources) * options.repeats)
        outcome = transcribe(
            EncoderSpec(options.model, options.prompt),
            rollout,
            sources,
            str(options.folder / options.candidate),
            TranscribeSettings(
                longest_side=options.longest_side,
                temperatures=temperatures,
                correct_rotation=options.rotate,
                repeats=options.repeats,
                seed=options.seed,
            ),
            use_gpu=gpus > 0,
            on_page=lambda done: progress.update(bar, completed=done.written + done.kept),
        )
    console.print(
        f"{outcome.written} pages transcribed, {outcome.kept} already there, "
        f"{len(outcome.invalid)} without a valid answer, {len(outcome.failed)} failed"
    )
    for page_id, reason in outcome.failed[:10]:
        console.print(f"failed: {page_id}: {reason}", markup=False, highlight=False)
