"""The one list of what must hold before a run starts.

Each check looks at one subject and yields a sentence per problem, which names the key. Those of
`ANYWHERE` are about the configuration alone, those of `HERE` about files and packages that have to
be where the run starts, which is another machine than this one when `--cluster` names it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from olmrl import storage
from olmrl.cluster.memory import BYTES
from olmrl.cluster.plan import Plan
from olmrl.config import ConfigError
from olmrl.config.registered import LOSSES, REWARDS, TRANSPORTS
from olmrl.config.registry import Registry, construct
from olmrl.config.schema import GrpoConfig, SftConfig
from olmrl.data.page import PageSource, scan_bench, scan_pairs
from olmrl.data.prompts import load_prompt
from olmrl.data.sets import asking_pipeline, pipelines_of
from olmrl.data.tally import excess_bad
from olmrl.data.validate import bad_pair
from olmrl.doctor.checks import Level, judge
from olmrl.doctor.facts import Facts
from olmrl.errors import said_together, sentence
from olmrl.hardware import GIB
from olmrl.models.files import check_count, check_tokenizer, image_settings, model_config
from olmrl.models.places import refuse_no_folder
from olmrl.models.weight_files import check_loadable, check_trainable
from olmrl.preflight.trackers import tensorboard_module
from olmrl.rewards.registry import build
from olmrl.rollout.environment import check_vllm
from olmrl.weight_sync.transport import run_transport

Config = GrpoConfig | SftConfig
Check = Callable[[Config, Facts], Iterator[str]]
_RANKS_PER_CORE = 2
"""More ranks than this on a CPU core wait for each other without end."""
_WORK_ANYWHERE = ("auto", "object_store")
"""Weight transports that need nothing; `object_store` is not even imported here, as it brings torch
along."""
_POLICY_LOSS = ("olmrl.learner.loss", "PolicyLoss")
"""Module and name of what a loss is derived from; importing it here would bring torch along."""
_LOOKED_AT = 64
"""Page pairs that are opened before Ray; the validation at the start opens all of them."""
_SHOWN = 3
"""Bad pairs quoted in a problem."""
_ADAM_BYTES = 8
"""Optimizer state of a trained parameter."""


def troubles(checks: Sequence[Check], config: Config, facts: Facts) -> list[str]:
    """Every problem that the checks find, each said once."""
    return list(dict.fromkeys(text for check in checks for text in check(config, facts)))


def require(problems: Sequence[str]) -> None:
    """Refuse a run.

    Raises:
        ConfigError: there is a problem; names all of them.
    """
    if problems:
        raise ConfigError(said_together(problems))


# -- about the configuration alone


def own_rewards(config: Config, facts: Facts) -> Iterator[str]:
    """Options, weights and curricula of rewards that come with olmrl."""
    yield from _rewards(config, registered=True)


def loss(config: Config, facts: Facts) -> Iterator[str]:
    """Losses that come with olmrl have no options."""
    if isinstance(config, SftConfig) or not _registered(LOSSES, config.algorithm.loss):
        return
    if config.algorithm.loss_options:
        names = ", ".join(map(repr, config.algorithm.loss_options))
        yield (
            f"algorithm.loss_options: loss {config.algorithm.loss!r} has no options, got {names}; "
            "only a loss of your own has"
        )


def transport(config: Config, facts: Facts) -> Iterator[str]:
    """The weight transport works between engines and learner as they are placed."""
    if isinstance(config, SftConfig) or config.weight_sync.transport in _WORK_ANYWHERE:
        return
    if _registered(TRANSPORTS, config.weight_sync.transport):
        yield from _transport(config)


# -- about the place where the run starts


def modules(config: Config, facts: Facts) -> Iterator[str]:
    """Modules of the user's own parts can be found; those of rewards can be imported."""
    yield from _rewards(config, registered=False)
    if isinstance(config, SftConfig):
        return
    for registry, key, name in (
        (LOSSES, "algorithm.loss", config.algorithm.loss),
        (TRANSPORTS, "weight_sync.transport", config.weight_sync.transport),
    ):
        if not _registered(registry, name) and not _found(name.partition(":")[0]):
            yield (
                f"{key}: {name}: no module {name.partition(':')[0]}; it must be importable "
                "(PYTHONPATH)"
            )
            return
    yield from _own_loss(config)
    if not _registered(TRANSPORTS, config.weight_sync.transport):
        yield from _transport(config)


def folders(config: Config, facts: Facts | None = None) -> Iterator[str]:
    """Local folders exist."""
    for key, path in folders_of(config):
        if path is not None and not storage.is_remote(path) and not os.path.isdir(path):
            yield f"{key}: {path}: " + (
                "not a folder" if os.path.exists(path) else "no such folder"
            )


def run_folder(config: Config, facts: Facts) -> Iterator[str]:
    """Folders of the run, and of what it remembers, can be made and written."""
    for key, path in (("run.dir", config.run.dir), ("data.cache_dir", _cache_dir(config))):
        try:
            if path is not None:
                storage.check_target(path, f"{key}: ")
        except ValueError as error:
            yield str(error)
        except OSError as error:
            yield f"{key}: {sentence(error)}"
    if storage.is_remote(config.run.dir) and not config.run.dir.startswith("hf://"):
        yield (
            f"run.dir: {config.run.dir}: must be a folder of this machine or of a mounted file "
            "system; copy a finished run to remote storage"
        )


def _cache_dir(config: Config) -> str | None:
    return config.data.cache_dir if isinstance(config, SftConfig) else None


def prompts(config: Config, facts: Facts) -> Iterator[str]:
    """Prompts can be read, and SFT's steps make examples."""
    try:
        if isinstance(config, GrpoConfig):
            load_prompt(config.data.prompt)
            return
        pipelines_of(config.data)
        if config.evaluation.generate is not None and config.evaluation.generate.bench is not None:
            asking_pipeline(config)
    except ValueError as error:
        yield f"data.prompt: {error}" if isinstance(config, GrpoConfig) else str(error)


def pages(config: Config, facts: Facts) -> Iterator[str]:
    """Local folders have pages; those of GRPO have tests, and their PDFs are there."""
    yield from _bench_pages(config) if isinstance(config, GrpoConfig) else _pairs(config)


def model(config: Config, facts: Facts) -> Iterator[str]:
    """Files of local models are whole and can be trained, by their headers."""
    for key, path in models_of(config):
        try:
            refuse_no_folder(f"{key}:", path)
        except ValueError as error:
            yield str(error)
        if not os.path.isdir(path):
            continue
        try:
            check_loadable(path)
            check_trainable(path, model_config(path))
            check_count(path)
            check_tokenizer(path)
            image_settings(path)
        except (ValueError, OSError) as error:
            yield f"{key}: {sentence(error)}"


def versions(config: Config, facts: Facts) -> Iterator[str]:
    """Packages are in the range that olmrl works with."""
    if facts.requirements is not None:
        yield from _failures(facts, ("packages",))
    if isinstance(config, GrpoConfig) and config.rollout.engine == "vllm":
        try:
            check_vllm()
        except ValueError as error:
            yield str(error)


def trackers(config: Config, facts: Facts) -> Iterator[str]:
    """Packages of the trackers that were asked for are there."""
    if config.logging.tensorboard:
        try:
            tensorboard_module()
        except ConfigError as error:
            yield str(error)


def processor(config: Config, facts: Facts) -> Iterator[str]:
    """Ranks on CPUs have cores to run on, and a driver fits torch's CUDA."""
    if _joins(config):
        return
    if config.learner.use_gpu:
        yield from _failures(facts, ("GPU", "MIG", "driver", "NCCL"))
        return
    cores, ranks = max(1, int(facts.usable_cores)), config.learner.workers
    if ranks > _RANKS_PER_CORE * cores:
        yield (
            f"learner.workers: {ranks} ranks would take turns on this machine's {cores} cores; "
            f"set learner.workers={cores}, or cluster.address to a larger cluster"
        )


ANYWHERE: tuple[Check, ...] = (own_rewards, loss, transport)
HERE: tuple[Check, ...] = (
    folders, run_folder, modules, prompts, pages, model, versions, trackers, processor,
)  # fmt: skip


def disk(config: Config, plan: Plan) -> list[str]:
    """See that the disk of run.dir has room for one checkpoint and the model."""
    if plan.shape is None:
        return []
    trained = plan.shape.trained(config.model)
    need = trained * (BYTES[config.model.master_dtype] + _ADAM_BYTES)
    need += plan.shape.parameters * BYTES[config.model.dtype]
    there = _existing(config.run.dir)
    free = shutil.disk_usage(there).free
    if free >= need:
        return []
    return [
        f"run.dir: {there} has {_size(free)} free, a checkpoint and the model need "
        f"{_size(need)}; free space, or choose another folder"
    ]


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.1f} MiB"


def models_of(config: Config) -> list[tuple[str, str]]:
    """Configuration keys of models that the learner loads, and their paths."""
    found = [("model.path", config.model.path)]
    if isinstance(config, GrpoConfig) and config.algorithm.teacher is not None:
        found.append(("algorithm.teacher.path", config.algorithm.teacher.path))
    return found


def folders_of(config: Config) -> list[tuple[str, str | None]]:
    """Configuration keys and their folders of pages."""
    if isinstance(config, GrpoConfig):
        return [("data.train", config.data.train), ("data.heldout", config.data.heldout)]
    found: list[tuple[str, str | None]] = []
    for key, sets in (("train", config.data.train), ("evaluation", config.data.evaluation)):
        found += [(f"data.{key}[{number}].root", each.root) for number, each in enumerate(sets)]
    if config.evaluation.generate is not None:
        found.append(("evaluation.generate.bench", config.evaluation.generate.bench))
    return found


def _existing(path: str) -> Path:
    """A path, or the nearest folder above it that exists."""
    there = Path(path).absolute()
    while not there.exists():
        there = there.parent
    return there


def _rewards(config: Config, *, registered: bool) -> Iterator[str]:
    if isinstance(config, SftConfig):
        return
    for number, reward in enumerate(config.rewards):
        if _registered(REWARDS, reward.name) != registered:
            continue
        try:
            build(reward)
        except ValueError as error:
            yield f"rewards[{number}]: {error}"


def _own_loss(config: GrpoConfig) -> Iterator[str]:
    """A loss of the user's own can be made with its options."""
    name = config.algorithm.loss
    if _registered(LOSSES, name):
        return
    try:
        target = LOSSES.load(name)
        bases = getattr(target, "__mro__", ())
        if not any((base.__module__, base.__name__) == _POLICY_LOSS for base in bases):
            yield f"algorithm.loss: {name} is not a class derived from {'.'.join(_POLICY_LOSS)}"
            return
        construct(f"loss {name!r}", target, config.algorithm.loss_options)
    except ValueError as error:
        yield f"algorithm.loss: {error}"


def _transport(config: GrpoConfig) -> Iterator[str]:
    try:
        run_transport(config)
    except ValueError as error:
        yield str(error)


def _registered(registry: Registry, name: str) -> bool:
    return name in registry.names


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _bench_pages(config: GrpoConfig) -> Iterator[str]:
    data = config.data
    for key, folder, pattern in (
        ("data.train", data.train, data.file_pattern),
        ("data.heldout", data.heldout, None),
    ):
        if folder is None or storage.is_remote(folder) or not os.path.isdir(folder):
            continue
        try:
            found = scan_bench(folder, pattern)
        except (ValueError, OSError) as error:
            yield f"{key}: {sentence(error)}{_pairs_hint(folder)}"
            continue
        yield from _missing(key, found, data.max_bad_fraction)
        if key == "data.train":
            yield from _curricula(config, found)


def _pairs_hint(folder: str) -> str:
    """For whoever gives page pairs to GRPO."""
    if os.path.isdir(folder) and storage.list_files(folder, ".md"):
        return f"; it holds page pairs: `olmrl synth tests {folder} OUT` makes tests of them"
    return ""


def _missing(key: str, found: Sequence[PageSource], most: float) -> Iterator[str]:
    """PDFs that are not there, if there are more than a run allows."""
    local = {page.pdf_path for page in found if not storage.is_remote(page.pdf_path)}
    lost = {path for path in local if not os.path.exists(path)}
    bad = sum(page.pdf_path in lost for page in found)
    problem = excess_bad(bad, len(found), most) if lost else ""
    if problem:
        yield f"{key}: {problem}; {min(lost)} and {len(lost) - 1} other PDFs do not exist"


def _curricula(config: GrpoConfig, found: Sequence[PageSource]) -> Iterator[str]:
    names = {name for page in found for name in page.test_files}
    for reward in config.rewards:
        if reward.curriculum and _registered(REWARDS, reward.name):
            try:
                curriculum = build(reward).curriculum
                if curriculum is not None:
                    curriculum.check_files(names)
            except ValueError as error:
                yield f"rewards: {error}"


def _pairs(config: SftConfig) -> Iterator[str]:
    found: list[PageSource] = []
    for key, entries in (("train", config.data.train), ("evaluation", config.data.evaluation)):
        for number, entry in enumerate(entries):
            if storage.is_remote(entry.root) or not os.path.isdir(entry.root):
                continue
            try:
                found += scan_pairs(entry.root).sources
            except (ValueError, OSError) as error:
                yield f"data.{key}[{number}].root: {sentence(error)}"
    yield from _useless(found, config.data.max_bad_fraction)


def _useless(pairs: Sequence[PageSource], most: float) -> Iterator[str]:
    """Too many bad pairs among few, or nothing but bad ones in a look at some of many."""
    some = pairs[:: len(pairs) // _LOOKED_AT + 1]
    bad = [bad for pair in some if (bad := bad_pair(pair)) is not None]
    if len(some) == len(pairs):
        problem = excess_bad(len(bad), len(pairs), most, "page pairs")
    else:
        problem = f"none of {len(some)} page pairs can be used" if len(bad) == len(some) else None
    if problem:
        yield f"{problem}; the first: {'; '.join(map(str, bad[:_SHOWN]))}"


def _failures(facts: Facts, subjects: Sequence[str]) -> Iterator[str]:
    """What `olmrl doctor` says of these subjects where they fail."""
    for line in judge(facts):
        if line.level is Level.FAIL and line.subject in subjects:
            yield f"{line.subject}: {line.text}; {line.remedy}"


def _joins(config: Config) -> bool:
    """Whether the run joins a cluster instead of starting one on this machine."""
    address = config.cluster.address or os.environ.get("RAY_ADDRESS")
    return bool(address) and address != "local"
