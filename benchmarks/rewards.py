"""Unit-test rewards against the public `olmocr` package: the same inputs, one run, per core.

    .venv/bin/python benchmarks/rewards.py [--pages 18] [--variants 28] [--env /tmp/bench_olmocr]

Makes an environment with olmocr (uv or venv+pip), then feeds both implementations page by page in
turn, so that both run under the same load. Ours are timed twice: as the public verdicts, test by
test, and as the reward of a training run with the pages' truth as reference. olmocr gets its
formulas already rendered (its browser time is NOT counted there; ours are rendered cold, and the
reward is timed once more with its formulas rendered as well); formulas that it has to render itself
are measured separately (`math_uncached`; needs chromium on the PATH,
e.g. apt-get install -y chromium).
Ratios are of CPU seconds, except `math_uncached`, which compares wall time, as half of olmocr's is
spent waiting. Results: benchmarks/results/rewards.json and a row in benchmarks/README.md.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = ("rapidfuzz", "fuzzysearch", "beautifulsoup4", "playwright", "tqdm", "numpy", "lxml")
"""What olmocr's bench needs; its own requirements would pull a GPU stack."""
KINDS = ("present", "absent", "order", "table", "math", "format", "footnote", "baseline")


# ---- the two sides, each in its own process: one JSON page per line in, one result out ----


class Clock:
    """CPU and wall seconds and test counts per kind."""

    def __init__(self):
        self.cpu = defaultdict(float)
        self.wall = defaultdict(float)
        self.count = defaultdict(int)

    def time(self, kind, tests, work, *arguments, **options):
        wall, cpu = time.perf_counter(), time.process_time()
        result = work(*arguments, **options)
        self.cpu[kind] += time.process_time() - cpu
        self.wall[kind] += time.perf_counter() - wall
        self.count[kind] += tests
        return result

    def report(self):
        return {"cpu": self.cpu, "wall": self.wall, "count": self.count}


def serve_ours():
    from olmrl.bench import ParsedPage, load_case

    for line in sys.stdin:
        job = json.loads(line)
        clock = Clock()
        cases = [clock.time("setup", 0, load_case, test, compat=True) for test in job["tests"]]
        verdicts = []
        for text in job["variants"]:
            page = clock.time("setup", 0, ParsedPage, text, compat=True)
            verdicts.append([clock.time(c.type, 1, c.run_parsed, page).passed for c in cases])
        print(json.dumps({"verdicts": verdicts, **clock.report()}), flush=True)


def serve_training(rendered=False):
    """The reward of a training run: the page's truth as reference, passes must be earned.

    `rendered`: the formulas that the other side gets rendered are rendered here, too.
    """
    import numpy as np

    from olmrl.config.schema import RewardConfig
    from olmrl.markup.equations import as_set, render
    from olmrl.rewards import build_all
    from olmrl.rewards.scoring import score_completions
    from olmrl.types import Completion, Page

    rewards = build_all([RewardConfig(name="bench")])
    ids = np.zeros(1, np.int32)
    for line in sys.stdin:
        job = json.loads(line)
        rows, clock = tuple(job["tests"]), Clock()
        page = Page("p", "", 1, job["truth"], rows, ("tests.jsonl",) * len(rows))
        group = [
            Completion("g", k, ids, np.zeros(1, np.float32), (), "stop", text, ids)
            for k, text in enumerate(job["variants"])
        ]
        if rendered:
            for latex in job["rendered"]:
                render(as_set(latex))
        results = clock.time("all", len(rows), score_completions, rewards, page, group)
        verdicts = [[v.passed for v in mine["bench"].verdicts] for mine in results]
        print(json.dumps({"verdicts": verdicts, **clock.report()}), flush=True)


def serve_theirs():
    import olmocr.bench.tests as public
    from olmocr.bench.katex.render import BoundingBox, RenderedEquation, SpanInfo

    nowhere = SpanInfo("@", BoundingBox(0, 0, 1, 1))
    known = {}
    wanted = set()
    nothing = RenderedEquation("<math></math>", [])

    def lookup(latex, **_):
        wanted.add(latex)
        return known.get(latex, nothing)

    public.render_equation = lookup
    for line in sys.stdin:
        job = json.loads(line)
        if "collect" in job:  # collect the formulas to render, with a test that nothing passes
            known["@"] = RenderedEquation("<math><semantics><x/></semantics></math>", [nowhere])
            probe = public.load_single_test({**job["collect"], "math": "@"})
            for text in job["variants"]:
                probe.run(text)
            print(json.dumps(sorted(wanted - known.keys())), flush=True)
            wanted.clear()
            continue
        for latex, answer in job["rendered"].items():
            spans = [SpanInfo(s[0], BoundingBox(*s[1:])) for s in answer.get("symbols", ())]
            mathml = f"<math><semantics>{answer.get('mathml', '')}</semantics></math>"
            known[latex] = RenderedEquation(mathml, spans, answer.get("error"))
        clock = Clock()
        tests = [clock.time("setup", 0, public.load_single_test, test) for test in job["tests"]]
        verdicts = [
            [bool(clock.time(test.type, 1, test.run, text)[0]) for test in tests]
            for text in job["variants"]
        ]
        print(json.dumps({"verdicts": verdicts, **clock.report()}), flush=True)


def render_theirs():
    """Seconds per formula in olmocr's browser; the first one (start-up) separately."""
    from olmocr.bench.katex.render import render_equation
    from playwright.sync_api import BrowserType

    launch = BrowserType.launch
    path = shutil.which("chromium")
    BrowserType.launch = lambda self, **options: launch(self, executable_path=path, **options)
    seconds = []
    for latex in json.load(sys.stdin):
        start = time.perf_counter()
        answer = render_equation(latex, use_cache=False)
        seconds.append(time.perf_counter() - start)
        assert answer is not None and not answer.error, (latex, answer)
    print("\n" + json.dumps(seconds))


def render_ours():
    """Seconds per formula, uncached; the first one (start-up) separately."""
    from olmrl.markup.katex_engine import render_formula

    seconds = []
    for latex in json.load(sys.stdin):
        start = time.perf_counter()
        answer = render_formula(latex, "serif")
        seconds.append(time.perf_counter() - start)
        assert "error" not in answer, (latex, answer)
    print("\n" + json.dumps(seconds))


ROLES = {
    "ours": serve_ours,
    "training": serve_training,
    "training-rendered": partial(serve_training, rendered=True),
    "theirs": serve_theirs,
    "render-ours": render_ours,
    "render-theirs": render_theirs,
}


# ---- the driver ----


def make_environment(folder):
    """An interpreter with olmocr and what its bench needs."""
    python = folder / "venv" / "bin" / "python"
    if python.exists():
        return python
    uv = shutil.which("uv")
    folder.mkdir(parents=True, exist_ok=True)
    if uv:
        subprocess.run([uv, "venv", str(folder / "venv"), "--python", sys.executable], check=True)
        install = [uv, "pip", "install", "--python", str(python)]
    else:
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        install = [str(python), "-m", "pip", "install"]
    subprocess.run([*install, "--no-deps", "olmocr"], check=True)
    subprocess.run([*install, *PACKAGES], check=True)
    return python


class Side:
    """A worker process that answers one page at a time."""

    def __init__(self, python, role, environment):
        self.process = subprocess.Popen(
            [str(python), str(HERE / "rewards.py"), "--role", role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def send(self, job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        assert line, "a side of the benchmark died"
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def our_environment(cache):
    return {**os.environ, "PYTHONPATH": str(HERE.parent), "OLMRL_CACHE": cache}


def run_pages(pages, python):
    """Run both sides on all pages, in turn. Returns {cpu, wall, count} per side, and verdicts."""
    from olmrl.markup.katex_engine import render_formula

    totals = {side: {k: defaultdict(float) for k in ("cpu", "wall", "count")} for side in SIDES}
    agreement = {kind: [0, 0] for kind in KINDS}
    with tempfile.TemporaryDirectory() as cache:
        sides = {
            side: Side(sys.executable, side, our_environment(f"{cache}/{side}"))
            for side in SIDES[:-1]
        } | {"theirs": Side(python, "theirs", dict(os.environ))}
        for page in pages:
            shared = [t for t in page.tests if t["type"] in PUBLIC_KINDS]
            maths = [t for t in shared if t["type"] == "math"]
            formulas = {t["math"] for t in maths}
            if maths:
                sides["theirs"].send({"collect": maths[0], "variants": page.variants})
                formulas.update(sides["theirs"].receive())
            rendered = {latex: render_formula(latex, "serif") for latex in formulas}
            answers = {}
            for name, side in sides.items():
                job = {"tests": shared, "variants": page.variants, "rendered": rendered}
                side.send({**job, "truth": page.truth})
                answers[name] = side.receive()
                for measure, values in totals[name].items():
                    for kind, value in answers[name][measure].items():
                        values[kind] += value
            for mine, other in zip(
                answers["ours"]["verdicts"], answers["theirs"]["verdicts"], strict=True
            ):
                for test, a, b in zip(shared, mine, other, strict=True):
                    agreement[test["type"]][0] += a == b
                    agreement[test["type"]][1] += 1
            print(page.name, end=" ", flush=True)
        for side in sides.values():
            side.close()
    print()
    return totals, {k: f"{same}/{all_}" for k, (same, all_) in agreement.items() if all_}


SIDES = ("ours", "training", "training-rendered", "theirs")
PUBLIC_KINDS = ("present", "absent", "order", "table", "math", "baseline")
"""Types of test in the released package; format and footnote are newer."""


def time_renders(formulas, python):
    """Mean wall seconds per uncached formula of both sides, start-up excluded."""
    seconds = {}
    for role, interpreter, some in (
        ("render-theirs", python, formulas[:12]),
        ("render-ours", sys.executable, formulas),
    ):
        environment = our_environment("") if role == "render-ours" else dict(os.environ)
        run = subprocess.run(
            [str(interpreter), str(HERE / "rewards.py"), "--role", role],
            input=json.dumps(some),
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        answer = next(line for line in run.stdout.splitlines() if line.startswith("["))
        times = json.loads(answer)[1:]
        seconds[role] = sum(times) / len(times)
    return seconds["render-ours"], seconds["render-theirs"]


def time_scaling(pages, processes):
    """Completions per second of wall time with several of our processes, all tests, cold."""
    with tempfile.TemporaryDirectory() as cache:
        sides = [Side(sys.executable, "ours", our_environment(cache)) for _ in range(processes)]
        for side in sides:  # imports are not part of the measurement
            side.send({"tests": pages[0].tests[-1:], "variants": ["warm"]})
            side.receive()
        waiting = iter(pages)

        def serve(side):
            cpu = 0.0
            for page in waiting:  # the next free process takes the next page, as in ScorerPool
                side.send({"tests": page.tests, "variants": page.variants})
                cpu += sum(side.receive()["cpu"].values())
            return cpu

        start = time.perf_counter()
        with ThreadPoolExecutor(processes) as threads:
            cpu = sum(threads.map(serve, sides))
        wall = time.perf_counter() - start
        for side in sides:
            side.close()
    completions = sum(len(page.variants) for page in pages)
    return {"per_second": completions / wall, "per_cpu_second": completions / cpu}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=ROLES, help=argparse.SUPPRESS)
    parser.add_argument("--pages", type=int, default=18)
    parser.add_argument("--variants", type=int, default=28)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--env", type=Path, default=Path("/tmp/bench_olmocr"))
    options = parser.parse_args()
    if options.role:
        ROLES[options.role]()
        return
    sys.path.insert(0, str(HERE.parent))
    from rewards_workload import make_workload

    pages = make_workload(options.pages, options.variants, options.seed)
    python = make_environment(options.env)
    load = os.getloadavg()[0]
    totals, agreement = run_pages(pages, python)
    formulas = sorted({t["math"] for page in pages for t in page.tests if t["type"] == "math"})
    ours_render, theirs_render = time_renders(formulas, python)
    scaling = {str(n): time_scaling(pages, n) for n in (1, 2)}
    result = summarize(options, pages, totals, agreement, scaling, load)
    result["ratios"]["math_uncached"] = theirs_render / ours_render
    result["milliseconds_per_uncached_formula"] = {
        "ours": ours_render * 1e3,
        "theirs": theirs_render * 1e3,
    }
    write(result)


def summarize(options, pages, totals, agreement, scaling, load):
    cpu = {side: totals[side]["cpu"] for side in SIDES}
    kinds = [kind for kind in PUBLIC_KINDS if totals["theirs"]["count"][kind]]
    completions = sum(len(page.variants) for page in pages)
    all_cpu = {side: sum(cpu[side].values()) for side in SIDES}
    per_core = scaling["1"]["per_cpu_second"]
    return {
        "ratios": {
            "overall": all_cpu["theirs"] / all_cpu["ours"],
            "overall, in training": all_cpu["theirs"] / all_cpu["training"],
            "overall, in training, rendered": all_cpu["theirs"] / all_cpu["training-rendered"],
            **{kind: cpu["theirs"][kind] / cpu["ours"][kind] for kind in kinds},
        },
        "completions_per_cpu_second": {side: completions / all_cpu[side] for side in SIDES},
        "milliseconds_per_test": {
            kind: {
                side: 1e3 * cpu[side][kind] / totals[side]["count"][kind]
                for side in ("ours", "theirs")
            }
            for kind in kinds
        },
        "same_verdicts": agreement,
        "scaling": scaling,
        "projection_28x512": {
            "completions": 28 * 512,
            "core_seconds": 28 * 512 / per_core,
            "olmocr_core_seconds_renders_free": 28 * 512 / (completions / all_cpu["theirs"]),
        },
        "workload": {
            "pages": len(pages),
            "completions": completions,
            "tests_per_page": sum(len(page.tests) for page in pages) / len(pages),
            "characters_per_page": sum(len(page.truth) for page in pages) / len(pages),
            "seed": options.seed,
        },
        "hardware": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "load_average_at_start": load,
            "machine": platform.machine(),
        },
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": versions(options.env / "venv" / "bin" / "python"),
        "command": " ".join(["python", "benchmarks/rewards.py", *sys.argv[1:]]),
    }


def cpu_name():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def versions(python):
    ask = "import importlib.metadata as m, json, sys; "
    ask += "print(json.dumps([m.version(n) for n in sys.argv[1:]]))"
    names = ["olmocr", "beautifulsoup4", "fuzzysearch", "rapidfuzz"]
    run = subprocess.run([str(python), "-c", ask, *names], capture_output=True, text=True)
    theirs = dict(zip(names, json.loads(run.stdout), strict=True))
    ours = {name: importlib.metadata.version(name) for name in ("rapidfuzz", "quickjs-ng")}
    return {"python": platform.python_version(), "theirs": theirs, "ours": ours}


def write(result):
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    (folder / "rewards.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: result[k] for k in ("ratios", "same_verdicts", "scaling")}, indent=1))


if __name__ == "__main__":
    main()
