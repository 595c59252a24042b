"""Checkpoints: exact resume of a run.

`state` saves and restores runs (sharded, atomic, asynchronous), using `folder`, `manifest` and
`shards`. `python -m olmrl.checkpoint` is the command line of `olmrl.export`, which makes and checks
servable models.
"""
