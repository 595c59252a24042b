"""Checkpoints: exact resume of a run.

`state` saves and restores runs (sharded, atomic, asynchronous); `folder`, `manifest` and `shards`
are its parts. `python -m olmrl.checkpoint` is the command line of `olmrl.export`, which makes and
checks servable models.
"""
