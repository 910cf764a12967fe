"""Every sampler: what goes in comes out of the same type, never missing, the same for the same seed; in imbalanced-learn's Pipeline, and in training."""
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from project import ROOT
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from dir_nb.bins import BinGrid, ShotRegions
from dir_nb.conf import load_conf
from dir_nb.methods import build_method
from dir_nb.resampling.parts import Resampled
from dir_nb.resampling.samplers import GaussianNoise, RandomOver, RandomUnder
from dir_nb.resampling.smogn import SMOGN
from dir_nb.resampling.smoter import SMOTER
from dir_nb.train.batches import seed_epoch
from dir_nb.train.config import TrainConfig
from dir_nb.train.core import Trainer, fit

CONF = load_conf(ROOT)
SAMPLERS = [RandomUnder, RandomOver, GaussianNoise, SMOTER, SMOGN]
each = pytest.mark.parametrize("kind", SAMPLERS)


def _data(n=400, seed=0):
    g = np.random.RandomState(seed)
    x = g.standard_normal((n, 4))
    return x, np.exp(x[:, 0]) + .1 * g.random_sample(n)


def _frame(n=400, seed=0):
    x, y = _data(n, seed)
    frame = pd.DataFrame(x, columns=list("abcd")).astype({"b": "float32"})
    frame["count"] = np.arange(n) % 7
    frame["town"] = pd.Categorical(np.where(x[:, 1] > 0, "Porto", "Waikato"), ["Porto", "Waikato", "Nowhere"])
    return frame.assign(flag=x[:, 2] > 0, name=[f"n{i % 5}" for i in range(n)]), pd.Series(y, name="y", index=range(100, 100 + n))


@each
@pytest.mark.parametrize("amounts", ["balance", "extreme"])
def test_frames_come_back_as_frames(kind, amounts):
    x, y = _frame()
    sampler = kind(amounts=amounts, random_state=0)
    made, target = sampler.fit_resample(x, y)
    assert list(made.dtypes) == list(x.dtypes) and list(made.columns) == list(x.columns) and target.name == "y"
    assert not made.isna().any().any() and not target.isna().any() and len(made) == len(target) == sampler.goals_.sum()
    kept = ~sampler.synthetic_
    pd.testing.assert_frame_equal(made[kept], x.iloc[sampler.sample_indices_[kept]].reset_index(drop=True))
    combinations = set(map(tuple, x[["town", "flag", "name"]].to_numpy()))
    assert set(map(tuple, made[["town", "flag", "name"]].to_numpy())) <= combinations


@each
def test_arrays_keep_their_type(kind):
    x, y = _data()
    for dtype in (np.float32, np.float64):
        made, target = kind(random_state=0).fit_resample(x.astype(dtype), y.astype(dtype))
        assert made.dtype == target.dtype == dtype and np.isfinite(made).all() and np.isfinite(target).all()
    made, target = kind(random_state=0).fit_resample(torch.from_numpy(x), y[:, None].tolist())
    assert made.shape == (len(target), 4) and target.shape[1:] == (1,)
    whole, _ = kind(categorical=[1], random_state=0).fit_resample((10 * x).astype(int), y)
    assert whole.dtype == int and set(whole[:, 1]) <= set((10 * x).astype(int)[:, 1])


@each
def test_the_same_seed_gives_the_same_bits(kind):
    x, y = _data()
    a, b, c = (kind(random_state=s).fit_resample(x, y) for s in (3, 3, 4))
    d = kind(random_state=np.random.RandomState(3)).fit_resample(x, y)
    assert all(np.array_equal(p, q) and np.array_equal(p, r) for p, q, r in zip(a, b, d))
    assert a[0].shape != c[0].shape or not np.array_equal(a[0], c[0])
    state = np.random.get_state()[1].copy()
    kind(random_state=3).fit_resample(x, y)
    assert (np.random.get_state()[1] == state).all(), "the global random state is the user's"


@each
def test_what_is_given_stays_as_it_is(kind):
    x, y = _frame()
    before = x.copy(), y.copy()
    kind(random_state=0).fit_resample(x, y)
    pd.testing.assert_frame_equal(x, before[0])
    pd.testing.assert_series_equal(y, before[1])


@each
def test_every_error_names_offender_and_remedy(kind):
    x, y = _data()
    frame, _ = _frame()
    refused = [
        (dict(X=np.where(np.arange(4) == 2, np.nan, x)), "column(s) 2 have values that are missing"),
        (dict(X=frame.assign(town=None)), "column(s) town have values"),
        (dict(y=np.where(np.arange(400) == 7, np.nan, y)), "not finite, the first in row 7: drop"),
        (dict(X=x[:1], y=y[:1]), "give two at least"),
        (dict(y=np.ones(400)), "all targets are 1"),
        (dict(y=np.linspace(0, 1, 400)), "give control points"),
        (dict(relevance=lambda t: np.ones_like(t)), "nothing is normal: raise the threshold"),
        (dict(relevance=lambda t: np.zeros_like(t)), "nothing is rare: lower the threshold"),
        (dict(relevance="hihg"), "did you mean 'high'"),
        (dict(X=x[:, 0]), "give (N, F)"),
        (dict(X=x[:9]), "9 rows and y 400"),
        (dict(y=np.ones((400, 8, 8))), "dense targets"),
        (dict(X=frame, categorical=["twon"]), "did you mean 'town'"),
        (dict(categorical=[4]), "column 4 is not in X"),
        (dict(amounts="balanced"), "did you mean 'balance'"),
        (dict(threshold=2), "threshold=2"),
    ]
    for change, words in refused:
        data = {"X": x, "y": y} | {k: v for k, v in change.items() if k in "Xy"}
        with pytest.raises(ValueError) as error:
            kind(**{k: v for k, v in change.items() if k not in "Xy"}).fit_resample(**data)
        assert words in str(error.value), (words, str(error.value))


@each
def test_is_an_estimator(kind):
    sampler = kind(relevance="high", threshold=.8, amounts=(.5, 3), random_state=1)
    assert clone(sampler).get_params() == sampler.get_params()
    assert clone(sampler).set_params(threshold=.6).threshold == .6


@each
def test_in_the_pipeline_of_imbalanced_learn(kind):
    pipeline = pytest.importorskip("imblearn.pipeline", reason="imbalanced-learn is not needed here and not installed")
    x, y = _data()
    model = pipeline.make_pipeline(kind(random_state=0), Ridge())
    model.fit(x, y)
    x_more, y_more = kind(random_state=0).fit_resample(x, y)
    np.testing.assert_array_equal(model[-1].coef_, Ridge().fit(x_more, y_more).coef_)
    assert model.predict(x).shape == y.shape  # nothing is re-sampled here
    search = GridSearchCV(model, {f"{kind.__name__.lower()}__threshold": [.5, .8]}, cv=2).fit(x, y)
    assert search.best_params_


# As a part of a method

class Rows:
    """Skewed targets of three features; as `pictures` the same features in three dimensions, which a net flattens."""
    def __init__(self, n, seed, pictures=False):
        g = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, 3, generator=g)
        self.targets = (self.x[:, 0] + .3 * torch.randn(n, generator=g)).exp().clamp(.01, 9.9)
        if pictures: self.x = self.x[:, :, None]

    def __len__(self): return len(self.targets)
    def __getitem__(self, i): return self.x[i], self.targets[i], None


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Dropout(.1)), torch.nn.Linear(16, 1)

    def encode(self, x): return self.body(x)

    def forward(self, x):
        z = self.encode(x)
        return self.head(z), z


def _run(method, pictures=False, folder=None, stop=None, epochs=6):
    train, val, grid = Rows(600, 0, pictures), Rows(200, 1, pictures), BinGrid(0, 10, .5)
    counts = grid.counts(train.targets)
    y = train.targets.double()
    view = SimpleNamespace(grid=grid, train=train, val=val, counts=counts, regions=ShotRegions.by_count(counts, many=40, few=10),
                           target_mean=float(y.mean()), target_std=float(y.std(correction=0)), many_shot=40)
    seed_epoch(0, -1)
    config = TrainConfig(epochs=epochs, batch_size=64, lr=.01, checkpoint_seconds=0)
    return fit(Trainer(Net(), build_method(CONF["methods"][method], view, 16), view, config, 0, folder, "k"), progress=False, stop_after=stop)


def _rare_bias(run):
    data = run.view.val
    pred = run.method.predict(run.model, data.x)[:, 0]
    return float((pred - data.targets)[data.targets > 3].mean())


@pytest.mark.parametrize("pictures", [False, True], ids=["table", "pictures"])
@pytest.mark.parametrize("method", ["smoter", "smogn"])
def test_rare_targets_are_less_underrated(method, pictures):
    assert _rare_bias(_run(method, pictures)) > _rare_bias(_run("l1", pictures)) + .2


@pytest.mark.parametrize("pictures", [False, True], ids=["table", "pictures"])
def test_a_run_that_is_taken_up_again_ends_in_the_same_bits(pictures, tmp_path):
    whole = _run("smogn", pictures)
    _run("smogn", pictures, tmp_path, stop=3)
    again = _run("smogn", pictures, tmp_path)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    finished = _run("smogn", pictures, tmp_path)  # nothing is left to do
    assert all(torch.equal(v, finished.model.state_dict()[k]) for k, v in whole.model.state_dict().items())


@pytest.mark.parametrize("pictures", [False, True], ids=["table", "pictures"])
def test_in_feature_space_the_encoder_is_that_of_the_plain_loss(pictures):
    plain, mixed = _run("l1", pictures).model.state_dict(), _run("smogn", pictures).model.state_dict()
    same = all(torch.equal(plain[k], mixed[k]) for k in plain if k.startswith("body"))
    assert same is pictures
    assert not all(torch.equal(plain[k], mixed[k]) for k in plain if k.startswith("head"))


def test_dense_targets_are_refused_before_training():
    class Depth(Rows):
        targets = torch.ones(4, 8, 8)
        def __init__(self): pass

    with pytest.raises(ValueError, match="dense targets cannot be re-sampled"):
        build_method(CONF["methods"]["smogn"], SimpleNamespace(
            grid=BinGrid(0, 10, 1.), train=Depth(), counts=torch.ones(10), target_std=1., many_shot=1), 4).sampler(Depth(), 0)


def test_the_methods_are_not_in_the_grid():
    assert not {"smoter", "smogn"} & set(CONF["grid"]["methods"])


def test_nothing_rare_is_said_before_training():
    """Features are re-sampled when the net is trained; that no target is rare is known from the start."""
    class Texts:
        targets = torch.linspace(-4, 4, 200)
        def __getitem__(self, i): return torch.ones(len(i), 5, dtype=torch.int32), self.targets[i], None

    grid = BinGrid(-4, 4, 0.1)
    for sampler in (SMOTER(), SMOGN(), GaussianNoise()):
        with pytest.raises(ValueError, match="beyond the whiskers"): Resampled(grid, sampler).sampler(Texts(), 0)
    assert Resampled(grid, SMOTER(relevance=[[-4, 1], [0, 0], [4, 1]])).sampler(Texts(), 0) is None
