"""Child processes for tests that kill, limit or join processes; torch is imported once for all."""

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "torch.distributed.fsdp",
        "olmrl.checkpoint.state",
        "olmrl.learner.core",
        "olmrl.learner.strategy_fsdp",
        "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    ]
)


def run_child(function, *args):
    """Run `function(*args)` in a fresh process; its exit code (negative: killed by a signal)."""
    child = CONTEXT.Process(target=function, args=args)
    child.start()
    child.join(120)
    return child.exitcode
