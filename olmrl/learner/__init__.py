"""The learner without Ray: model, page-once forward, losses, optimizer and sharding.

It takes `PackedBatch`es and returns measurements; the workers of grpo/ and sft/ run it under Ray.
"""
