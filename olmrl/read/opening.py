"""From options to a backend that is up: engines on Ray, or a server."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from olmrl.config.schema import RolloutConfig, SamplingConfig
from olmrl.data.encode import EncoderSpec
from olmrl.mix.api import Api
from olmrl.models.files import check_count, check_tokenizer, model_config
from olmrl.models.weight_files import check_loadable
from olmrl.ray_node import dying_with_node
from olmrl.read.backend import LADDER, Backend, HowToRead
from olmrl.read.model import Model, Taught, find_model, window_of
from olmrl.read.options import MAX_TOKENS
from olmrl.read.server import ServerBackend, ServerSpec
from olmrl.types import Page, RenderedPage

_LETTER = 8.5 / 11
_NO_KEY = "EMPTY"
"""What servers without keys are sent."""


@dataclass(frozen=True, slots=True)
class Job:
    """A model and how it reads."""

    model: Model
    how: HowToRead
    window: int
    """Most tokens of prompt and answer together."""

    @property
    def settings(self) -> dict[str, object]:
        """What shapes the text; the same for all calls that continue one another."""
        how, taught = self.how, self.model.taught
        return {
            "model": self.model.title,
            "prompt": taught.prompt,
            "longest_side": how.longest_side,
            "temperatures": list(how.temperatures),
            "rotate": how.correct_rotation,
            "max_tokens": how.max_tokens,
            "max_model_len": self.window,
            "seed": how.seed,
        }

    def described(self) -> str:
        """One line for people."""
        taught = self.model.taught
        origin = "as in its training" if taught.known else "defaults: its training is not known"
        return (
            f"model {self.model.title}; prompt {taught.prompt}, pages at {self.how.longest_side} "
            f"pixels ({origin})"
        )


def make_job(options: argparse.Namespace, say: Callable[[str], None] = lambda line: None) -> Job:
    """Find the model and settle how it reads.

    Raises:
        ValueError: no such model or checkpoint, or one that no engine could load.
    """
    if options.base_url and not os.path.exists(options.model):
        model = Model(options.model, Taught(), options.model)
    else:
        model = find_model(options.model, options.checkpoint, say)
    if not options.base_url and os.path.isdir(model.path):
        # an engine would say it after half a minute, and less well
        model_config(model.path)
        check_loadable(model.path)
        check_count(model.path)
        check_tokenizer(model.path)
    taught = model.taught
    if options.prompt:
        taught = replace(taught, prompt=options.prompt)
    model = replace(model, taught=taught)
    wanted = options.max_model_len or taught.window
    window = wanted if options.base_url else window_of(model.path, wanted)
    side = options.longest_side or taught.longest_side
    if options.max_tokens is not None and options.max_tokens >= window:
        raise ValueError(
            f"--max-tokens {options.max_tokens}: prompt and answer together have {window} tokens; "
            "give less, or leave it out"
        )
    if options.max_model_len is not None and not options.base_url:
        check_room(taught.encoder(model.path), side, window)
    return Job(
        model,
        HowToRead(
            longest_side=side,
            temperatures=LADDER if options.ladder else (options.temperature,),
            correct_rotation=options.rotate,
            max_tokens=options.max_tokens or MAX_TOKENS,
            seed=options.seed,
        ),
        window,
    )


def check_room(encoder: EncoderSpec, longest_side: int, window: int) -> None:
    """See that a page of letter size leaves room for an answer.

    Raises:
        ValueError: its prompt alone fills the window.
    """
    blank = np.zeros((longest_side, max(1, round(longest_side * _LETTER)), 3), np.uint8)
    page = RenderedPage(Page("blank::1", "", 1), blank)
    prompt = replace(encoder, anchor_text_len=0).build().encode_page(page)
    length = len(prompt.prompt_ids)
    if length >= window:
        raise ValueError(
            f"--max-model-len: a page of letter size has {length} tokens with its prompt, which "
            f"leaves no room for an answer in {window}; give more, or fewer pixels with "
            "--longest-side"
        )


@contextmanager
def opened(job: Job, options: argparse.Namespace, say: Callable[[str], None]) -> Iterator[Backend]:
    """The server, or engines on a cluster that is joined or started."""
    taught = job.model.taught
    if options.base_url:
        if taught.anchor_text_len:
            raise ValueError("--base-url: this model's prompt holds anchor text; read with engines")
        spec = ServerSpec(
            options.served_name or options.model,
            taught.prompt,
            job.how.longest_side,
            job.window,
            taught.order,
            dict(taught.chat),
            options.concurrency,
        )
        key = os.environ.get(options.api_key_env, "").strip() or _NO_KEY
        with (
            Api(options.base_url, key, attempts=options.tries) as api,
            ServerBackend(api, spec) as backend,
        ):
            yield backend
        return
    # Deferred: Ray, which a server does not need.
    from olmrl.cluster.connect import start_ray  # noqa: PLC0415
    from olmrl.cluster.remarks import divert_remarks, session_file  # noqa: PLC0415
    from olmrl.read.engines import engines  # noqa: PLC0415

    workers, gpus = start_ray(options.workers, options.gpus)
    divert_remarks(session_file(), say)
    config = RolloutConfig(
        engine=options.engine or taught.engine,
        workers=workers,
        group_size=1,
        dtype=options.dtype or taught.dtype,
        max_model_len=job.window,
        tensor_parallel_size=max(1, gpus),
        enforce_eager=gpus == 0,
        kv_cache_gb=None if gpus else options.kv_cache_gb,
        sampling=SamplingConfig(max_tokens=job.how.max_tokens),
    )
    with (
        dying_with_node("the same command goes on where it stopped"),
        engines(
            taught.encoder(job.model.path),
            config,
            job.how.longest_side,
            use_gpu=gpus > 0,
            trust_remote_code=taught.trust_remote_code,
        ) as running,
    ):
        yield running
