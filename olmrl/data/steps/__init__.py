"""Named steps that turn a page pair into an SFT example (docs/formats.md#data-steps)."""

from olmrl.data.steps.pipeline import Pipeline, build_pipeline
from olmrl.data.steps.sample import STRICT, Dropped, Sample, Step, StepContext, dropped

__all__ = [
    "STRICT",
    "Dropped",
    "Pipeline",
    "Sample",
    "Step",
    "StepContext",
    "build_pipeline",
    "dropped",
]
