"""Run by test_train_distributed.py: IRDA and FDS on toy data in as many processes as asked; prints what each has learned."""
import sys
from types import SimpleNamespace

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from dir_nb.bins import BinGrid, ShotRegions
from dir_nb.methods import build_method
from dir_nb.models.mlp import MLP
from dir_nb.train.core import TrainConfig, Trainer, fit, seed_epoch


class Data:
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, 3, generator=g)
        self.targets = (2 * self.x[:, 0] + 5).clamp(0, 9.99)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return self.x[i], self.targets[i], None


torch.set_num_threads(1)
grid, train = BinGrid(0, 10, 1.0), Data(256, 0)
view = SimpleNamespace(grid=grid, train=train, val=Data(64, 1), counts=grid.counts(train.targets))
view.regions = ShotRegions.by_count(view.counts, many=30, few=10)
fabric = Fabric(accelerator="cpu", devices=int(sys.argv[1]), strategy=DDPStrategy(broadcast_buffers=False) if int(sys.argv[1]) > 1 else "auto")
fabric.launch()
seed_epoch(0, -1)
model = MLP(n_features=3, widths=(8,))
method = build_method({"loss": {"name": "irda"}, "fds": {"momentum": 0.9}}, view, 8)
run = Trainer(model, method, view, TrainConfig(epochs=3, batch_size=64 // fabric.world_size, lr=0.01), fabric=fabric)
fit(run, progress=False)
seen = int(method.loss.stats.count.sum()) if hasattr(method.loss, "stats") else -1
print(f"RANK {fabric.global_rank} {float(model.head.weight.detach().sum()):.6f} {run.state.history[-1]['val_all_mae']:.6f} {seen}", flush=True)
