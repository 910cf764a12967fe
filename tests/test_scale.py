"""Targets of any size: what is learnt does not depend on the unit that they are given in."""
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from project import ROOT

from dir_nb.bins import BalancedIndices, BinGrid, ShotRegions
from dir_nb.conf import load_conf
from dir_nb.methods import build_method
from dir_nb.models.mlp import MLP
from dir_nb.train.batches import seed_epoch
from dir_nb.train.config import TrainConfig
from dir_nb.train.core import Trainer, fit, predict

CONF = load_conf(ROOT)
FAMILIES = {  # the first is checked by `make test`, the others by `make test-all`
    "norms": ["frob_irda", "frob_lds", "frob_fds"],
    "rank 3": ["irda_rank", "irda_rank_b0"],
    "learnt": ["meta_irda_rank"],
    "after training": ["post_hoc"],
    "heads over bins": ["hl_gauss", "softmax_la", "dldl_v2", "mean_variance"],
    "levels": ["hca"],
    "made samples": ["smogn", "smoter", "smogn_lds_fds"],
    "weights": ["inverse", "sqinv", "lds_sqinv", "focal_r_lds_fds"],
    "density": ["dense_loss"],
    "late weights": ["deferred"],
    "new head": ["rrt", "rrt_lds"],
    "contrast": ["supcr_mse", "supcr", "supcr_two_stage", "conr"],
    "ranks": ["ranksim"],
    "geometry": ["srl", "ordinal_entropy", "prime"],
    "experts": ["uvote"],
    "laws": ["vir"],
    "distribution": ["dist_loss"],
}
METHODS = [*CONF["grid"]["methods"], *(
    pytest.param(m, marks=[pytest.mark.every] if k else []) for family in FAMILIES.values() for k, m in enumerate(family))]
LONGER = {"hl_gauss": 16, "dldl_v2": 16, "hca": 16}  # epochs: at first validation, which is balanced, likes a flat posterior best


class Rows:
    """Skewed targets of five noisy features, times a scale; `balanced` draws as many of every bin."""
    def __init__(self, n, seed, scale, balanced=False):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(20 * n if balanced else n, 5, generator=g)
        y = (x[:, 0] + 0.5 * x[:, 1] ** 2 + 0.2 * torch.randn(len(x), generator=g)).exp().mul(0.5).clamp(0.01, 9.99)
        keep = BalancedIndices(BinGrid(0, 10, 0.5).index(y))(n, g) if balanced else torch.arange(n)
        self.x, self.targets = x[keep], y[keep] * scale

    def __len__(self): return len(self.targets)
    def __getitem__(self, i): return self.x[i], self.targets[i], None


def view_at(scale):
    train, val, test = Rows(700, 0, scale), Rows(150, 1, scale, balanced=True), Rows(300, 2, scale, balanced=True)
    grid, y = BinGrid(0, 10 * scale, 0.5 * scale), train.targets.double()
    counts = grid.counts(train.targets)
    return SimpleNamespace(grid=grid, train=train, val=val, test=test, counts=counts, regions=ShotRegions.by_count(counts, many=40, few=10),
                           target_mean=float(y.mean()), target_std=float(y.std(correction=0)), many_shot=40)


@cache
def predictions(method, scale, **settings):
    """Of the test split, over the scale."""
    view, entry = view_at(scale), CONF["methods"][method]
    train = {"epochs": LONGER.get(method, 8), "batch_size": 64, "lr": 0.01, "clip_norm": 5.0, "weight_decay": 0.01} | settings
    seed_epoch(0, -1)
    model = MLP(n_features=5, widths=(16,))
    model.init_head(view.target_mean, view.target_std)
    run = fit(Trainer(model, build_method(entry, view, 16), view, TrainConfig(**train)), progress=False)
    pred, target = (torch.cat(p) for p in zip(*predict(run.model, run.method, run.loader(view.test, 1024), run.fabric)))
    return pred / scale, target / scale


@pytest.mark.parametrize("method", METHODS)
def test_powers_of_two_change_no_bit(method):
    """A unit that is a power of two rounds nothing: the same model comes out, to the bit."""
    pred, _ = predictions(method, 1.0)
    for scale in (2.0 ** -17, 2.0 ** 20):
        found = predictions(method, scale)[0]
        # the logarithm of a determinant of outputs in target units rounds
        assert torch.allclose(found, pred, rtol=0, atol=1e-5) if method == "post_hoc" else torch.equal(found, pred), scale


@pytest.mark.parametrize("method", METHODS)
def test_error_is_the_same_at_every_scale(method):
    """From 1e-5 to 1e6, and better than the training targets' median."""
    mae = lambda scale: float((predictions(method, scale)[0] - predictions(method, scale)[1]).abs().mean())
    target = predictions(method, 1.0)[1]
    constant = float((target - view_at(1.0).train.targets.median()).abs().mean())
    found = {scale: mae(scale) for scale in (1e-5, 1.0, 1e6)}
    assert max(found.values()) < 0.85 * constant, (found, constant)
    assert max(found.values()) < 1.01 * min(found.values()), found


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_optimizers_that_see_the_size_of_the_loss(optimizer):
    """Plain gradient steps and Adam with weight decay in the gradient."""
    settings = {"optimizer": optimizer, "lr": 0.02, "epochs": 4}
    pred, _ = predictions("mse", 1.0, **settings)
    for scale in (2.0 ** -17, 2.0 ** 20):
        assert torch.equal(predictions("mse", scale, **settings)[0], pred)


def test_no_entry_is_left_out():
    """A new method is in the grid or in a family; regressors have no scale of their own to lose."""
    known = {*CONF["grid"]["methods"], *(m for family in FAMILIES.values() for m in family)}
    assert {m for m, e in CONF["methods"].items() if "regressor" not in e} == known
