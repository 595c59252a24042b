"""Steps that write the question: instruction and message order (docs/formats.md#prompts)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic.dataclasses import dataclass

from olmrl.data.prompts import load_prompt, olmocr_prompt, with_anchor
from olmrl.data.steps.sample import STRICT, Sample, Step, StepContext


@dataclass(frozen=True, config=STRICT)
class Prompt(Step):
    """Any named prompt of olmrl, followed by the anchor text if there is any."""

    gives: ClassVar[tuple[str, ...]] = ("instruction",)

    prompt: str = "olmrl-v1"
    """Prompt name: olmrl-v1, olmocr-v4, olmocr-v4:PATH or file:PATH."""

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Set `instruction`."""
        text = load_prompt(self.prompt)
        if sample.anchor_text is not None:
            text = with_anchor(text, sample.anchor_text)
        return replace(sample, instruction=text)

    def load(self) -> None:
        """Read the prompt.

        Raises:
            ValueError: it cannot be loaded (see `load_prompt`).
        """
        load_prompt(self.prompt)


@dataclass(frozen=True, config=STRICT)
class NewYamlFinetuningPromptWithNoAnchoring(Step):
    """The prompt of the released olmOCR-2 checkpoints."""

    gives: ClassVar[tuple[str, ...]] = ("instruction",)

    prompt: str = "olmocr-v4"
    """Where its text comes from: olmocr-v4 (the installed package) or olmocr-v4:PATH."""

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Set `instruction`."""
        return replace(sample, instruction=load_prompt(self.prompt))

    def load(self) -> None:
        """Read the prompt.

        Raises:
            ValueError: it cannot be loaded (see `load_prompt`).
        """
        load_prompt(self.prompt)


@dataclass(frozen=True, config=STRICT)
class NewYamlFinetuningPromptWithAnchoring(Step):
    """olmrl's own prompt with anchor text; the public text of this name is not available."""

    needs: ClassVar[tuple[str, ...]] = ("anchor_text",)
    gives: ClassVar[tuple[str, ...]] = ("instruction",)

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Set `instruction`, if there is anchor text."""
        if sample.anchor_text is None:
            return sample
        text = with_anchor(load_prompt("olmrl-v1"), sample.anchor_text)
        return replace(sample, instruction=text)


@dataclass(frozen=True, config=STRICT)
class FinetuningPrompt(Step):
    """The legacy JSON prompt with anchor text, from the installed olmocr package."""

    needs: ClassVar[tuple[str, ...]] = ("anchor_text",)
    gives: ClassVar[tuple[str, ...]] = ("instruction",)

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Set `instruction`, if there is anchor text."""
        if sample.anchor_text is None:
            return sample
        return replace(sample, instruction=olmocr_prompt("finetuning", sample.anchor_text))

    def load(self) -> None:
        """Build the prompt of an empty page.

        Raises:
            ValueError: olmocr is not installed, or has no such prompt.
        """
        olmocr_prompt("finetuning", "")


@dataclass(frozen=True, config=STRICT)
class InstructUserMessages(Step):
    """Puts instruction and image into one user message."""

    gives: ClassVar[tuple[str, ...]] = ("order",)

    prompt_first: bool = False
    """Whether the instruction comes before the image."""

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Set `order`."""
        return replace(sample, order="text_first" if self.prompt_first else "image_first")
