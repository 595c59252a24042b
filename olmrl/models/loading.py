"""A network of transformers with the weights of a folder or Hub repository, or a refusal.

transformers fills tensors that a checkpoint lacks with random numbers and says so in its log only;
here a checkpoint that does not cover its model is an error.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from transformers import AutoConfig

from olmrl.errors import first_line
from olmrl.models import weight_files
from olmrl.models.files import model_config
from olmrl.models.registry import family
from olmrl.models.weight_files import WeightsError, difference


def described_network(path: str, key: str, *, trust_remote_code: bool = False) -> Any:
    """Configuration of transformers for a model of a family that olmrl knows.

    Args:
        path: folder, or name on the Hub.
        key: what errors begin with, e.g. `model.path`.
        trust_remote_code: run code that comes with the model.

    Raises:
        ValueError: no such model, or of no known family.
    """
    try:
        model_config(path)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    try:
        found = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:  # its checks of a damaged config.json raise what they run into
        raise ValueError(
            f"{key}: {path!r} is neither a folder with a transformers config.json nor a model "
            f"that could be fetched by name ({first_line(error)})"
        ) from error
    family(found.model_type, f"{key}: {path}")
    return found


def load_network(
    path: str,
    key: str,
    *,
    dtype: torch.dtype,
    trust_remote_code: bool = False,
    trainable: bool = False,
) -> Any:
    """Load a model whose every tensor comes from its checkpoint.

    Prefixes of wrappers that the model was saved in are left out (`weight_files.WRAPPED`).

    Args:
        path: folder, or name on the Hub.
        key: what errors begin with, e.g. `model.path`.
        dtype: of the weights.
        trust_remote_code: run code that comes with the model.
        trainable: refuse quantised weights.

    Raises:
        ValueError: no such model, of no known family, or weights that do not cover it (names the
            first tensors) or cannot be read (names the file).
    """
    described = described_network(path, key, trust_remote_code=trust_remote_code)
    model_class: Any = family(described.model_type, f"{key}: {path}").model_class()
    try:
        if os.path.isdir(path):
            weight_files.check_loadable(path)
        if trainable:
            _check_trainable(path, described)
        model, found = model_class.from_pretrained(
            path,
            dtype=dtype,
            attn_implementation="sdpa",
            trust_remote_code=trust_remote_code,
            key_mapping={weight_files.WRAPPED: ""},
            ignore_mismatched_sizes=True,  # named below
            output_loading_info=True,
        )
    except Exception as error:  # safetensors, torch and transformers each have their own
        raise ValueError(
            f"{key}: the weights of {path!r} cannot be read ({first_line(error)})"
        ) from error
    problem = _uncovered(model, found)
    if problem is not None:
        raise ValueError(f"{key}: the weights of {path!r} do not fit its config.json: {problem}")
    return model


def _check_trainable(path: str, described: Any) -> None:
    if os.path.isdir(path):
        weight_files.check_trainable(path, described.to_dict())
    elif getattr(described, "quantization_config", None):
        raise WeightsError(f"{path}: is quantised; use the model it was made from")


def _uncovered(model: Any, found: dict[str, Any]) -> str | None:
    """What keeps a checkpoint from being this model's."""
    problem = difference(found["missing_keys"], found["unexpected_keys"], found["mismatched_keys"])
    if problem is not None:
        return problem
    if found["error_msgs"]:
        return str(found["error_msgs"][0])
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if model.config.tie_word_embeddings and head.weight is not embedding.weight:
        return (
            "tie_word_embeddings is true, but lm_head.weight differs from the embedding; set it to "
            "false, or remove lm_head.weight"
        )
    return None
