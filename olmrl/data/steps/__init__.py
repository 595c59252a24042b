"""Named steps that turn a page pair into an SFT example (docs/formats.md#data-steps)."""

from olmrl.data.steps.pipeline import STEPS, Pipeline, build_pipeline
from olmrl.data.steps.sample import Dropped, Sample, StepContext

__all__ = ["STEPS", "Dropped", "Pipeline", "Sample", "StepContext", "build_pipeline"]
