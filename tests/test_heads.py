"""Parts with heads of their own, as entries: killed and resumed to the bit, and beside other parts."""
from functools import cache

import pytest
import torch
from project import ROOT
from test_scale import view_at
from torch.utils._python_dispatch import TorchDispatchMode

from dir_nb.conf import load_conf
from dir_nb.methods import build_method
from dir_nb.models.mlp import MLP
from dir_nb.train.batches import seed_epoch
from dir_nb.train.config import TrainConfig
from dir_nb.train.core import Trainer, fit

CONF = load_conf(ROOT)
HEADS = ("uvote", "vir")
BESIDE = {"alone": {}, "fds": {"fds": {"class": "dir_nb.fds.FDS"}}, "weights": {"lds": {"class": "dir_nb.lds.BinWeights"}},
          "ranksim": CONF["methods"]["ranksim"]["parts"], "conr": CONF["methods"]["conr"]["parts"], "two stages": CONF["methods"]["supcr_two_stage"]["parts"]}


@cache
def toy():
    return view_at(1.0)


def trained(method, folder=None, stop_after=None, beside="alone", epochs=4, **settings):
    seed_epoch(0, -1)
    model, view, own = MLP(n_features=5, widths=(16,), dropout=0.1), toy(), CONF["methods"][method]["parts"]
    model.init_head(view.target_mean, view.target_std)
    parts = {name: spec for name, spec in BESIDE[beside].items() if name not in own} | own
    config = TrainConfig(epochs=epochs, batch_size=64, lr=0.01, **settings)
    return fit(Trainer(model, build_method({"parts": parts}, view, 16), view, config, folder=folder, key="k"), progress=False, stop_after=stop_after)


@pytest.mark.parametrize("method", HEADS)
def test_resumes_to_the_bit(method, tmp_path):
    straight = trained(method)
    trained(method, tmp_path, 2)
    resumed = trained(method, tmp_path)
    assert resumed.state.history == straight.state.history
    for name in ("model", "method"):
        one, two = (getattr(run, name).state_dict() for run in (straight, resumed))
        assert list(one) == list(two) and all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("method", HEADS)
def test_beside_others(method, beside):
    """Better than a constant; the net's own head stays as it was."""
    run = trained(method, beside=beside, epochs=8)
    y, found = toy().val.targets, run.state.history[run.state.best_epoch]["val_all_mae"]
    assert found < 0.9 * float((y - toy().train.targets.median()).abs().mean())
    seed_epoch(0, -1)
    assert torch.equal(run.model.head.parametrizations.weight.original, trained(method, beside=beside, epochs=2, optimizer="sgd").model.head.parametrizations.weight.original)


class Watch(TorchDispatchMode):
    """Names of what is run."""
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func._schema.name)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("method", HEADS)
def test_no_wait_for_the_device(method):
    """A step reads no number back."""
    run = trained(method, epochs=1)
    loss, x, y = run.method.parts["loss"].train(), toy().train.x[:64], toy().train.targets[:64]
    feat = run.model.encode(x)
    with Watch() as seen: loss(feat[:, :1], y, torch.ones(64), feat=feat).backward()
    assert "aten::mm" in seen.names or "aten::addmm" in seen.names
    assert not {"aten::_local_scalar_dense", "aten::nonzero", "aten::item", "aten::bincount"} & seen.names
