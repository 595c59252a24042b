"""Whether a run can start, answered without Ray, torch and a model's code.

`checks` is the one list that `--dry-run` and every start go through; `verdict` says whether a plan
fits on a cluster, and what to change.
"""
