"""Which model reads, and how it was taught to: from a run directory, a model folder or a name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from olmrl import storage
from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.config.load import validate
from olmrl.config.schema import Dtype, GrpoConfig, SftConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.prompts import Order
from olmrl.data.steps import Step, build_pipeline
from olmrl.data.steps.asking import (
    FinetuningPrompt,
    InstructUserMessages,
    NewYamlFinetuningPromptWithAnchoring,
    NewYamlFinetuningPromptWithNoAnchoring,
    Prompt,
)
from olmrl.data.steps.reading import PDFRenderer, StaticLengthDocumentAnchoring
from olmrl.export.card import card_config, card_step
from olmrl.export.chosen import CHECKPOINTS, EXPORTED, best_mode, check_checkpoint, run_config
from olmrl.mix import files
from olmrl.models.files import model_config, readme

Which = Literal["best", "last"] | int
_CACHE = "~/.cache/olmrl/exported"
WINDOW = 16384
"""Context in which released models are read, in tokens."""


@dataclass(frozen=True, slots=True)
class Taught:
    """How pages were put to a model while it was trained."""

    prompt: str = "olmrl-v1"
    order: Order = "text_first"
    anchor_text_len: int = 0
    longest_side: int = 1288
    chat: tuple[tuple[str, Any], ...] = ()
    engine: Literal["vllm", "hf"] = "vllm"
    dtype: Dtype = "bfloat16"
    trust_remote_code: bool = False
    window: int = WINDOW
    """Most tokens of prompt and answer together."""
    known: bool = False
    """Whether a training configuration said so, and these are not defaults."""

    def encoder(self, model: str) -> EncoderSpec:
        """For `data.encode`."""
        return EncoderSpec(model, self.prompt, self.order, self.anchor_text_len, self.chat)


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be loaded."""

    path: str
    """Folder or name on the Hub."""
    taught: Taught
    title: str
    """For messages and the journal."""


def find_model(
    name: str, which: Which | None, say: Callable[[str], None] = lambda line: None
) -> Model:
    """The model of a run directory, a folder or the Hub.

    Args:
        name: one of these.
        which: checkpoint of a run; None: the best by evaluation, or the newest if none was scored.
        say: prints a line of progress.

    Raises:
        ValueError: no such model or checkpoint.
    """
    if check_checkpoint(name, which):
        return _of_run(name, which, say)
    card = readme(name)
    config = card_config(card)
    if config is not None:
        return Model(name, taught(config), name)
    released = "olmocr-2" in name.lower()
    return Model(name, Taught(prompt="olmocr-v4") if released else Taught(), name)


def _of_run(run: str, which: Which | None, say: Callable[[str], None]) -> Model:
    config = run_config(run)
    folder = CheckpointFolder(storage.join(run, CHECKPOINTS), best_mode=best_mode(config))
    final = os.path.join(run, "model")
    step = _chosen(folder, run, which) if folder.steps() else None
    if step is None and not os.path.exists(os.path.join(final, "config.json")):
        raise ValueError(f"{run}: has no complete checkpoint and no model/ yet")
    if step is None or card_step(readme(final) if os.path.isdir(final) else "") == step:
        return Model(final, taught(config), f"{run}, last weights")
    # Deferred: torch, which a name on a server does not need.
    from olmrl.export.hf import folder_of  # noqa: PLC0415

    here = storage.join(run, EXPORTED)
    if storage.is_remote(run):  # engines load local folders
        here = os.path.join(os.path.expanduser(_CACHE), files.slug(run))
    return Model(folder_of(run, step, here, say), taught(config), f"{run}, step {step}")


def _chosen(folder: CheckpointFolder, run: str, which: Which | None) -> int:
    if isinstance(which, int):
        return folder.at(which).step
    best = None if which == "last" else folder.best()
    if which == "best" and best is None:
        raise ValueError(f"{run}: no checkpoint has a score; --checkpoint last takes the newest")
    found = best or folder.newest()
    assert found is not None
    return found.step


def taught(config: Mapping[str, Any]) -> Taught:
    """What a training configuration says of reading.

    Raises:
        ValueError: it is damaged, or its answers are not what this reads.
    """
    if "algorithm" in config:
        return _taught_by_grpo(validate(GrpoConfig, dict(config), "the model's configuration"))
    return _taught_by_sft(validate(SftConfig, dict(config), "the model's configuration"))


def _taught_by_grpo(config: GrpoConfig) -> Taught:
    data, model = config.data, config.model
    return Taught(
        prompt=data.prompt,
        order=data.prompt_order,
        anchor_text_len=data.anchor_text_len,
        longest_side=data.longest_side,
        chat=tuple(model.chat.items()),
        engine=config.rollout.engine,
        dtype=config.rollout.dtype,
        trust_remote_code=model.trust_remote_code,
        window=config.rollout.max_model_len,
        known=True,
    )


def _taught_by_sft(config: SftConfig) -> Taught:
    steps = config.data.pipeline or config.data.train[0].pipeline or ()
    found = Taught(
        chat=tuple(config.model.chat.items()),
        dtype=config.model.dtype,
        trust_remote_code=config.model.trust_remote_code,
        known=True,
    )
    anchor = 0
    for step in build_pipeline(steps, "the model's data.pipeline").steps:
        if isinstance(step, StaticLengthDocumentAnchoring):
            anchor = step.target_anchor_text_len
        found = _with_step(found, step, anchor)
    return found


def _with_step(found: Taught, step: Step, anchor: int) -> Taught:
    if isinstance(step, PDFRenderer):
        return replace(found, longest_side=step.target_longest_image_dim)
    if isinstance(step, InstructUserMessages):
        order: Order = "text_first" if step.prompt_first else "image_first"
        return replace(found, order=order)
    if isinstance(step, Prompt):
        return replace(found, prompt=step.prompt, anchor_text_len=anchor)
    if isinstance(step, NewYamlFinetuningPromptWithNoAnchoring):
        return replace(found, prompt=step.prompt)
    if isinstance(step, NewYamlFinetuningPromptWithAnchoring):
        return replace(found, prompt="olmrl-v1", anchor_text_len=anchor)
    if isinstance(step, FinetuningPrompt):
        raise ValueError(
            "the model was trained by the step FinetuningPrompt to answer in JSON; olmrl reads "
            "answers with front matter"
        )
    return found


def window_of(model: str, wanted: int) -> int:
    """`wanted` tokens, or fewer where the model has fewer positions.

    Raises:
        ValueError: no such model, or of no family that olmrl trains.
    """
    config = model_config(model)
    positions = config.get("text_config", config).get("max_position_embeddings")
    return min(wanted, int(positions)) if positions else wanted
