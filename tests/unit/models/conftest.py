"""The described model, shared with other rooms."""

from described_model import tiny_model

__all__ = ["tiny_model"]
