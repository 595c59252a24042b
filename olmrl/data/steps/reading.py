"""Steps that read: front matter, page image, anchor text.

They are described in docs/formats.md#data-steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from olmrl.data.page import read_reference
from olmrl.data.render import BadPage, render_page
from olmrl.data.steps.sample import STRICT, Sample, Step, StepContext
from olmrl.markup import front_matter


@dataclass(frozen=True, config=STRICT)
class FrontMatterParser(Step):
    """Reads the .md file into a typed record; a file that does not parse is a bad page.

    One without front matter stands for an upright page of text.
    """

    gives: ClassVar[tuple[str, ...]] = ("truth",)

    front_matter_class: Literal["PageResponse"] = "PageResponse"
    """The one record there is; public configurations name it."""
    use_page_response_class: Literal[True] = True
    """The same, in older public configurations."""
    plain_language: Annotated[str, Field(pattern=r"^[a-z]{2}$")] = "en"
    """Language of an .md file without front matter, if it is written in Latin letters."""

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Set `truth`."""
        source = sample.source
        text = read_reference(source)
        if text is None:
            raise BadPage(source.pdf_path, source.page_number, "it has no .md file")
        try:
            return replace(sample, truth=front_matter.of_reference(text, self.plain_language))
        except ValueError as error:
            reason = f"{source.reference_path}: {error}"
            raise BadPage(source.pdf_path, source.page_number, reason) from error


@dataclass(frozen=True, config=STRICT)
class PDFRenderer(Step):
    """Draws the page."""

    gives: ClassVar[tuple[str, ...]] = ("image",)

    target_longest_image_dim: Annotated[int, Field(ge=1, le=16_384)] = 1024
    """Pixels of the longer side."""

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Set `image`."""
        source = sample.source
        image = render_page(source.pdf_path, source.page_number, self.target_longest_image_dim)
        return replace(sample, image=image)


@dataclass(frozen=True, config=STRICT)
class StaticLengthDocumentAnchoring(Step):
    """Collects what the PDF itself says is on the page."""

    gives: ClassVar[tuple[str, ...]] = ("anchor_text",)

    target_anchor_text_len: int = 6000
    """Most characters; -1: one line for a full-page image."""

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Set `anchor_text`."""
        # Deferred: pypdf takes half a second of CPU, and few pipelines ask for anchor text.
        from olmrl.data.anchor import anchor_text  # noqa: PLC0415

        source = sample.source
        text = anchor_text(source.pdf_path, source.page_number, self.target_anchor_text_len)
        return replace(sample, anchor_text=text)
