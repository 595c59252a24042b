"""What vLLM transcribes, for the parity check of an exported model."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection

import torch

from olmrl.config.schema import Dtype, RolloutConfig
from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.evaluation.reading import ReadingSpec, read_pages
from olmrl.export.weights import ModelFolder
from olmrl.rollout.engine import Engine
from olmrl.rollout.environment import engine_environment
from olmrl.rollout.requests import Generated, GenerationRequest
from olmrl.types import Completion, EncodedPage, SamplingSpec


def greedy_completions(
    model: str, pages: list[EncodedPage], max_tokens: int, dtype: Dtype
) -> list[Completion]:
    """Greedy transcriptions by vLLM, in a separate process, as vLLM changes torch for good.

    Raises:
        ValueError: vLLM refuses the model or a page.
    """
    on_gpu = torch.cuda.is_available()
    config = RolloutConfig(
        group_size=1,
        dtype=dtype,
        max_num_seqs=16,
        max_model_len=_longest(model),
        kv_cache_gb=None if on_gpu else 1.0,
    )
    os.environ.update(engine_environment(config, use_gpu=on_gpu))
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(
        target=_read_in_child,
        args=(there, model, pages, max_tokens, config),
        daemon=True,
    )
    child.start()
    while not here.poll(1.0):
        if not child.is_alive():
            raise ValueError(f"{model}: vLLM's process ended without an answer; see its log above")
    answer = here.recv()
    child.join()
    if isinstance(answer, str):
        raise ValueError(f"{model}: {answer}")
    return list(answer)


def _longest(model: str) -> int:
    """Context length: the model's own, but no more than pages ever need."""
    config = ModelFolder(model).config
    text = config.get("text_config", config)
    return min(int(text.get("max_position_embeddings", 16384)), 16384)


def _read_in_child(
    to: Connection,
    model: str,
    pages: list[EncodedPage],
    max_tokens: int,
    config: RolloutConfig,
) -> None:
    from olmrl.rollout.engine_vllm import VllmEngine  # noqa: PLC0415  only where vLLM runs

    try:
        engine = VllmEngine(Encoder(EncoderSpec(model)), config)
    except ValueError as error:
        to.send(str(error))
        return
    done: dict[str, Completion] = {}
    by_name = {str(number): page for number, page in enumerate(pages)}
    for reading in read_pages(_OneEngine(engine), by_name.items(), ReadingSpec(max_tokens)):
        if reading.completion is None:
            to.send(f"{by_name[reading.name].page_id}: {reading.failure}")
            return
        done[reading.name] = reading.completion
    to.send([done[name] for name in by_name])
    engine.close()


class _OneEngine:
    """A single engine as a Generator."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def submit(
        self, group_id: str, page: EncodedPage, sampling: SamplingSpec, seeds: tuple[int, ...]
    ) -> None:
        self._engine.submit(GenerationRequest(group_id, page, sampling, seeds))

    def poll(self, timeout_s: float) -> list[Generated]:
        return self._engine.poll(timeout_s)
