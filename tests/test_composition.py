"""Any weighting with any loss, any term, any sampler, any schedule, on rows and on pictures: it trains, or is refused in one line that names both.

Every pair of choices of two axes occurs in some combination (`pairwise`); the whole product would be ten thousand.
"""
import copy
import itertools
import warnings
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from project import ROOT
from torch import nn

from dir_nb.bins import BinGrid, ShotRegions
from dir_nb.conf import load_conf
from dir_nb.methods import build_method
from dir_nb.train.batches import seed_epoch
from dir_nb.train.config import TrainConfig
from dir_nb.train.core import Trainer, fit

METHODS = load_conf(ROOT)["methods"]
RESAMPLED, STAGES, DEFERRED = (f"dir_nb.{name}" for name in ("resampling.parts.Resampled", "train.two_stage.TwoStages", "train.deferred.Deferred"))
VIEWS = {"class": "dir_nb.parts.views.TwoViews"}
HUBER = {"class": "dir_nb.losses.pointwise.HuberLoss"}


def _part(method, name):
    return copy.deepcopy(METHODS[method]["parts"][name])


def _learns_all():
    loss = _part("meta_irda", "loss")
    loss["augmentation"]["step"]["params"] = "all"
    return {"loss": loss}


def _sampler(name):
    module = name.lower() if name in ("SMOTER", "SMOGN") else "samplers"
    return {"sampling": {"class": RESAMPLED, "sampler": {"class": f"dir_nb.resampling.{module}.{name}"}, "head_epochs": 1}}


LOSSES = ["l1", "mse", "focal_r", "bmc", "gai", "remse", "irda", "meta_irda", "isda_r", "risda_r", "irda_rank", "meta_irda_rank"]
AXES = {
    "weighting": {"none": {}, **{name: {"weights": _part(name, "weights")} for name in ("inverse", "sqinv", "lds", "dense_loss")}},
    "loss": {**{name: {"loss": _part(name, "loss")} for name in LOSSES}, "huber": {"loss": HUBER}, "meta_irda of all weights": _learns_all()},
    "term": {"none": {}, "fds": {"fds": _part("fds", "fds")}, "frob": {"norms": _part("frob", "norms")}, "ranksim": {"term": _part("ranksim", "ranksim")},
             "ordinal_entropy": {"term": _part("ordinal_entropy", "entropy")}, "conr": {"term": _part("conr", "conr"), "views": VIEWS},
             "supcr": {"term": _part("supcr", "contrast"), "views": VIEWS}},
    "sampler": {"none": {}, **{name: _sampler(name) for name in ("RandomOver", "RandomUnder", "GaussianNoise", "SMOTER", "SMOGN")}},
    "schedule": dict.fromkeys(["start", "deferred", "stages", "objective"]),
    "data": dict.fromkeys(["rows", "pictures"]),
}
PLAIN = {"weighting": "none", "loss": "l1", "term": "none", "sampler": "none", "schedule": "start", "data": "rows"}

# choices that do not go together, what the one line names
REFUSED = [
    ({"term": ("frob",), "schedule": ("stages",)}, ("norms", "stages", "phases")),
    ({"term": ("frob",), "schedule": ("deferred",)}, ("Deferred", "NormSchedule")),
    ({"term": ("frob",), "schedule": ("objective",)}, ("TwoStages", "NormSchedule")),
    ({"term": ("fds",), "schedule": ("objective",)}, ("TwoStages", "FDS")),
    ({"sampler": ("RandomOver", "RandomUnder"), "schedule": ("deferred",)}, ("Deferred", "Resampled")),
]


def parts_of(row):
    """An entry's parts: weights, term and sampler begin as the schedule says."""
    chosen = {axis: copy.deepcopy(AXES[axis][row[axis]]) or {} for axis in ("loss", "weighting", "term", "sampler")}
    late = lambda parts, **how: {name: part if part is VIEWS or part == VIEWS else {"class": DEFERRED, "part": part, **how} for name, part in parts.items()}
    schedule, stages = row["schedule"], {}
    if schedule == "deferred":
        for axis in ("weighting", "term", "sampler"): chosen[axis] = late(chosen[axis], share=0.5)
    if schedule in ("stages", "objective"):
        stages = {"stages": {"class": STAGES, "share": 0.5}}
        chosen["weighting"] = late(chosen["weighting"])
    if schedule == "objective" and row["term"] != "none":
        name = next(iter(chosen["term"]))
        stages["stages"]["objective"] = chosen["term"].pop(name)
    return chosen["loss"] | stages | chosen["weighting"] | chosen["term"] | chosen["sampler"]


def refusal(row):
    """The words of the line that refuses it; None if it trains."""
    return next((words for choice, words in REFUSED if all(row[axis] in values for axis, values in choice.items() if axis in row)
                 and choice.keys() <= row.keys()), None)


def _pairs(row):
    return {frozenset(p) for p in itertools.combinations(row.items(), 2)}


def pairwise():
    """Combinations that are not refused, in which every pair that is not refused occurs."""
    both = [dict(p) for a, b in itertools.combinations(AXES, 2) for p in itertools.product([(a, v) for v in AXES[a]], [(b, v) for v in AXES[b]])]
    todo = {frozenset(p.items()): p for p in both if refusal(p) is None}  # in order: the same for every process
    rows = []
    while todo:
        row = dict(next(iter(todo.values())))
        for axis in [a for a in AXES if a not in row]:
            gain = {v: len(_pairs(row | {axis: v}) & todo.keys()) for v in AXES[axis] if refusal(row | {axis: v}) is None}
            row[axis] = max(gain, key=gain.get)
        rows.append({axis: row[axis] for axis in AXES})
        for pair in _pairs(row): todo.pop(pair, None)
    return rows


class Data:
    """Skewed targets; rows of five numbers, or pictures of five pixels."""
    def __init__(self, n, seed, pictures):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(n, 5, generator=g)
        self.x, self.targets = x[:, None, None] if pictures else x, (x[:, 0] + 0.3 * torch.randn(n, generator=g)).exp().clamp(0.01, 9.99)

    def __len__(self): return len(self.targets)
    def __getitem__(self, i): return self.x[i], self.targets[i], None


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Flatten(), nn.Linear(5, 8), nn.ReLU()), nn.Linear(8, 1)

    def encode(self, x): return self.body(x)
    def forward(self, x): return self.head(z := self.encode(x)), z


@cache
def view_of(data):
    train, val, grid = Data(120, 0, data == "pictures"), Data(40, 1, data == "pictures"), BinGrid(0, 10, 0.5)
    counts, y = grid.counts(train.targets), train.targets.double()
    return SimpleNamespace(grid=grid, train=train, val=val, counts=counts, regions=ShotRegions.by_count(counts, many=12, few=4),
                           target_mean=float(y.mean()), target_std=float(y.std(correction=0)), many_shot=12)


def train(row):
    """Two epochs; the run, and model and method as they began."""
    view = view_of(row["data"])
    seed_epoch(0, -1)
    model, method = Net(), build_method({"parts": parts_of(row)}, view, 8)
    run = Trainer(model, method, view, TrainConfig(epochs=2, batch_size=40, lr=0.01))
    before = copy.deepcopy((model.state_dict(), dict(method.named_parameters())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two epochs are few
        return fit(run, progress=False), *before


def _name(row):
    return "-".join(v for axis, v in row.items() if v != PLAIN[axis]) or "plain"


@pytest.mark.parametrize("row", pairwise(), ids=_name)
def test_trains(row):
    run, model, method = train(row)
    assert all(torch.tensor(r["train_loss"]).isfinite() and torch.tensor(r["val_all_mae"]).isfinite() for r in run.state.history)
    tensors = [*run.model.state_dict().values(), *run.method.parameters()]
    assert all(v.isfinite().all() for v in tensors)
    assert any(not torch.equal(v, model[k]) for k, v in run.model.state_dict().items() if k.startswith("body"))
    own = run.method.owns_head
    now, then = (dict(run.method.named_parameters()), method) if own else (run.model.state_dict(), model)
    assert any(not torch.equal(v, then[k]) for k, v in now.items() if own or k.startswith("head"))


@pytest.mark.parametrize("choice, words", [(dict(zip(c, v)), words) for c, words in REFUSED for v in itertools.product(*c.values())],
                         ids=lambda v: _name(PLAIN | v) if isinstance(v, dict) else "")
def test_refused(choice, words):
    with pytest.raises(ValueError) as error: train(PLAIN | choice)
    said = str(error.value)
    assert "\n" not in said and all(word in said for word in words), said


def test_own_head_on_resampled_features():
    """A head over bins goes on with re-sampled features, and its decoder is fitted to it as it is then."""
    rows = {name: PLAIN | {"loss": "irda_rank", "data": "pictures", "sampler": name} for name in ("none", "SMOGN")}
    plain, resampled = (train(row)[0] for row in rows.values())
    assert torch.equal(plain.model.body[1].weight, resampled.model.body[1].weight)
    head, other = (run.method.parts["loss"].head.state_dict() for run in (plain, resampled))
    assert any(not torch.equal(head[k], other[k]) for k in head)
    loss = resampled.method.parts["loss"]
    kept = copy.deepcopy(loss.decoder.state_dict())
    loss.finish(resampled)
    assert all(torch.equal(v, kept[k]) for k, v in loss.decoder.state_dict().items())


def test_objective_must_reach_the_encoder():
    """A loss of the prediction sees features that are cut off: said in the first step."""
    parts = {"loss": {"class": HUBER["class"]}, "stages": {"class": STAGES, "share": 0.5, "objective": HUBER}}
    view = view_of("rows")
    run = Trainer(Net(), build_method({"parts": parts}, view, 8), view, TrainConfig(epochs=2, batch_size=40))
    with pytest.raises(ValueError, match="TwoStages: no gradient of the objective HuberLoss reaches the encoder"): fit(run, progress=False)


def test_every_pair_occurs():
    rows = pairwise()
    seen = set().union(*map(_pairs, rows))
    both = (dict(p) for a, b in itertools.combinations(AXES, 2) for p in itertools.product([(a, v) for v in AXES[a]], [(b, v) for v in AXES[b]]))
    assert all((frozenset(p.items()) in seen) == (refusal(p) is None) for p in both)
