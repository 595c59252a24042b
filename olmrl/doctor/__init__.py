"""Whether olmrl can work on this machine: facts are gathered (`facts`), then judged (`checks`).

Neither torch nor Ray is imported, so that the answer comes at once; only `--speed` imports torch.
"""
