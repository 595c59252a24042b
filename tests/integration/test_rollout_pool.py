"""The pool with real workers: every completion once, whatever dies, stalls or comes late."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import ray
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from olmrl.config.schema import RolloutConfig, WeightSyncConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.payload import pack_block, unpack_block
from olmrl.errors import EngineBroken, LinkBroken, WeightMismatch
from olmrl.grpo.waiting import await_engines
from olmrl.metrics import flatten
from olmrl.models.registry import FAMILIES
from olmrl.rollout.engine import BASE_VERSION
from olmrl.rollout.pool import EnginesFailed, RolloutPool
from olmrl.rollout.requests import Generated, GenerationFailure
from olmrl.rollout.worker import WorkerSpec
from olmrl.synth.model import make_model
from olmrl.types import Completion, Page, PolicyVersion, RenderedPage, SamplingSpec
from olmrl.weight_sync.direct_sender import DirectSender
from olmrl.weight_sync.fleet import Fleet
from olmrl.weight_sync.object_store import ObjectStore
from olmrl.weight_sync.publication import pack
from olmrl.weight_sync.sender import make_sender
from olmrl.weight_sync.store import start_store
from olmrl.weight_sync.transport import WeightSender

DRAW = SamplingSpec(temperature=0.8, top_p=1.0, max_tokens=24)
FAMILY = FAMILIES["qwen2_5_vl"]
LONG = SamplingSpec(temperature=0.8, top_p=1.0, max_tokens=400)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = ["a page of words, a table and 1 2 3 numbers"] * 5
    return make_model(texts, tmp_path_factory.mktemp("pool") / "model", vocab_size=320)


@pytest.fixture(scope="module")
def store(ray_job: Any) -> Iterator[Any]:
    with ray_job(cpus=4):
        yield start_store()


def make_pool(model_path: Path, store: Any, **changes: Any) -> RolloutPool:
    settings: dict[str, Any] = {
        "engine": "hf",
        "workers": 2,
        "dtype": "float32",
        "max_model_len": 700,
        "max_num_seqs": 8,
        "kv_cache_gb": 0.25,
        "stall_timeout_s": 8.0,
    }
    config = RolloutConfig(**settings | changes)
    return RolloutPool(
        WorkerSpec(EncoderSpec(str(model_path)), config, False, "object_store"), store
    )


@pytest.fixture(scope="module")
def pool(model_path: Path, store: Any) -> Iterator[RolloutPool]:
    pool = make_pool(model_path, store)
    pool.start()
    all_ready(pool, 2)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def sender(store: Any) -> WeightSender:
    config = WeightSyncConfig(checksum=True, bucket_mb=0.5)
    return make_sender(
        config, store, 0, transport="object_store", dtype="float32", family=FAMILY, timeout_s=60
    )


def all_ready(pool: RolloutPool, number: int) -> None:
    pool.wait_ready(180)
    deadline = time.monotonic() + 180
    while pool.ready < number:
        assert time.monotonic() < deadline
        pool.poll(0.5)


def page(model_path: Path, seed: int, side: int = 110) -> Any:
    """ObjectRef of the block of an encoded page."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    rendered = RenderedPage(Page(f"page-{seed}::1", "page.pdf", 1), pixels)
    return ray.put(pack_block(EncoderSpec(str(model_path)).build().encode_page(rendered)))


def gather(
    pool: RolloutPool, number: int, meanwhile: Callable[[list[Generated]], None] = lambda _: None
) -> list[Any]:
    found: list[Any] = []
    deadline = time.monotonic() + 180
    while len(found) < number:
        assert time.monotonic() < deadline, f"{len(found)} of {number} after 180 s"
        found += pool.poll(0.5)
        meanwhile(found)
    # Nothing may follow: what was re-issued must not come twice.
    for _ in range(3):
        found += pool.poll(0.2)
    assert len(found) == number
    return found


def tokens(completions: list[Completion]) -> dict[tuple[str, int], list[int]]:
    return {(c.group_id.split("/")[-1], c.index): c.token_ids.tolist() for c in completions}


def perturbed(model_path: Path, scale: float) -> list[tuple[str, torch.Tensor]]:
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(model_path, dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator) * scale
    return list(model.state_dict().items())


def test_the_death_of_the_weight_store_is_noticed(
    model_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ready engines never ask it again, and would sample from old weights for ever."""
    monkeypatch.setattr("olmrl.rollout.pool._LOOK_AT_STORE_S", 0.0)
    mortal = start_store()
    pool = make_pool(model_path, mortal)
    ray.get(mortal.version.remote())
    assert pool.poll(0.0) == pool.poll(0.0) == []
    ray.kill(mortal)
    deadline = time.monotonic() + 60
    with pytest.raises(ray.exceptions.RayActorError):
        while time.monotonic() < deadline:
            pool.poll(0.1)


def test_groups_come_whole_from_both_workers_and_pages_move_once(
    pool: RolloutPool, model_path: Path
) -> None:
    pool.measurements()
    pages = [page(model_path, seed) for seed in range(6)]
    for number, reference in enumerate(pages):
        pool.submit(f"a/{number}", reference, DRAW, (1, 2, 3, 4))
    first = gather(pool, 24)
    assert Counter(c.group_id for c in first) == {f"a/{k}": 4 for k in range(6)}
    assert pool.unfinished == 0
    counted = flatten(pool.measurements())
    assert counted["rollout/completions"] == 24
    assert counted["rollout/tokens"] == sum(len(c.token_ids) for c in first)
    assert counted["rollout/page_bytes"] == sum(block.nbytes for block in ray.get(pages))
    assert "data/image_calls_per_page" not in counted  # pages come as patches
    # Other order, other company: the hf engine gives the same bits.
    for number in reversed(range(6)):
        pool.submit(f"b/{number}", pages[number], DRAW, (1, 2, 3, 4))
    again = gather(pool, 24)
    assert tokens(again) == tokens(first)
    for one, other in zip(
        sorted(first, key=lambda c: (c.group_id, c.index)),
        sorted(again, key=lambda c: (c.group_id, c.index)),
        strict=True,
    ):
        assert one.logprobs.tobytes() == other.logprobs.tobytes()


def test_oversampling_delivers_the_first_and_aborts_the_rest(
    pool: RolloutPool, model_path: Path
) -> None:
    pool.measurements()
    pool.submit("over", page(model_path, 1), LONG, tuple(range(7)), needed=4)
    found = gather(pool, 4)
    assert [c.index for c in found] == [0, 1, 2, 3]
    assert flatten(pool.measurements())["rollout/aborted"] == 3
    assert pool.unfinished == 0


def test_aborted_groups_deliver_nothing(pool: RolloutPool, model_path: Path) -> None:
    for number in range(6):
        pool.submit(f"gone/{number}", page(model_path, number), LONG, (0, 1, 2, 3))
    pool.submit("kept", page(model_path, 9), DRAW, (0, 1))
    pool.abort([f"gone/{number}" for number in range(6)])
    assert {c.group_id for c in gather(pool, 2)} == {"kept"}


def test_what_cannot_be_generated_is_told_once(pool: RolloutPool, model_path: Path) -> None:
    pool.submit("big", page(model_path, 2, 1000), DRAW, (0, 1, 2))
    wordless = replace(unpack_block(ray.get(page(model_path, 2))), prompt_ids=np.arange(60, 70))
    pool.submit("wordless", ray.put(pack_block(wordless)), DRAW, (0, 1))
    pool.submit("fine", page(model_path, 2), DRAW, (0,))
    found = gather(pool, 3)
    failures = {f.group_id: f.reason for f in found if isinstance(f, GenerationFailure)}
    assert set(failures) == {"big", "wordless"}
    assert "page-2::1" in failures["big"] and "max_model_len=700" in failures["big"]
    assert "image" in failures["wordless"]
    with pytest.raises(ValueError, match="group twice"):
        pool.submit("twice", page(model_path, 3), DRAW, (0,))
        pool.submit("twice", page(model_path, 3), DRAW, (0,))
    gather(pool, 1)


def test_a_sync_reaches_every_engine_and_is_measured(
    pool: RolloutPool, sender: WeightSender, model_path: Path
) -> None:
    version = PolicyVersion(1, 1)
    named = perturbed(model_path, 0.05)
    measured = flatten(sender.send(iter(named), version))
    size = sum(t.numel() * 4 for _, t in named)
    assert measured["weight_sync/bytes"] == 2 * size
    assert measured["weight_sync/engines"] == 2
    assert measured["weight_sync/seconds"] > 0
    for number in range(4):
        pool.submit(f"new/{number}", page(model_path, number), DRAW, (0, 1))
    for completion in gather(pool, 8):
        assert [span.version for span in completion.versions] == [version]


def test_unequal_weights_are_found_by_checksum(
    pool: RolloutPool, store: Any, model_path: Path
) -> None:
    """An engine that says it has a version and holds other weights stops the run."""
    engines = ray.get(store.engines.remote())
    version = PolicyVersion(1, 2)
    ray.get(engines[0].handle.start_weight_update.remote())
    ray.get(engines[0].handle.finish_weight_update.remote(version, "recompute"))
    config = WeightSyncConfig(checksum=True)
    sender = make_sender(config, store, 0, transport="object_store", dtype="float32", family=FAMILY)
    with pytest.raises(WeightMismatch, match=engines[0].worker_id):
        sender.send(iter(perturbed(model_path, 0.02)), version)


class HalfStore(ObjectStore):
    """A user's transport: sends bfloat16 to engines that compute in float32."""

    def sender(self, config: Any, fleet: Any, rank: int, wire: torch.dtype) -> WeightSender:
        return super().sender(config, fleet, rank, torch.bfloat16)


def test_a_transport_of_ones_own_reaches_every_engine(
    pool: RolloutPool, store: Any, model_path: Path
) -> None:
    version = PolicyVersion(1, 3)
    own = f"{__name__}:HalfStore"
    sender = make_sender(
        WeightSyncConfig(), store, 0, transport=own, dtype="float32", family=FAMILY
    )
    named = perturbed(model_path, 0.04)
    measured = flatten(sender.send(iter(named), version))
    assert measured["weight_sync/bytes"] == 2 * sum(t.numel() * 2 for _, t in named)
    pool.submit("half", page(model_path, 0), DRAW, (0, 1))
    for completion in gather(pool, 2):
        assert [span.version for span in completion.versions] == [version]


def test_ranks_but_the_first_only_iterate(store: Any) -> None:
    sender = make_sender(
        WeightSyncConfig(), store, 1, transport="object_store", dtype="float32", family=FAMILY
    )
    before = ray.get(store.version.remote())
    read: list[int] = []
    named = ((str(k), read.append(k) or torch.zeros(1)) for k in range(3))
    assert sender.send(named, PolicyVersion(9, 9)) == {}
    assert read == [0, 1, 2]
    assert ray.get(store.version.remote()) == before


@pytest.mark.parametrize("how", ["killed", pytest.param("hung", marks=pytest.mark.slow)])
def test_work_of_a_lost_engine_is_done_once_by_others_under_current_weights(
    pool: RolloutPool, store: Any, sender: WeightSender, model_path: Path, how: str
) -> None:
    all_ready(pool, 2)
    version = PolicyVersion(2, 1 if how == "killed" else 2)
    sender.send(iter(perturbed(model_path, 0.03)), version)
    pool.measurements()
    pages = [page(model_path, seed) for seed in range(8)]
    calm_groups = [f"calm/{number}" for number in range(8)]
    for group_id, reference in zip(calm_groups, pages, strict=True):
        pool.submit(group_id, reference, LONG, (0, 1, 2))
    calm = gather(pool, 24)
    victim, lost = ray.get(store.engines.remote())[0].handle, False

    def lose(found: list[Generated]) -> None:
        nonlocal lost
        if found and not lost:
            lost = True
            if how == "killed":
                ray.kill(victim)
            else:
                os.kill(ray.get(victim.pid.remote()), signal.SIGSTOP)

    for number, reference in enumerate(pages):
        pool.submit(f"storm/{number}", reference, LONG, (0, 1, 2))
    storm = gather(pool, 24, lose)
    assert tokens(storm) == tokens(calm)
    counted = flatten(pool.measurements())
    assert counted["rollout/restarts" if how == "killed" else "rollout/stalls"] == 1
    assert counted["rollout/reissued"] >= 1
    # The newcomer works too, and never under the weights it found on disk.
    all_ready(pool, 2)
    for number, reference in enumerate(pages):
        pool.submit(f"after/{number}", reference, LONG, (0, 1, 2))
    after = gather(pool, 24)
    assert tokens(after) == tokens(calm)
    for completion in [*storm, *after]:
        assert {span.version for span in completion.versions} == {version}
        assert completion.oldest_version != BASE_VERSION


def test_a_publication_outlives_the_learner_that_made_it(store: Any) -> None:
    @ray.remote(num_cpus=0)
    class Learner:
        def publish(self, store: Any, version: PolicyVersion) -> None:
            sender = make_sender(
                WeightSyncConfig(bucket_mb=0.001),
                store,
                0,
                transport="object_store",
                dtype="bfloat16",
                family=FAMILY,
            )
            sender.send(((str(k), torch.full((400,), float(k))) for k in range(5)), version)

    lonely = start_store()
    learner = Learner.remote()
    ray.get(learner.publish.remote(lonely, PolicyVersion(3, 0)))
    ray.kill(learner)
    time.sleep(0.5)
    publication = ray.get(lonely.latest.remote())
    assert publication.version == PolicyVersion(3, 0)
    assert publication.num_bytes == 5 * 400 * 2
    data = ray.get([bucket.data for bucket in publication.buckets])
    assert len(data) == 5
    # bfloat16 of 0, 1, 2, 3, 4, little-endian, each 400 times.
    heads = [flat[:800].tobytes() for flat in data]
    assert heads == [bytes(b) * 400 for b in ([0, 0], [128, 63], [0, 64], [64, 64], [128, 64])]


class StoreLink:
    """A link as direct transports have, over Ray: engines get buckets, and nothing is kept."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def connect(self) -> None:
        pass

    def send(self, group: list[tuple[str, torch.Tensor]], sender: bool) -> None:
        (bucket,) = pack(iter(group), 1 << 30)
        self._fleet.call("update_weights", lambda _: (bucket.info(bucket.data),))

    def close(self) -> None:
        pass


def test_engines_that_join_late_are_served_while_the_learner_waits(
    store: Any, model_path: Path
) -> None:
    """Without a publication nobody else could: a run of one engine would stand still for ever."""
    mine = start_store()
    fleet = Fleet(mine, "recompute", 60.0, FAMILY)
    sender = DirectSender(WeightSyncConfig(), fleet, 0, torch.float32, StoreLink(fleet), 1 << 20)
    version, named = PolicyVersion(1, 0), perturbed(model_path, 0.05)
    assert flatten(sender.send(iter(named), version))["weight_sync/engines"] == 0

    @ray.remote(num_cpus=0, max_concurrency=4)
    class Gate:
        def __init__(self) -> None:
            self._opened = threading.Event()

        def open(self) -> None:
            self._opened.set()

        def wait(self) -> str:
            self._opened.wait()
            return "a batch"

    gate = Gate.remote()
    published: list[float] = []

    def publish() -> None:
        published.append(time.monotonic())
        sender.send(iter(named), version)

    answers: list[Any] = []
    learner = threading.Thread(
        target=lambda: answers.append(await_engines(gate.wait.remote, sender, publish, list)),
        daemon=True,
    )
    learner.start()
    pool = make_pool(model_path, mine, workers=1)
    pool.start()
    all_ready(pool, 1)
    pool.submit("first", page(model_path, 1), DRAW, (0, 1))
    first = gather(pool, 2)
    ray.kill(ray.get(mine.engines.remote())[0].handle)
    pool.submit("second", page(model_path, 1), DRAW, (0, 1))
    second = gather(pool, 2)
    for completion in (*first, *second):
        assert [span.version for span in completion.versions] == [version]
    assert len(published) == 2 and not answers
    ray.get(gate.open.remote())
    learner.join(30)
    assert answers == ["a batch"] and len(published) == 2
    pool.close()


def test_a_collective_is_left_when_an_engine_fails_in_it(store: Any) -> None:
    @ray.remote(num_cpus=0)
    class Engine:
        def receive(self, wait_s: float) -> None:
            time.sleep(wait_s)
            raise EngineBroken("out of memory")

    class Entry(NamedTuple):
        worker_id: str
        handle: Any

    fleet = Fleet(store, "recompute", 60.0, FAMILY)
    fleet.engines = [Entry("engine-0.1", Engine.remote())]  # type: ignore[list-item]
    assert fleet.collect_while({}, lambda: 7) == 7
    never = threading.Event()
    with pytest.raises(LinkBroken, match=r"engine-0\.1: .*out of memory"):
        fleet.collect_while(fleet.start("receive", lambda _: (0.1,)), never.wait)


def test_an_engine_that_cannot_start_ends_in_one_sentence(store: Any, tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "no-model", store, workers=1)
    pool.start()
    with pytest.raises(ValueError, match="no-model"):
        pool.wait_ready(120)
    pool.close()


def test_an_engine_lost_in_its_sleep_is_replaced_at_waking_and_tried_more_than_once(
    store: Any, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Engine:  # defined here, so that its processes need not import this module
        def __init__(self, room: str) -> None:
            self._room = room

        def start(self) -> float:
            import os

            if not os.path.exists(self._room):
                raise ValueError("no room on this GPU")
            return 0.0

        def join(self, store: Any) -> None: ...

        def poll(self, timeout_s: float) -> None:
            import threading

            threading.Event().wait()

        def sleep(self) -> None: ...

        def wake(self) -> None: ...

    born = []

    class Start:
        def remote(self, *_: Any) -> Any:
            settings = {"num_cpus": 0, "max_concurrency": 4}
            born.append(ray.remote(**settings)(Engine).remote(str(room)))
            return born[-1]

    monkeypatch.setattr("olmrl.rollout.pool.actor_class", lambda *_, **__: Start())
    room = tmp_path / "room"
    room.touch()
    pool = make_pool(model_path, store, workers=1, stall_timeout_s=600.0)
    pool.start()
    all_ready(pool, 1)
    pool.sleep()
    room.unlink()
    ray.kill(born[-1])
    until_lost(pool)
    assert len(born) == 1, "the learner has the memory that a new engine would take"
    pool.wake()
    until_lost(pool)
    room.touch()
    all_ready(pool, 1)
    room.unlink()
    ray.kill(born[-1])
    with pytest.raises(EnginesFailed, match=r"3 engines in a row failed to start.*no room on this"):
        for _ in range(4):
            until_lost(pool)
    pool.close()


def until_lost(pool: RolloutPool) -> None:
    """Wait until the pool has noticed another lost engine."""
    deadline = time.monotonic() + 60
    while all(event["event"] != "engine lost" for event in pool.take_events()):
        assert time.monotonic() < deadline
        pool.poll(0.2)


def test_too_few_resources_end_in_a_sentence_that_asks_for_them(
    store: Any, model_path: Path
) -> None:
    pool = make_pool(model_path, store, workers=2, cpus_per_worker=99.0)
    pool.start()
    with pytest.raises(EnginesFailed, match="0 of 2 engines are up"):
        pool.wait_ready(1.0)
    pool.close()
