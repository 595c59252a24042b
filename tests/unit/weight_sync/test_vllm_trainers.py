"""vLLM's own trainer engines with olmrl's source and client: as far as they go without a GPU."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from family_models import make_family_model

from olmrl.config.schema import WeightSyncConfig
from olmrl.metrics import flatten
from olmrl.models.registry import FAMILIES
from olmrl.types import PolicyVersion
from olmrl.weight_sync.checksum import checksums
from olmrl.weight_sync.fleet import Fleet
from olmrl.weight_sync.plan import EngineEntry
from olmrl.weight_sync.publication import Weights
from olmrl.weight_sync.transport import load_transport, resolve_transport

base = pytest.importorskip(
    "vllm.distributed.weight_transfer.base", reason="the vllm engine is an extra"
)
from olmrl.weight_sync import nccl_m2n, sharded_rdt, vllm_trainers  # noqa: E402
from olmrl.weight_sync.vllm_trainers import FleetClient, Outgoing, in_order, make_source  # noqa: E402

SINCE_0_33 = hasattr(base.WeightSource, "iter_full")
FAMILY = FAMILIES["qwen2_5_vl"]


def described(source):
    return source.metadata if SINCE_0_33 else source.metadata()


def passes(source):
    return list(source.iter_full() if SINCE_0_33 else source)


def outgoing_of(model, family, **settings):
    found = Outgoing(torch.bfloat16, family, **settings)
    found.become(Weights(lambda: iter(model.state_dict().items())))
    return found


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_source_says_beforehand_what_it_gives_each_time(family, grouped):
    model = make_family_model(family.model_type)
    source = make_source(outgoing_of(model, family, grouped=grouped), ranks=2)
    expected = [(meta.name, meta.dtype, meta.shape) for meta in described(source)]
    for _ in range(2):
        found = [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in passes(source)]
        assert found == expected
    names = [name for name, _, _ in expected]
    assert sorted(names) == sorted(model.state_dict())
    groups = base.layerwise_groups(names)
    assert not grouped or [name for group in groups for name in group] == names
    rounded = {name for name, dtype, _ in expected if dtype == torch.bfloat16}
    assert rounded == {n for n in names if not n.endswith("A_log")}, "A_log stays in float32"


def test_only_one_pass_is_counted_and_it_counts_what_is_sent():
    model = make_family_model("qwen2_5_vl")
    outgoing = outgoing_of(model, FAMILY)
    sums = {}
    outgoing.become(model.state_dict().items(), sums)
    sent = list(outgoing)
    assert sums == checksums(sent, FAMILY)
    list(outgoing)
    assert sums == checksums(sent, FAMILY)
    assert outgoing.num_bytes == 2 * sum(tensor.numel() for tensor in model.state_dict().values())


def test_a_stream_is_put_in_order_and_an_absent_weight_is_not_passed_over():
    stream = [(name, torch.zeros(1)) for name in "dacb"]
    assert [name for name, _ in in_order(stream, "abcd")] == list("abcd")
    with pytest.raises(AssertionError, match="x was to be sent"):
        list(in_order(stream, "abx"))


class Worker:
    """The methods of a RolloutWorker that a fleet calls, noted down."""

    def __init__(self):
        self.heard = []

    def __getattr__(self, method):
        def remote(*arguments):
            self.heard.append((method, *arguments))
            return len(self.heard), id(self), method

        return SimpleNamespace(remote=remote)


def fleet_of(monkeypatch, gpus):
    """A fleet whose engines only listen, without Ray."""
    fleet = Fleet(None, "recompute", 60.0, FAMILY)
    fleet.engines = [EngineEntry(f"engine-{k}", Worker(), n) for k, n in enumerate(gpus)]
    monkeypatch.setattr(fleet, "collect", lambda calls: {})
    monkeypatch.setattr(Fleet, "collect", lambda self, calls: {})
    return fleet


def test_the_client_speaks_to_every_engine_in_vllms_order(monkeypatch):
    fleet = fleet_of(monkeypatch, [1, 1])
    client = FleetClient(fleet, lambda engine: {"own": engine.worker_id})
    assert isinstance(client, base.VLLMWeightSyncClient)
    client.version = PolicyVersion(2, 7)
    client.init_weight_transfer_engine({"shared": 1})
    client.start_weight_update()
    client.update_weights({"names": ["w"]})
    client.finish_weight_update()
    for engine in fleet.engines:
        assert engine.handle.heard == [
            ("init_weight_transfer", {"shared": 1, "own": engine.worker_id}),
            ("start_weight_update",),
            ("update_weights", {"names": ["w"]}),
            ("finish_weight_update", PolicyVersion(2, 7), "recompute"),
        ]
    assert len(client.calls) == 8


@contextmanager
def sending(monkeypatch, transport, fleet):
    """Rank 0's sender of a transport, its vLLM engine's links to other processes cut."""
    monkeypatch.setattr(vllm_trainers, "on_this_gpu", lambda work: work)
    monkeypatch.setattr(Fleet, "collect_while", lambda self, calls, work: work())
    for name in ("refresh", "mark_synced"):
        monkeypatch.setattr(Fleet, name, lambda self, *_: None)
    quiet = SimpleNamespace(remote=lambda *_: None)
    fleet.store = SimpleNamespace(announce=quiet)
    monkeypatch.setattr(vllm_trainers.ray, "get", lambda _: None)
    sender = load_transport(transport).sender(WeightSyncConfig(), fleet, 0, torch.bfloat16)
    yield sender
    sender.close()


@pytest.mark.skipif(SINCE_0_33, reason="stands in for what vLLM 0.32 calls below its trainer")
def test_m2n_reshards_every_weight_to_each_engine(monkeypatch):
    from vllm.distributed.weight_transfer import m2n_engine, m2n_trainer

    resharded = []

    class Library:
        Config = SimpleNamespace
        Handle = SimpleNamespace(create=lambda _: SimpleNamespace(destroy=lambda: None))
        Mesh = staticmethod(lambda dims, start_rank: (dims, start_rank))
        Replicate = staticmethod(lambda: "whole")
        Shard = staticmethod(lambda dim: dim)

        @staticmethod
        def reshard(shard, into, comm, stream, **layouts):
            resharded.append((tuple(shard.shape), layouts["src_mesh"], layouts["dst_mesh"]))

    for module in (nccl_m2n, m2n_trainer):
        monkeypatch.setattr(module, "import_m2n", Library)
    group = SimpleNamespace(comm=1, destroy=lambda: None)
    monkeypatch.setattr(m2n_trainer, "trainer_init", lambda *_, **__: group)
    monkeypatch.setattr(m2n_trainer, "publish_destination_placements", lambda *a: [None] * a[3])
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(synchronize=int))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: None)
    fleet = fleet_of(monkeypatch, [1, 4])
    model = make_family_model("qwen2_5_vl").model.language_model
    with sending(monkeypatch, "nccl_m2n", fleet) as sender:
        named = [(f"model.language_model.{n}", w) for n, w in model.state_dict().items()]
        for step in (1, 2):
            measured = sender.send(named, PolicyVersion(1, step))
    assert flatten(measured)["weight_sync/engines"] == 2
    assert len(resharded) == 2 * 2 * len(named)
    for engine in fleet.engines:
        calls = [call[0] for call in engine.handle.heard]
        cycle = ["start_weight_update", "update_weights", "finish_weight_update"]
        assert calls == ["init_weight_transfer", *cycle, *cycle]
        info = m2n_engine.M2NWeightTransferInitInfo(**engine.handle.heard[0][1])
        assert (info.rank_offset, info.world_size) == (1, 1 + engine.ranks)
        assert info.dst_mesh_dims == [1, engine.ranks]
        assert info.names == [name for name, _ in named]
        update = m2n_engine.M2NWeightTransferUpdateInfo(**engine.handle.heard[2][1])
        assert update.names == info.names


@pytest.mark.parametrize("learners", [1, 8])
@pytest.mark.parametrize("gpus", [1, 4])
def test_every_m2n_rank_is_told_of_the_same_group(learners, gpus):
    infos = [nccl_m2n.trainer_info(r, ("node", 29500), learners, gpus) for r in range(learners)]
    assert [info.is_sender for info in infos] == [r == 0 for r in range(learners)]
    assert {(i.world_size, i.destination_mesh_dims) for i in infos} == {
        (learners + gpus, (1, gpus))
    }


def test_m2n_names_a_weight_that_it_cannot_move(monkeypatch):
    monkeypatch.setattr(nccl_m2n, "import_m2n", lambda: None)
    fleet = fleet_of(monkeypatch, [1])
    model = make_family_model("qwen2_5_vl")
    with (
        sending(monkeypatch, "nccl_m2n", fleet) as sender,
        pytest.raises(ValueError, match=r"patch_embed\.proj\.weight has 5; freeze the part"),
    ):
        sender.send(model.state_dict().items(), PolicyVersion(1, 1))


def test_rdt_serves_every_layer_and_tells_each_engine_its_place(monkeypatch):
    from vllm.distributed.weight_transfer import sharded_rdt_engine, sharded_rdt_trainer

    trainer = sharded_rdt_trainer.ShardedRDTTrainerWeightTransferEngine
    served = {}

    def spawn(self, names):
        self._server_name, self._server = "server", None

    def rpc(self, method, *arguments):
        return sorted(self._inflight) if method in ("wait_freed", "end_sync") else None

    def publish(self, group, entries):
        served.update(dict.fromkeys(entries[1], group))

    monkeypatch.setattr(trainer, "_spawn_server", spawn)
    monkeypatch.setattr(trainer, "_rpc", rpc)
    monkeypatch.setattr(trainer, "_publish_async", publish)
    monkeypatch.setattr(sharded_rdt_trainer, "reduce_tensor", lambda _: (None, ("handle",)))
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    monkeypatch.setattr(sharded_rdt.importlib.util, "find_spec", lambda _: True)
    context = SimpleNamespace(namespace="job")
    monkeypatch.setattr(sharded_rdt.ray, "get_runtime_context", lambda: context)
    fleet = fleet_of(monkeypatch, [2, 2, 2])
    model = make_family_model("qwen2_5_vl")
    with sending(monkeypatch, "sharded_rdt", fleet) as sender:
        sender.send(model.state_dict().items(), PolicyVersion(1, 1))
    assert served.keys() == model.state_dict().keys()
    consumers = []
    for engine in fleet.engines:
        calls = [call[0] for call in engine.handle.heard]
        assert calls == [
            "init_weight_transfer",
            "start_weight_update",
            "update_weights",
            "finish_weight_update",
        ]
        info = sharded_rdt_engine.ShardedRDTWeightTransferInitInfo(**engine.handle.heard[0][1])
        assert info.trainer_actor_namespace == "job" and info.num_consumers == 6
        assert sum(info.group_lens) == len(info.names) == len(served)
        assert engine.handle.heard[2][1] == {}, "the plan is made once"
        for rank in range(engine.ranks):
            worker = object.__new__(sharded_rdt_engine.ShardedRDTWeightTransferEngine)
            worker._num_consumers_override = info.num_consumers
            worker.parallel_config = SimpleNamespace(data_parallel_index=0, world_size=2, rank=rank)
            consumers.append(worker._resolve_consumer_id(info))
    assert sorted(consumers) == list(range(6)), "no two GPUs of the fleet take the same share"


@pytest.mark.parametrize("name", ["nccl_m2n", "sharded_rdt"])
def test_what_is_not_installed_is_named(name, monkeypatch):
    with pytest.raises(ValueError, match=rf"weight_sync\.transport: {name} needs the package"):
        load_transport(name).sender(WeightSyncConfig(), fleet_of(monkeypatch, []), 0, torch.float16)


def test_rdt_refuses_a_family_whose_loader_it_cannot_record(monkeypatch):
    monkeypatch.setattr(sharded_rdt.importlib.util, "find_spec", lambda _: True)
    fleet = Fleet(None, "recompute", 60.0, FAMILIES["qwen3_5"])
    with pytest.raises(ValueError, match=r"sharded_rdt cannot send Qwen3\.5.*use nccl or auto"):
        load_transport("sharded_rdt").sender(WeightSyncConfig(), fleet, 0, torch.bfloat16)


@pytest.mark.parametrize("name", ["nccl", "ipc", "nccl_m2n", "sharded_rdt", "object_store"])
def test_vllm_knows_the_backend_of_every_transport(name):
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    from olmrl.weight_sync import vllm_backend

    assert vllm_backend.BACKEND
    assert load_transport(name).backend in WeightTransferEngineFactory._registry


@pytest.mark.parametrize("colocate", [False, True])
@pytest.mark.parametrize("name", ["nccl_m2n", "sharded_rdt"])
def test_the_new_transports_are_chosen_by_name_alone(name, colocate):
    gpus = {"engine": "vllm", "use_gpu": True, "colocate": colocate}
    assert resolve_transport(WeightSyncConfig(), **gpus) == ("ipc" if colocate else "nccl")
    asked = WeightSyncConfig(transport=name)
    if colocate:
        with pytest.raises(ValueError, match=r"rollout\.colocate"):
            resolve_transport(asked, **gpus)
    else:
        assert resolve_transport(asked, **gpus) == name
    with pytest.raises(ValueError, match="needs the vllm engine on GPUs"):
        resolve_transport(asked, engine="vllm", use_gpu=False, colocate=False)
