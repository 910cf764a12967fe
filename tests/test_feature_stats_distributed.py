"Feature statistics over two processes (gloo) equal those of one process over all samples."
import os
import socket
import sys
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dir_nb.fds import FDS
from dir_nb.feature_stats import Confusion, FeatureStats, ProjectedStats

B, D = 4, 3
needs_gloo = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available() or sys.platform == "win32", reason="needs gloo")


class Summing:
    "The one method of `lightning.fabric.Fabric` that is used, over torch.distributed."
    def all_reduce(self, tensor, reduce_op="mean"):
        assert reduce_op == "sum"
        dist.all_reduce(tensor)
        return tensor


def samples():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(403, D, generator=g) * 2 + 1000
    bins = torch.randint(0, 2, (403,), generator=g)  # bin 3 stays empty
    bins[17] = 2  # one sample, so on one process only
    return x, bins


def take(rank=None):
    "All samples, or a rank's unequal share: sorted, so that the parts differ in mean."
    x, bins = samples()
    order = x[:, 0].argsort()
    part = order if rank is None else order[:100] if rank == 0 else order[100:]
    return x[part], bins[part]


def gather(x, bins, fabric=None):
    "One epoch into everything that can be reduced."
    low = FeatureStats(B, D, "low_rank", chunk=64, rank=2)
    projected = ProjectedStats(B, D), ProjectedStats(B, D, rank=2)
    parts = (FeatureStats(B, D, chunk=64), FeatureStats(B, D, "diagonal", chunk=64), low, FDS(B, D), *projected, Confusion(B))
    for f, b in zip(x.split(50), bins.split(50), strict=True):
        for s in parts[:4]:
            s.update(f, b)
        for s in projected:
            s.update(f, b, f[:, : s.rank] - 1000)
        parts[-1].update((f[:, 0] > 1000).long(), b)
    if fabric:
        for s in parts:
            s.sync(fabric) if isinstance(s, FDS) else s.all_reduce(fabric)
    for s in parts:
        s.end_epoch(0) if isinstance(s, FDS) else s.end_epoch()
    return parts


def states(parts):
    "What can be compared: a factor's rows have no sign of their own, its square does."
    out = [s.state_dict() for s in parts]
    for state in out:
        if "factor" in state:
            state["factor"] = state["factor"].mT @ state["factor"]
    return out


def worker(rank, port, folder):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        torch.save(states(gather(*take(rank), Summing())), os.path.join(folder, f"{rank}.pt"))
    finally:
        dist.destroy_process_group()


def child(_, *args):
    worker(1, *args)


@needs_gloo
def test_two_processes_equal_one(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    other = mp.spawn(child, args=(port, str(tmp_path)), nprocs=1, join=False)  # this process is the first: one import less
    worker(0, port, str(tmp_path))
    other.join()
    one = states(gather(*take()))
    both = [torch.load(tmp_path / f"{r}.pt") for r in (0, 1)]
    for want, a, b in zip(one, *both, strict=True):
        assert want.keys() == a.keys() == b.keys()
        for k in want:
            assert torch.equal(a[k], b[k]), k  # the processes agree exactly
            torch.testing.assert_close(a[k], want[k], rtol=2e-5, atol=1e-5)


def test_merge_equals_one():
    for kind in ("full", "diagonal"):
        one = FeatureStats(B, D, kind)
        one.update(*take())
        a, b = FeatureStats(B, D, kind), FeatureStats(B, D, kind)
        a.update(*take(0))
        b.update(*take(1))
        for x, y in zip(a.merge(b).epoch_stats(), one.epoch_stats(), strict=True):
            torch.testing.assert_close(x, y, rtol=2e-5, atol=1e-5)


def test_fabric_of_one_process():
    "Fabric itself, not launched over several processes, leaves the statistics as they are."
    fabric = pytest.importorskip("lightning_fabric").Fabric(accelerator="cpu", devices=1)
    one = gather(*take())
    same = gather(*take(), fabric)
    for s, t in zip(states(one), states(same), strict=True):
        for k, v in s.items():
            torch.testing.assert_close(v, t[k], rtol=2e-5, atol=1e-5)
