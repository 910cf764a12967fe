"""Heads over bins in training: taken up again, with every decoder and balance, in half precision, on maps of pixels."""
import copy

import pytest
import torch
from test_scale import CONF, view_at

from dir_nb.bins import BinGrid
from dir_nb.methods import build, build_method
from dir_nb.models.mlp import MLP
from dir_nb.train.batches import seed_epoch
from dir_nb.train.config import TrainConfig
from dir_nb.train.core import Trainer, fit, predict

METHODS = ["softmax_la", "hl_gauss", "dldl_v2", "mean_variance", "hca"]


def run(method, folder=None, stop=None, epochs=5, loss=(), parts=(), **settings):
    """A trained run of an entry, with settings of its loss and parts beside it."""
    view, entry = view_at(1.0), copy.deepcopy(CONF["methods"][method])
    entry["parts"]["loss"] |= dict(loss)
    entry["parts"] |= dict(parts)
    seed_epoch(0, -1)
    model = MLP(n_features=5, widths=(16,), dropout=0.1)
    config = TrainConfig(epochs=epochs, batch_size=64, lr=0.01, checkpoint_seconds=0, **settings)
    return fit(Trainer(model, build_method(entry, view, 16), view, config, 0, folder, "k"), progress=False, stop_after=stop)


def predictions(found):
    return torch.cat([p for p, _ in predict(found.model, found.method, found.loader(found.view.test, 1024), found.fabric)]).flatten()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_taken_up_again_ends_in_the_same_bits(method, tmp_path):
    whole = run(method)
    run(method, tmp_path, stop=2)
    again = run(method, tmp_path)
    for k, v in whole.step.state_dict().items(): assert torch.equal(v, again.step.state_dict()[k]), k
    assert torch.equal(predictions(whole), predictions(again))


@pytest.mark.parametrize("method", METHODS)
def test_settings_of_the_rank_form_are_theirs(method):
    """Label model and median, a prior, a head of low rank, weights of samples: each trains, predicts inside of the bins, and changes the prediction."""
    part = "dir_nb.parts."
    decoder = {"class": part + "label_model.LabelDecoder", "tau": 0.2, "pooled": 0.25, "reading": "median"}
    low = {"basis": {"class": part + "bin_head.Legendre", "rank": 3}}
    given = {"plain": {}, "decoder": {"loss": low | {"decoder": decoder}}, "prior": {"loss": {"balance": {"class": part + "balance.Balance", "prior": 0.5}}}, "rank": {"loss": low},
             "weights": {"parts": {"weights": {"class": "dir_nb.lds.BinWeights", "scheme": "sqrt_inv"}}}}
    found = {name: predictions(run(method, epochs=3, **more)) for name, more in given.items()}
    for name, pred in found.items():
        assert pred.isfinite().all() and 0 <= pred.min() and pred.max() <= 10, name
        assert name == "plain" or not torch.equal(pred, found["plain"]), name


@pytest.mark.parametrize("method", METHODS)
def test_pixels_and_half_precision(method):
    """A map decodes as its pixels do; features in bfloat16 give a loss in single precision and finite gradients."""
    g, grid = torch.Generator().manual_seed(0), BinGrid(0, 10, 0.5)
    y = torch.rand(40, generator=g) ** 2 * 10
    loss = build(CONF["methods"][method]["parts"]["loss"], {"grid": grid, "counts": grid.counts(y), "dim": 6})
    with torch.no_grad():
        for p in loss.parameters(): p.normal_(generator=g)
    feat = torch.randn(40, 6, generator=g)
    maps = loss.eval().decode(torch.zeros(2, 4, 5, 1), feat.view(2, 4, 5, 6))
    assert maps.shape == (2, 4, 5, 1) and torch.equal(maps.flatten(), loss.decode(torch.zeros(40, 1), feat).flatten())
    half = feat.bfloat16().requires_grad_()
    value = loss(y, y, feat=half)
    value.backward()
    assert value.dtype == torch.float32 and half.grad.isfinite().all()
    torch.testing.assert_close(value, loss(y, y, feat=half.float()))
    with torch.autocast("cpu", torch.bfloat16): inside = loss(y, y, feat=feat)
    torch.testing.assert_close(inside, loss(y, y, feat=feat), rtol=0.05, atol=0)
