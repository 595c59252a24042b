"""What the type annotations of keys say."""

from __future__ import annotations

import types
import typing
from typing import Any


def types_in(annotation: Any) -> list[Any]:
    """All types in an annotation: of unions, lists and tuples those within."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, tuple, list, typing.Annotated):
        return [t for arg in typing.get_args(annotation) for t in types_in(arg)]
    return [annotation]
