"""The command line of a run: arguments, plan, run directory, errors in a sentence.

Nothing here imports Ray, torch or a model's code: a misspelt key, a missing folder and `--dry-run`
are answered before any of them is loaded. `session` is what follows.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from olmrl import cluster, storage
from olmrl.arguments import ArgumentParser
from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.config import ConfigError, GrpoConfig, SftConfig, dump, load
from olmrl.config.changes import config_changes, keep_former_defaults
from olmrl.config.load import parse_yaml, validate
from olmrl.data.prompts import absolute_prompt
from olmrl.doctor.facts import gather
from olmrl.door import INTERRUPTED, UNFINISHED, WRONG, complain, of_storage
from olmrl.errors import Interrupted, RunStopped
from olmrl.models.files import model_config
from olmrl.models.weight_files import check_loadable
from olmrl.preflight import checks, overlap
from olmrl.preflight.verdict import available, verdict
from olmrl.progress import waiting
from olmrl.run.directory import RunDirectory
from olmrl.run.lock import RunLock
from olmrl.run.quiet import quiet_libraries

ConfigType = TypeVar("ConfigType", GrpoConfig, SftConfig)

_OLDER = (
    "this run was begun by an older olmrl: from here on its learning rate follows the pages used "
    "up, minibatches are cut by prompt groups, and guards.max_sequence_spread may stop it\n"
)
_LOOKING = "looking at configuration, pages and model"
_PATH_KEYS = {"path", "train", "heldout", "bench", "dir", "root", "cache_dir"}


def run_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """The arguments that every run takes; overrides may stand anywhere among them.

    Parse with `parse_intermixed_args`.
    """
    parser = ArgumentParser(prog, description=description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", type=Path, help="YAML file (see configs/)")
    parser.add_argument("--dry-run", action="store_true", help="print the resource plan and exit")
    parser.add_argument(
        "--cluster", metavar="2x8xH100-80G", help="with --dry-run: plan for this cluster"
    )
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
    return parser


def run_command(
    prog: str,
    schema: type[ConfigType],
    arguments: argparse.Namespace,
    *,
    planner: Callable[[ConfigType], cluster.Plan],
    start: Callable[[ConfigType, cluster.Plan, RunDirectory], int],
    describe_data: Callable[[ConfigType], str] | None = None,
) -> int:
    """Make the plan, prepare the run directory, run.

    Args:
        prog: the command, as the user called it.
        schema: its configuration.
        arguments: what `run_parser` parsed.
        planner: makes the resource plan.
        start: runs in the prepared directory; returns the exit code.
        describe_data: what `--dry-run` says of the pages.

    Returns:
        Exit code: see `olmrl.door`; a configuration that is wrong is a wrong request at any time.
    """
    quiet_libraries()
    # A thread that outlives the run would start a Ray of its own.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    code = WRONG
    try:
        if arguments.cluster and not arguments.dry_run:
            raise ConfigError(
                "--cluster only plans, with --dry-run; to run on a cluster that is up, set "
                "cluster.address, or start olmrl on it by `ray job submit`"
            )
        config = _absolute(load(schema, arguments.config, arguments.overrides))
        os.environ["OLMRL_EQUATIONS_RENDERER"] = config.markup.equations.renderer
        if arguments.dry_run:
            _dry_run(config, arguments.cluster, planner, describe_data)
            return 0
        plan = _preflight(config, planner)
        _know_models(config)
        directory = RunDirectory(config.run.dir)
        with RunLock(directory.path):
            config = _prepare(config, directory, arguments)
            sys.stdout.write(
                f"run directory: {directory.path}\n"
                f"to follow the run: olmrl report {shlex.quote(str(directory.path))} --serve\n"
            )
            sys.stdout.flush()
            code = UNFINISHED
            return start(config, plan, directory)
    except (ConfigError, cluster.PlanError) as error:
        return complain(prog, error, WRONG)
    except (ValueError, RunStopped, OSError) as error:
        return complain(prog, error, code)
    except Interrupted as error:
        return complain(prog, f"{error}; --resume auto continues the run", error.code)
    except KeyboardInterrupt:
        return complain(prog, "interrupted; --resume auto continues the run", INTERRUPTED)
    except Exception as error:
        return complain(prog, of_storage(error), code)


def _dry_run(
    config: ConfigType,
    spec: str | None,
    planner: Callable[[ConfigType], cluster.Plan],
    describe_data: Callable[[ConfigType], str] | None,
) -> None:
    """Print the plan, its verdict first, and what is known of the pages.

    Raises:
        ConfigError: something is wrong that the start would refuse.
        PlanError: the run does not fit.
    """
    with waiting(_LOOKING):
        facts = gather(config.run.dir)
        wrong: list[str] = checks.troubles(checks.ANYWHERE, config, facts)
        here: list[str] = checks.troubles(checks.HERE, config, facts)
        plan: cluster.Plan = planner(config)
        judged = verdict(plan, *available(config, plan, spec, facts))
        pages = "" if describe_data is None else _described(config, describe_data)
        warned = _warnings(config)
    sys.stdout.write(f"{judged.text}\n{pages}{warned}")
    if spec and here:
        sys.stdout.write(f"\nnot on this machine; {spec} needs it\n")
        sys.stdout.writelines(f"  - {text}\n" for text in here)
    problems = wrong if spec else [*wrong, *here, *checks.disk(config, plan)]
    if judged.refusal is not None and not problems:
        raise judged.refusal
    checks.require(([] if judged.refusal is None else [str(judged.refusal)]) + problems)


def _described(config: ConfigType, describe_data: Callable[[ConfigType], str]) -> str:
    """What is known of the pages."""
    try:
        return f"\n{describe_data(config)}\n"
    except ValueError as error:  # one of the problems that are told
        return f"\npages: {error}\n"


def _preflight(config: ConfigType, planner: Callable[[ConfigType], cluster.Plan]) -> cluster.Plan:
    """The plan of a run that can start here.

    Raises:
        ConfigError: something is wrong.
        PlanError: it does not fit on this machine.
    """
    with waiting(_LOOKING):
        facts = gather(config.run.dir)
        checks.require(checks.troubles((*checks.ANYWHERE, *checks.HERE), config, facts))
        plan = planner(config)
        resources, _ = available(config, plan, None, facts)
        refused = None if resources is None else cluster.refusal(plan, resources)
        if refused is not None:
            raise refused
        checks.require(checks.disk(config, plan))
        warned = _warnings(config)
    sys.stdout.write(warned)
    return plan


def _warnings(config: GrpoConfig | SftConfig) -> str:
    """What a run may do, and hardly should."""
    return "".join(f"\nwarning: {text}\n" for text in overlap.remarks(config))


def _know_models(config: GrpoConfig | SftConfig) -> None:
    """Ask the Hub for the config.json of models that are no folders, before Ray starts.

    Of local ones, say how tensors are named, where it is not as usual.

    Raises:
        ValueError: there is no such model, or none that can be asked for.
    """
    for key, path in checks.models_of(config):
        if not os.path.isdir(path):
            try:
                model_config(path)
            except ValueError as error:
                raise ConfigError(f"{key}: {error}") from error
            continue
        prefix = check_loadable(path)
        if prefix:
            sys.stdout.write(f"{key}: names of tensors are read without their {prefix!r}\n")


def _prepare(
    config: ConfigType, directory: RunDirectory, arguments: argparse.Namespace
) -> ConfigType:
    """Make or reopen the run directory; returns the configuration to run with."""
    if not directory.has_results:
        directory.create(dump(config))
        return config
    if arguments.resume == "never":
        raise ConfigError(
            f"{directory.path}: holds a run already; choose another run.dir, or continue that run "
            "with --resume auto"
        )
    if isinstance(config, GrpoConfig) and directory.is_older:
        sys.stdout.write(_OLDER)
    checkpoints = CheckpointFolder(directory.checkpoints)
    checkpoints.recover()
    newest = checkpoints.newest()
    saved = parse_yaml((directory.path / "config.yaml").read_text("utf-8"), "config.yaml")
    if isinstance(config, GrpoConfig) and directory.is_older and not arguments.allow_config_change:
        saved, begun, kept = keep_former_defaults(saved, config.model_dump(mode="json"))
        config = validate(type(config), begun, "configuration")
        if kept:
            sys.stdout.write(f"as the run began, before defaults changed: {', '.join(kept)}\n")
    changes = config_changes(_with_defaults(type(config), saved), config.model_dump(mode="json"))
    if changes.learning and newest is not None and not arguments.allow_config_change:
        raise ConfigError(
            f"{directory.path}: the configuration changed since the run began:\n"
            + "\n".join(f"  {change}" for change in changes.learning)
            + "\ncontinue with --allow-config-change, or undo the change"
        )
    if changes.free:
        free = "; ".join(changes.free)
        sys.stdout.write(f"changed since the run began, without effect on what it learns: {free}\n")
    directory.create(dump(config))
    return config


def _with_defaults(schema: type[BaseModel], saved: dict[str, Any]) -> dict[str, Any]:
    """A saved configuration with the default of every key that is newer than the run.

    A key's default should be what the code did before the key existed. Where the saved keys no
    longer fit the schema they stay as they are, and the difference names them.
    """
    try:
        return validate(schema, saved, "config.yaml").model_dump(mode="json")
    except ConfigError:
        return saved


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
