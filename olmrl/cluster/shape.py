"""The shape of a model by its path, and what a page costs it."""

from __future__ import annotations

from olmrl.cluster.resources import PlanError
from olmrl.models import registry
from olmrl.models.cost import CostModel
from olmrl.models.files import model_config
from olmrl.models.shape import ModelShape


def operations(path: str) -> CostModel:
    """Cost of a model that is here or can be fetched; errors as in `model_config`."""
    config = model_config(path)
    return CostModel.of(registry.family(config["model_type"], path).shape(config))


def quantised_parameters(path: str) -> int:
    """Weights that 8-bit engines round in a model whose shape is known offline."""
    known = registry.described(path)
    assert known is not None, path
    family, config = known
    return family.quantised_parameters(family.shape(config))


def model_shape(path: str, key: str = "model.path") -> ModelShape | None:
    """Shape of a local folder or a published model; None if it cannot be known offline.

    Args:
        path: the folder or name.
        key: of the configuration, for messages.

    Raises:
        PlanError: a model that olmrl cannot train.
    """
    try:
        known = registry.described(path)
    except ValueError as error:
        raise PlanError(f"{key}: {error}") from error
    return known[0].shape(known[1]) if known else None
