"""`train.compile`: the encoder compiled, everything else as it was."""
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dir_nb.bins import BinGrid, ShotRegions
from dir_nb.data.core import ArrayDataset, Moves
from dir_nb.methods import build_method
from dir_nb.models.core import FeatureRegressor
from dir_nb.train.batches import seed_epoch
from dir_nb.train.config import TrainConfig
from dir_nb.train.core import Trainer, fit, load_checkpoint

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler, which torch.compile needs on a CPU")


class Eye(FeatureRegressor):
    """One convolution, normalised: what compiles in seconds."""
    def __init__(self):
        super().__init__(feat_dim=4)
        # without a bias, whose gradient before a normalisation is rounding alone, which Adam would make steps of
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(2))

    def encode(self, x): return self.body(x).mean(2)


def trained(folder, stop_after=None, **settings):
    """Two epochs on pictures whose brightness is the target."""
    y = np.arange(44) % 12 - .5
    x = np.uint8(120 + 9 * y[:, None, None, None] + np.random.default_rng(0).integers(0, 9, (44, 3, 8, 8)))
    train, val = ArrayDataset("image", x, y, np.arange(32), moves=Moves(flip=True)), ArrayDataset("image", x, y, np.arange(32, 44))
    grid = BinGrid(-5, 15, 1.)
    counts = grid.counts(train.targets)
    view = SimpleNamespace(train=train, val=val, grid=grid, counts=counts, regions=ShotRegions.by_count(counts, many=4, few=1),
                           target_mean=float(y.mean()), target_std=float(y.std()), many_shot=4)
    seed_epoch(0, -1)
    model = Eye()
    model.init_head(view.target_mean, view.target_std)
    method = build_method({"parts": {"loss": {"class": "dir_nb.losses.pointwise.L1Loss"}}}, view, model.feat_dim)
    config = TrainConfig(epochs=2, batch_size=16, lr=.02, checkpoint_seconds=0, **settings)
    return fit(Trainer(model, method, view, config, folder=folder, key="k"), progress=False, stop_after=stop_after)


@pytest.mark.filterwarnings("ignore::UserWarning") # nothing is learnt in two epochs
def test_compiled_training(tmp_path, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    torch._dynamo.reset()
    plain, compiled = trained(tmp_path / "plain"), trained(tmp_path / "compiled", compile=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    for a, b in zip(plain.state.history, compiled.state.history):
        assert a.keys() == b.keys() and all(np.isclose(a[k], b[k], rtol=2e-2, equal_nan=True) for k in a)
        assert np.isclose(a["train_loss"], b["train_loss"], rtol=1e-4)
    assert list(plain.model.state_dict()) == list(compiled.model.state_dict())
    saved = load_checkpoint(tmp_path / "compiled" / "last.ckpt")
    assert list(saved["model"]) == list(plain.model.state_dict()) and not any("_orig_mod" in k for k in compiled.step.state_dict())
    plain.model.load_state_dict(saved["model"]) # what was saved by one is read by the other
