"""Dist Loss, SRL and PRIME in training: interrupted, on data with nothing to learn from, and beside weights and smoothed features."""
from types import SimpleNamespace

import pytest
import torch
from test_scale import CONF, Rows
from torch.utils._python_dispatch import TorchDispatchMode

from dir_nb.bins import BinGrid, ShotRegions
from dir_nb.methods import build_method
from dir_nb.models.mlp import MLP
from dir_nb.parts.part import Step
from dir_nb.train.batches import seed_epoch
from dir_nb.train.config import TrainConfig
from dir_nb.train.core import Trainer, fit

METHODS = ["dist_loss", "srl", "prime"]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # that nothing is learnt from nothing


def _run(method, folder=None, stop=None, grid=None, target=None, n=321, more=None, **settings):
    """Five epochs; of 321 samples the last batch of 64 has one."""
    train, val, grid = Rows(n, 0, 1.), Rows(100, 1, 1.), grid or BinGrid(0, 10, .5)
    if target is not None: train.targets, val.targets = (torch.full_like(d.targets, target) for d in (train, val))
    counts, y = grid.counts(train.targets), train.targets.double()
    view = SimpleNamespace(grid=grid, train=train, val=val, counts=counts, regions=ShotRegions.by_count(counts, many=40, few=10),
                           target_mean=float(y.mean()), target_std=float(y.std(correction=0)) or 1., many_shot=40)
    seed_epoch(0, -1)
    model = MLP(n_features=5, widths=(16,), dropout=.1)
    model.init_head(view.target_mean, view.target_std)
    entry = {"parts": CONF["methods"][method]["parts"] | (more or {})}
    config = TrainConfig(**{"epochs": 5, "batch_size": 64, "lr": .01, "checkpoint_seconds": 0} | settings)
    return fit(Trainer(model, build_method(entry, view, 16), view, config, 0, folder, "k"), progress=False, stop_after=stop)


def _state(run):
    return {f"model.{k}": v for k, v in run.model.state_dict().items()} | {f"method.{k}": v for k, v in run.method.state_dict().items()}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_taken_up_again_ends_in_the_same_bits(method, tmp_path):
    whole = _state(_run(method))
    for stop in (1, 3):
        _run(method, tmp_path / str(stop), stop)
        again = _state(_run(method, tmp_path / str(stop)))
        assert [k for k, v in whole.items() if not torch.equal(v, again[k])] == [], stop


@pytest.mark.parametrize("method", METHODS)
def test_the_term_changes_what_is_learnt(method):
    plain, with_term = _run("l1"), _run(method)
    assert not all(torch.equal(v, with_term.model.state_dict()[k]) for k, v in plain.model.state_dict().items())
    names = [k for k, _ in with_term.method.named_parameters()]
    assert names == (["parts.proxies.proxy"] if method == "prime" else [])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [{"grid": BinGrid(0, 10, 10.)}, {"target": 3.2}, {"n": 1}, {"n": 3, "batch_size": 1}], ids=["one bin", "equal targets", "one sample", "batches of one"])
def test_nothing_to_learn_from(method, data):
    run = _run(method, **data)
    bad = [k for k, v in _state(run).items() if not v.double().isfinite().all()]
    assert bad == [] and len(run.state.history) == 5


@pytest.mark.parametrize("method", METHODS)
def test_beside_weights_and_smoothed_features(method):
    """Weights reach Dist Loss and PRIME; SRL, as published, knows none."""
    more = {"weights": {"class": "dir_nb.lds.BinWeights", "scheme": "inverse"}, "fds": {"class": "dir_nb.fds.FDS"}}
    run = _run(method, more=more)
    assert all(v.double().isfinite().all() for v in _state(run).values())
    part = run.method.parts[list(CONF["methods"][method]["parts"])[-1]]
    x, y = run.view.train.x[:32], run.view.train.targets[:32]
    bins, (pred, feat) = run.view.grid.index(y), run.model.eval()(x)
    loss = lambda w: float(part.term(Step(pred, feat, feat, y, bins, w, run.model.head, 1)).detach())
    torch.manual_seed(0)
    weighted = loss(torch.linspace(.1, 2, 32))
    torch.manual_seed(0)
    assert (loss(None) == weighted) is (method == "srl")


class NoWait(TorchDispatchMode):
    """Refuses what makes a GPU wait for the CPU: a number read off a tensor, and shapes that depend on values."""
    WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal"}

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        name = call.overloadpacket.__name__
        masks = [i for a in args for i in (a if isinstance(a, (list, tuple)) else ()) if isinstance(i, torch.Tensor) and i.dtype == torch.bool]
        assert name not in self.WAITS and not (name in ("index", "index_put", "index_put_") and masks), f"{name} waits for the device"
        return call(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_the_device(method):
    run = _run(method)
    part = run.method.parts[list(CONF["methods"][method]["parts"])[-1]]
    feat, y = torch.randn(32, 16, requires_grad=True), run.view.train.targets[:32]
    bins, head = run.view.grid.index(y), run.model.head
    with NoWait(): part.term(Step(head(feat), feat, feat, y, bins, torch.ones(32), head, 1)).backward()
    with NoWait(), pytest.raises(AssertionError, match="waits for the device"): float(feat.sum().detach())
