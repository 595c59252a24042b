"""Sharded saving by several ranks over gloo, and restoring on another number of them."""

import resource

import pytest
import torch
import torch.distributed as dist
from children import CONTEXT
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

from olmrl.checkpoint.manifest import CheckpointError
from olmrl.checkpoint.state import CheckpointStore


def build():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 2))
    fully_shard(model)
    return model, torch.optim.AdamW(model.parameters(), lr=0.05, foreach=False)


def state_of(model, optimizer):
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optim": moments}


def train(model, optimizer):
    loss = model(torch.ones(4, 5)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def start(rank, world, root):
    torch.set_num_threads(1)
    meeting = f"{root}-meeting-{world}"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)


def save_and_go_on(rank, world, root, results):
    start(rank, world, root)
    model, optimizer = build()
    for _ in range(2):
        train(model, optimizer)
    torch.manual_seed(100 + rank)
    store = CheckpointStore(root, asynchronous=True)
    store.save(2, state_of(model, optimizer), extra={"by": rank})
    losses = [train(model, optimizer) for _ in range(2)]
    store.wait()
    results.put((rank, losses, torch.rand(1).item()))
    dist.destroy_process_group()


def restore_and_go_on(rank, world, root, results):
    start(rank, world, root)
    model, optimizer = build()
    store = CheckpointStore(root)
    restored = store.load(store.newest(), state_of(model, optimizer))
    set_state_dict(
        model,
        optimizer,
        model_state_dict=restored.state["model"],
        optim_state_dict=restored.state["optim"],
    )
    assert restored.extra == {"by": 0}
    losses = [train(model, optimizer) for _ in range(2)]
    results.put((rank, losses, torch.rand(1).item()))
    dist.destroy_process_group()


def fail_on_one_rank(rank, world, root, results):
    start(rank, world, root)
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        CheckpointStore(root).save(
            3, {"model": {f"of_rank_{rank}": torch.zeros(1 << 18)}}, extra={}
        )
    except CheckpointError as error:
        results.put((rank, [], str(error)))
    dist.destroy_process_group()


def run(function, world, root):
    results = CONTEXT.Queue()
    ranks = [
        CONTEXT.Process(target=function, args=(rank, world, str(root), results))
        for rank in range(world)
    ]
    for rank in ranks:
        rank.start()
    collected = sorted(results.get(timeout=120) for _ in ranks)
    for rank in ranks:
        rank.join(120)
    assert [rank.exitcode for rank in ranks] == [0] * world
    return collected


def test_two_ranks_save_three_and_one_restore(tmp_path):
    saved = run(save_and_go_on, 2, tmp_path / "run")
    for world in (3, 1):
        restored = run(restore_and_go_on, world, tmp_path / "run")
        for rank, losses, draw in restored:
            assert losses == pytest.approx(saved[0][1], rel=1e-6)
            if rank < len(saved):
                assert draw == saved[rank][2]
        assert len({draw for _, _, draw in restored}) == world


def test_one_rank_without_disk_fails_all_and_keeps_the_old(tmp_path):
    root = tmp_path / "run"
    CheckpointStore(root).save(1, {"model": {"w": torch.ones(3)}}, extra={})
    failures = run(fail_on_one_rank, 2, root)
    for _, _, message in failures:
        assert "saving step 3 failed (rank 1: " in message
    assert CheckpointStore(root).newest().step == 1
