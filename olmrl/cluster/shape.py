"""The shape of a model by its path, and what a page costs it."""

from __future__ import annotations

import json
from pathlib import Path

from olmrl.cluster.resources import PlanError
from olmrl.models.cost import CostModel
from olmrl.models.files import model_config
from olmrl.models.registry import family, published_family
from olmrl.models.shape import ModelShape


def operations(path: str) -> CostModel:
    """Operations of a model that is there, or can be fetched; see `model_config` for errors."""
    config = model_config(path)
    return CostModel.of(family(config["model_type"], path).shape(config))


def model_shape(path: str) -> ModelShape | None:
    """Shape of a local folder or a published model; None where it cannot be known offline.

    Raises:
        PlanError: a folder of a model that olmrl cannot train.
    """
    config = Path(path) / "config.json"
    if config.is_file():
        values = json.loads(config.read_text("utf-8"))
        try:
            return family(values.get("model_type"), path).shape(values)
        except ValueError as error:
            raise PlanError(str(error)) from error
    known = published_family(path)
    return known[0].shape(known[1]) if known else None


def published_shape(name: str) -> ModelShape:
    """Shape of a published model, by the name of its repository.

    Raises:
        KeyError: not one that is known.
    """
    known = published_family(name)
    if known is None:
        raise KeyError(name)
    return known[0].shape(known[1])
