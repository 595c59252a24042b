"""Train OCR vision-language models with SFT and GRPO on document pages, on Ray."""

__version__ = "0.1.0"
