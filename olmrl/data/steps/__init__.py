"""Named steps that turn a page pair into an SFT example (spec C2-C5)."""

from olmrl.data.steps.pipeline import STEPS, Pipeline, build_pipeline
from olmrl.data.steps.sample import Dropped, Sample, StepContext

__all__ = ["STEPS", "Dropped", "Pipeline", "Sample", "StepContext", "build_pipeline"]
