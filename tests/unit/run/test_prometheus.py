"""Metrics as Prometheus sees them: scraped from a Ray node."""

import math
import re
import time
import urllib.request
from types import SimpleNamespace

import ray

from olmrl.metrics import gauge_name
from olmrl.rollout.gauges import EngineGauges
from olmrl.run.prometheus import PrometheusSink

ROW = {
    "reward/mean": 2.5,
    "reward/bench/file/baseline.jsonl": 0.75,
    "time/step": 3.0,
    "policy/kl": math.nan,
}


def scraped(node, pattern, wanted):
    """What the pattern's groups find, value last, once the node serves `wanted` such lines."""
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    line = re.compile(rf"^{pattern} (\S+)$", re.M)
    found, deadline = {}, time.monotonic() + 60
    while len(found) < wanted and time.monotonic() < deadline:
        time.sleep(0.2)
        text = urllib.request.urlopen(url, timeout=10).read().decode()
        found = {tuple(names): float(value) for *names, value in line.findall(text)}
    return found


def test_a_row_becomes_gauges_on_the_node(ray_node):
    sink = PrometheusSink("run-1")
    sink.write(6, {"reward/mean": 1.0})
    sink.write(7, ROW)
    found = scraped(ray_node, r'(ray_olmrl_\w+)\{.*key="([^"]+)".*run="([^"]+)".*\}', wanted=4)
    sink.close()
    assert found == {
        ("ray_olmrl_step", "step", "run-1"): 7.0,
        ("ray_olmrl_reward_mean", "reward/mean", "run-1"): 2.5,
        (
            "ray_olmrl_reward_bench_file_baseline_jsonl",
            "reward/bench/file/baseline.jsonl",
            "run-1",
        ): 0.75,
        ("ray_olmrl_time_step", "time/step", "run-1"): 3.0,
    }


def test_names_are_what_prometheus_allows():
    for key in ["reward/mean", "eval/greedy/type/absent", "reward/bench/file/a-b c.jsonl", "é/1"]:
        assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", gauge_name(key))


def test_an_engine_counts_and_shows_its_last_step(ray_node):
    @ray.remote
    class Engine:  # in a process of its own, as in a run: Ray sums what one that joins twice counts
        def work(self):
            gauges = EngineGauges(vllm_config=None)
            for running, tokens in [(4, 100), (2, 50), (0, 0)]:
                gauges.record(
                    SimpleNamespace(
                        num_running_reqs=running, num_waiting_reqs=7, kv_cache_usage=0.25
                    ),
                    SimpleNamespace(num_generation_tokens=tokens, num_preempted_reqs=1),
                )
            gauges.record(None, None)

    engine = Engine.remote()
    ray.get(engine.work.remote())
    found = scraped(ray_node, r'ray_olmrl_engine_(\w+)\{.*WorkerId=".*\}', wanted=5)
    assert {name: value for (name,), value in found.items()} == {
        "running": 0.0,
        "waiting": 7.0,
        "kv_cache_usage": 0.25,
        "generated_tokens_total": 150.0,
        "preemptions_total": 3.0,
    }
