"""Checkpoints: exact resume of a run, and models people can serve.

`state` saves and restores runs (sharded, atomic, asynchronous); `shards`, `manifest`, `groups` and
`lock` are its parts. `hf`, `soup`, `fp8` and `parity` make and check servable models; they are the
verbs of `python -m olmrl.checkpoint`. Lies below learner and above storage and data.
"""
