"Meta-IRDA over two processes (gloo): each draws its own batches, and both keep one network, one set of bin losses, and one strength by held-out outputs."
import os
import socket
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from dir_nb.bins import BalancedIndices, BinGrid
from dir_nb.losses.irda import IRDALoss
from dir_nb.losses.meta_irda import BinMean, MetaAugmentation, mean_over_processes
from dir_nb.losses.meta_rank import MetaBinAugmentation
from dir_nb.losses.rank import RankLoss
from dir_nb.parts.bin_augmentation import HeldOutAugmentation

needs_gloo = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available() or sys.platform == "win32", reason="needs gloo")
GRID = BinGrid(0., 10., 1.)


class Summing:
    "What the losses use of a Lightning Fabric, over torch.distributed."
    world_size = 2

    def __init__(self, rank):
        self.global_rank = rank

    def all_reduce(self, tensor, reduce_op="mean"):
        assert reduce_op == "sum"
        dist.all_reduce(tensor)
        return tensor


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 1)

    def encode(self, x):
        return x


COUNTS = torch.full((10,), 12)
LOSSES = {
    "irda": lambda: IRDALoss(GRID, COUNTS, 3, MetaAugmentation()),
    "rank": lambda: RankLoss(GRID, COUNTS, 3, augmentation=MetaBinAugmentation(alpha=.2)),
    "held out": lambda: RankLoss(GRID, COUNTS, 3, augmentation=HeldOutAugmentation()),
}


def run(rank, make):
    g = torch.Generator().manual_seed(rank)
    t = (-2 * torch.rand(120, generator=g).log()).clamp(max=9.9)
    x = torch.stack([t, t.sin(), torch.rand(120, generator=g)], 1)
    torch.manual_seed(0)
    model, loss = Linear(), make()
    if isinstance(loss, RankLoss):
        nn.init.normal_(loss.head.weight)
    balanced = BalancedIndices(GRID.index(t))

    def take(i):
        return SimpleNamespace(x=x[i], target=t[i])

    for epoch in range(3):
        for i in torch.arange(120).split(40):
            loss.before_step(model, take(i), epoch, .01, lambda: take(balanced(20, g)))
            loss(model.head(x[i]), t[i], feat=x[i], head=(model.head.weight[0], model.head.bias[0]))
        loss.sync(Summing(rank))
        loss.end_epoch(epoch)
    return loss.state_dict() | {"mean": mean_over_processes(torch.tensor([float(rank)]))}


def run_all(rank):
    return {name: run(rank, make) for name, make in LOSSES.items()}


def worker(rank, port, folder):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        torch.save(run_all(rank), os.path.join(folder, f"{rank}.pt"))
    finally:
        dist.destroy_process_group()


def child(_, *args):
    worker(1, *args)


@needs_gloo
def test_two_processes_keep_one_network(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    other = mp.spawn(child, args=(port, str(tmp_path)), nprocs=1, join=False)
    worker(0, port, str(tmp_path))
    other.join()
    both = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in (0, 1)]
    for name in LOSSES:
        a, b = (found[name] for found in both)
        assert float(a["mean"]) == float(b["mean"]) == .5
        for k in a:
            if not k.endswith(("step.value",)):  # each process's own
                assert torch.equal(a[k], b[k]), (name, k)
    for name in ("irda", "rank"):
        assert float(both[0][name]["augmentation.step.steps"]) == 6
        assert not torch.equal(both[0][name]["augmentation.var_scale"], torch.ones(10))
    assert float(both[0]["held out"]["augmentation.best"]) != 1


def test_one_process_is_left_alone():
    t = torch.arange(3.)
    assert mean_over_processes(t) is t
    m = BinMean(2)
    m.update(torch.tensor([1., 3.]), torch.tensor([1, 1]))
    m.end_epoch()
    assert m.mean.tolist() == [0., 2.]
