"""The command-line side of a run: arguments, progress, a line per step, errors in a sentence."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import wandb
from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from olmrl import cluster, storage
from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.config import ConfigError, GrpoConfig, SftConfig, dump, load
from olmrl.config.changes import config_changes
from olmrl.config.load import parse_yaml, validate
from olmrl.config.schema import LoggingConfig
from olmrl.data.prompts import absolute_prompt
from olmrl.errors import RunStopped
from olmrl.metrics import Sink
from olmrl.run.directory import RunDirectory
from olmrl.run.lock import RunLock
from olmrl.run.prometheus import PrometheusSink
from olmrl.run.sinks import JsonlSink, WandbSink
from olmrl.run.stop import StopRequest

ConfigType = TypeVar("ConfigType", GrpoConfig, SftConfig)

_PATH_KEYS = {"path", "train", "heldout", "dir", "root", "cache_dir"}
_LINE_EVERY_S = 0.5
_MODES = ("greedy", "sampled")
_SHOWN_SCORES = ("pass_rate", "reading", "page_exact", "ended")


class Console:
    """Progress on a terminal (a bar and one line per step), plain lines elsewhere."""

    def __init__(self, directory: RunDirectory, stop: StopRequest) -> None:
        self.stop = stop
        self._out = RichConsole(highlight=False, soft_wrap=True)
        self._directory = directory
        self._sinks: list[Sink] = []
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._out,
            transient=True,
            disable=not self._out.is_terminal,
        )
        self._task: Any = None

    def say(self, text: str) -> None:
        """Print a line (above the progress bar, if there is one)."""
        self._out.print(text, markup=False)

    def sinks(self, logging_config: LoggingConfig) -> list[Sink]:
        """Open the metric sinks: metrics.jsonl always, W&B when asked."""
        sinks: list[Sink] = [JsonlSink(self._directory.metrics)]
        if logging_config.wandb != "off":
            os.environ.setdefault("WANDB_SILENT", "true")
            run = wandb.init(
                project=logging_config.wandb_project,
                entity=logging_config.wandb_entity,
                name=self._directory.path.name,
                dir=str(self._directory.path),
                mode=logging_config.wandb,
                config=parse_yaml((self._directory.path / "config.yaml").read_text(), "config"),
                id=self._directory.wandb_id(),
                resume="allow",
                settings=wandb.Settings(console="off", disable_git=True),
            )
            sinks.append(WandbSink(run))
        if logging_config.prometheus:
            sinks.append(PrometheusSink(self._directory.path.name))
        self._sinks = sinks
        return sinks

    def progress(self, title: str, total: int) -> Callable[[int], None]:
        """Start a bar; the returned function moves it to a step."""
        self._progress.start()
        self._task = self._progress.add_task(title, total=total)
        return lambda step: self._progress.update(self._task, completed=step)

    def step_line(
        self, title: str, total: int, columns: Mapping[str, tuple[str, str]]
    ) -> Callable[[int, Mapping[str, float]], None]:
        """Start a bar and give a function that prints one line per step.

        Steps that follow each other within half a second share a line; metrics.jsonl has them all.

        Args:
            title: what the bar counts.
            total: steps expected.
            columns: label -> (metric name, format).
        """
        advance = self.progress(title, total)
        started = printed = time.monotonic()

        def show(step: int, row: Mapping[str, float]) -> None:
            nonlocal printed
            advance(step)
            now = time.monotonic()
            if now - printed < _LINE_EVERY_S and step != total:
                return
            printed = now
            figures = "  ".join(
                f"{label} {row[name]:{form}}"
                for label, (name, form) in columns.items()
                if row.get(name) is not None
            )
            self.say(f"step {step:>4}/{total}  {figures}  [{now - started:.0f} s]")

        return show

    def summary(self, directory: RunDirectory, report: Path) -> None:
        """Say what improved, from what to what, and where the report is."""
        self._progress.stop()
        evaluations = directory.evaluations()
        if len(evaluations) > 1:
            first, last = evaluations[0]["scores"], evaluations[-1]["scores"]
            shown = [f"{mode}/{score}" for mode in _MODES for score in _SHOWN_SCORES]
            for name in ("edit_similarity", *shown):
                if name in first and name in last:
                    change = last[name] - first[name]
                    self.say(
                        f"held-out {name:<20} {first[name]:.3f} -> {last[name]:.3f} ({change:+.3f})"
                    )
        self.say(f"model: {directory.path / 'model'}")
        self.say(f"report: {report}")

    def close(self) -> None:
        """Stop the bar and close the sinks."""
        self._progress.stop()
        for sink in self._sinks:
            sink.close()
            if isinstance(sink, WandbSink) and sink.failures:
                self.say(f"W&B missed {sink.failures} rows; metrics.jsonl has them all")
        self._sinks = []


def run_command(
    name: str,
    schema: type[ConfigType],
    planner: Callable[[ConfigType], cluster.Plan],
    runner: Callable[[ConfigType, RunDirectory, Console], None],
    argv: list[str] | None,
    describe_data: Callable[[ConfigType], str] | None = None,
) -> int:
    """Parse the command line, make the plan, prepare directory and cluster, run.

    Args:
        name: of the command.
        schema: its configuration.
        planner: from configuration to resource plan.
        runner: the run.
        argv: the command line; None takes the process's.
        describe_data: what `--dry-run` says of the pages.

    Returns:
        Exit code: 0 done, 1 the run failed, 2 the request was wrong.
    """
    arguments = _parse(name, argv)
    quiet_libraries()
    try:
        config = _absolute(load(schema, arguments.config, arguments.overrides))
        os.environ["OLMRL_EQUATIONS_RENDERER"] = config.markup.equations.renderer
        plan = planner(config)
        if arguments.dry_run:
            refusal = _show_plan(plan, arguments.cluster)
            if describe_data is not None:
                sys.stdout.write("\n" + describe_data(config) + "\n")
            if refusal is not None:
                raise refusal
            return 0
        directory = RunDirectory(config.run.dir)
        with RunLock(directory.path):
            _prepare(config, directory, arguments)
            cluster.connect(
                config.cluster.address,
                config.cluster.local_cpus,
                plan,
                config.cluster.dashboard,
                config.cluster.wait_s,
                _print_line,
            )
            stop = StopRequest(config.checkpoint.grace_s)
            stop.install()
            console = Console(directory, stop)
            try:
                runner(config, directory, console)
            finally:
                console.close()
            if stop.requested():
                newest = CheckpointFolder(directory.checkpoints).newest()
                step = f"step {newest.step}" if newest else "no step"
                console.say(f"saved {step}; --resume auto continues the run")
                return stop.exit_code
    except (ConfigError, cluster.PlanError) as error:
        return _complain(name, error, 2)
    except (ValueError, RunStopped) as error:
        return _complain(name, error, 1)
    except KeyboardInterrupt:
        return _complain(name, RunStopped("interrupted; --resume auto continues the run"), 130)
    return 0


def _print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _complain(name: str, error: Exception, code: int) -> int:
    sys.stderr.write(f"olmrl.{name}: {error}\n")
    return code


def _parse(name: str, argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m olmrl.{name}")
    parser.add_argument("--config", type=Path, help="YAML file (see configs/)")
    parser.add_argument("--dry-run", action="store_true", help="print the resource plan and exit")
    parser.add_argument("--cluster", metavar="2x8xH100-80G", help="plan for this cluster")
    parser.add_argument(
        "--resume",
        choices=("never", "auto"),
        default="never",
        help="auto: continue the newest complete checkpoint of run.dir, if there is one",
    )
    parser.add_argument(
        "--allow-config-change", action="store_true", help="resume under another configuration"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration overrides")
    return parser.parse_args(argv)


def _show_plan(plan: cluster.Plan, spec: str | None) -> cluster.PlanError | None:
    """Print the plan; gives why the cluster that was named cannot hold it."""
    resources = cluster.parse_cluster(spec) if spec else None
    sys.stdout.write(cluster.describe(plan, resources) + "\n")
    return None if resources is None else cluster.refusal(plan, resources)


def _prepare(
    config: GrpoConfig | SftConfig, directory: RunDirectory, arguments: argparse.Namespace
) -> None:
    """Make or reopen the run directory."""
    text = dump(config)
    if not directory.started:
        directory.create(text)
        return
    if arguments.resume == "never":
        raise ConfigError(
            f"{directory.path}: holds a run already; choose another run.dir, or continue that run "
            "with --resume auto"
        )
    checkpoints = CheckpointFolder(directory.checkpoints)
    checkpoints.recover()
    newest = checkpoints.newest()
    saved = parse_yaml((directory.path / "config.yaml").read_text("utf-8"), "config.yaml")
    changes = config_changes(saved, parse_yaml(text, "configuration"))
    if changes.learning and newest is not None and not arguments.allow_config_change:
        raise ConfigError(
            f"{directory.path}: the configuration changed since the run began:\n"
            + "\n".join(f"  {change}" for change in changes.learning)
            + "\ncontinue with --allow-config-change, or undo the change"
        )
    if changes.free:
        _print_line(f"changed since the run began, not what it learns: {'; '.join(changes.free)}")
    directory.create(text)


def _absolute(config: ConfigType) -> ConfigType:
    """Make local paths absolute: workers do not run in the Driver's folder."""

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: walk(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(v, key) for v in value]
        if isinstance(value, str) and key == "prompt":
            return absolute_prompt(value)
        if isinstance(value, str) and key in _PATH_KEYS and not storage.is_remote(value):
            absolute = os.path.abspath(value)
            return absolute if key == "dir" or os.path.exists(absolute) else value
        return value

    return validate(type(config), walk(config.model_dump(mode="json")), "configuration")


def quiet_libraries() -> None:
    """Keep library chatter off the console; olmrl's own errors carry what matters."""
    warnings.filterwarnings("ignore")
    for variable, value in {
        "RAY_DEDUP_LOGS": "1",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }.items():
        os.environ.setdefault(variable, value)
    for library in ("ray", "ray.train", "ray.data", "ray.tune", "transformers", "vllm"):
        logging.getLogger(library).setLevel(logging.ERROR)
    # DeepSpeed sets its own level when transformers imports it, and then warns of a CPU.
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
