"""Run by test_train_distributed.py: methods on toy data in as many processes as asked; prints what each has learned."""
import sys
from types import SimpleNamespace

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from dir_nb.bins import BinGrid, ShotRegions
from dir_nb.methods import build_method
from dir_nb.models.mlp import MLP
from dir_nb.parts.part import Part
from dir_nb.train.batches import seed_epoch
from dir_nb.train.config import TrainConfig
from dir_nb.train.core import Trainer, fit, predict

ODD = 253  # samples: batches of 64 leave 61, of which the second process gets one fewer


class Data:
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, 3, generator=g)
        self.targets = (2 * self.x[:, 0] + 5).clamp(0, 9.99)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return self.x[i], self.targets[i], None


class Pixels:
    """Maps of 2 x 2 pixels; the second half of the images, and so at times all of a process's, has no target."""
    def __init__(self):
        self.x = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
        self.targets = (self.x[:, 0] + 5).clamp(0, 9.99)
        self.targets[1::2] = float("nan")

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return self.x[i], self.targets[i], None


class PixelModel(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3, 1)

    def encode(self, x):
        return x.movedim(1, -1)

    def forward(self, x):
        z = self.encode(x)
        return self.head(z), z


class Draws(Part):
    """Adds up what its process draws at random."""
    wants_draws = True

    def __init__(self):
        super().__init__()
        self.register_buffer("drawn", torch.zeros((), dtype=torch.float64))

    def before_step(self, model, batch, epoch, lr, draw, weight):
        self.drawn += draw().target.double().sum()


LOSS = {"class": "dir_nb.losses.pointwise.L1Loss"}
FDS = {"class": "dir_nb.fds.FDS"}
IRDA = {"class": "dir_nb.losses.irda.IRDALoss"}
RANK = {"class": "dir_nb.losses.rank.RankLoss", "augmentation": {"class": "dir_nb.parts.bin_augmentation.BinAugmentation"}}
UVOTE = {"class": "dir_nb.heads.uvote.UVOTELoss", "ramp": True}
VIR = {"class": "dir_nb.heads.vir.VIRLoss", "smoothing": {"class": "dir_nb.heads.vir.LatentSmoothing"}}
PARTS = {"l1": {"loss": LOSS}, "fds": {"loss": LOSS, "fds": FDS}, "irda": {"loss": IRDA}, "rank": {"loss": RANK}, "uvote": {"loss": UVOTE}, "pixels": {"loss": LOSS},
         "vir": {"loss": VIR}, "draws": {"loss": LOSS, "draws": {"class": "train_two_processes.Draws"}}, "nan": {"loss": LOSS}}


def run_predictions(run):
    return predict(run.model, run.method, run.loader(run.view.val, 16), run.fabric)


def main(fabric, which):
    grid, train = BinGrid(0, 10, 1.0), Pixels() if which == "pixels" else Data(ODD, 0)
    if which == "nan":
        train.x[0] = float("nan")
    known = train.targets[train.targets.isfinite()]
    view = SimpleNamespace(grid=grid, train=train, val=train if which == "pixels" else Data(63, 1), counts=grid.counts(known),
                           target_mean=0.0, target_std=1.0, many_shot=100)
    view.regions = ShotRegions.by_count(view.counts, many=30, few=10)
    seed_epoch(0, -1)
    model = PixelModel() if which == "pixels" else MLP(n_features=3, widths=(8,))
    method = build_method({"parts": PARTS[which]}, view, 3 if which == "pixels" else 8)
    batch = 2 if which == "pixels" else 64
    run = Trainer(model, method, view, TrainConfig(epochs=3, batch_size=batch // fabric.world_size, lr=0.01), fabric=fabric)
    try:
        fit(run, progress=False)
    except FloatingPointError:
        print(f"RANK {which} {fabric.global_rank} -1 -1 -1 -1 -1", flush=True)
        return
    seen = sum(len(y) for _, y in run_predictions(run))
    loss, drawn = run.state.history[-1]["train_loss"], 0
    if which == "draws": drawn = float(method.parts["draws"].drawn)
    if which == "vir": drawn = float(method.parts["loss"].smoothing.shift.double().square().sum())
    print(f"RANK {which} {fabric.global_rank} {float(model.head.weight.detach().sum()):.6f} {run.state.history[-1]['val_all_mae']:.6f} {loss:.6f} {drawn:.4f} {seen}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, __file__.rsplit("/", 1)[0])
    torch.set_num_threads(1)
    world = int(sys.argv[1])
    fabric = Fabric(accelerator="cpu", devices=world, strategy=DDPStrategy(broadcast_buffers=False) if world > 1 else "auto")
    fabric.launch()
    for which in sys.argv[2:]:
        main(fabric, which)
