"""The learner's core: model, page-once forward, losses, optimizer and sharding, without Ray.

It takes `PackedBatch`es and returns measurements; `worker.py` is the Ray Train shell around it.
"""
