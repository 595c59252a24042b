"""A run that cannot use the GPUs that Ray has says so last, and has loaded nothing."""

import subprocess

import pytest
import torch
from running import ROOT, command, sft_overrides


@pytest.mark.slow
@pytest.mark.skipif(torch.version.cuda is not None, reason="torch is built with CUDA here")
def test_torch_for_cpus_ends_a_run_on_gpus(ray_head, tiny_pages, tiny_model, tmp_path):
    out = tmp_path / "run"
    node = ray_head.add_node(num_cpus=4, num_gpus=1)  # GPUs in name only
    try:
        overrides = [*sft_overrides(tiny_pages, tiny_model, out), "learner.use_gpu=true"]
        done = subprocess.run(
            command("olmrl.sft", *overrides, f"cluster.address={ray_head.address}"),
            capture_output=True,
            text=True,
            timeout=300,
            cwd=ROOT,
        )
    finally:
        ray_head.remove_node(node)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("olmrl.sft: torch ") and done.stderr.count("\n") == 1
    assert "was built without CUDA, and a LearnerWorker is to use a GPU there" in done.stderr
    assert not (out / "logs").exists() or not list((out / "logs").glob("learner*"))
