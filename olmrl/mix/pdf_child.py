"""Calls of mix's functions on PDFs, in child processes (`data.fence`).

with PdfPool(workers) as pool:
    image = pool.call("page_image", path, 1, 2048)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from olmrl.data.bad_page import BadPage
from olmrl.data.fence import FencedPool, Function

_MODULES = ("olmrl.mix.pdf", "olmrl.mix.pdf_filter", "olmrl.mix.hub_work", "olmrl.data.render")


class Call(NamedTuple):
    """One call of a function of `olmrl.mix.pdf` (or `pdf_filter`)."""

    function: str
    """Its name, or `module:name`."""
    path: str
    """The PDF."""
    arguments: tuple[Any, ...] = ()
    """What follows the path."""


class PdfPool(FencedPool):
    """Children for functions of `olmrl.mix.pdf`, by name, `pdf_filter` or `hub_work`."""

    def call(self, function: Function, path: str, *arguments: Any) -> Any:
        """See `FencedPool`; the parent need not import the modules."""
        module, _, name = str(function).rpartition(":")
        module = module or _MODULES[0]
        assert module in _MODULES, module
        return super().call(f"{module}:{name}", path, *arguments)


def outcome_of(pool: PdfPool, call: Call) -> Any:
    """The result of a call, or the `BadPage` it raised."""
    try:
        return pool.call(call.function, call.path, *call.arguments)
    except BadPage as bad:
        return bad
