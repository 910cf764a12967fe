"""Metrics over two processes equal those over one, whatever each process saw."""
import json

import pytest
import torch
from lightning_fabric import Fabric

from dir_nb.bins import BinGrid, ShotRegions
from dir_nb.metrics import DIRMetrics

GRID = BinGrid(0, 50, 1, value="left")
SHARES = {"unequal": 13, "one saw nothing": 0, "nobody saw anything": None}  # samples of the second process


def data():
    g = torch.Generator().manual_seed(0)
    target = (torch.rand(60, generator=g) * 50).floor()
    return target + torch.randn(60, generator=g).mul(4).round(), target  # rounded: ties in the ranks


def metrics():
    counts = torch.arange(50).flip(0) * 5
    return DIRMetrics(GRID, ShotRegions.by_count(counts))


def share(name: str, rank: int):
    pred, target = data()
    if SHARES[name] is None:
        return pred[:0], target[:0]
    cut = SHARES[name]
    return (pred[:cut], target[:cut]) if rank == 1 else (pred[cut:], target[cut:])


def worker(fabric: Fabric, folder: str) -> None:
    torch.set_num_threads(1)
    result = {}
    for name in SHARES:
        m = metrics()
        pred, target = share(name, fabric.global_rank)
        for p, t in zip(pred.split(7), target.split(7)):
            m.update(p[:, None], t)
        m.all_reduce(fabric)
        result[name] = {"metrics": m.compute(), "count": m.per_bin()["count"].tolist()}
    with open(f"{folder}/{fabric.global_rank}.json", "w") as f:
        json.dump(result, f)


def test_two_processes_equal_one(tmp_path):
    # one launch for all cases: starting processes is what takes the time
    Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn").launch(worker, str(tmp_path))
    ranks = [json.loads((tmp_path / f"{r}.json").read_text()) for r in (0, 1)]
    for name, cut in SHARES.items():
        one = metrics()
        if cut is not None:
            one.update(*data())
        for rank in ranks:
            assert rank[name]["count"] == one.per_bin()["count"].tolist()
            for region, row in one.compute().items():
                for key, value in row.items():
                    assert rank[name]["metrics"][region][key] == pytest.approx(value, rel=1e-12, nan_ok=True), (name, region, key)


def test_merge_equals_one():
    pred, target = data()
    parts = [metrics().update(*share("unequal", r)) for r in (1, 0)]
    merged, one = parts[0].merge(parts[1]).compute(), metrics().update(pred, target).compute()
    for region, row in one.items():
        for key, value in row.items():
            assert merged[region][key] == pytest.approx(value, rel=1e-12, nan_ok=True), (region, key)
