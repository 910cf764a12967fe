"""The estimators keep scikit-learn's contract, and do what they say with tables, weights, groups and randomness."""
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import Parallel, delayed
from project import ROOT
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from dir_nb import DensityWeighted, DIRRegressor, ImbalancedSplit, PosteriorDecoder, shot_scorers
from dir_nb.conf import load_conf
from dir_nb.labels import label_space
from dir_nb.sklearn_tools import RareBins, sample_weight, strata
from dir_nb.train.core import HardlyVaries, WorseThanConstant

ESTIMATORS = [
    DIRRegressor(hidden=(32,), max_epochs=6, batch_size=32, lr=0.02),
    DensityWeighted(Ridge()),
    PosteriorDecoder(Ridge(), cv=2),
]


def expected(estimator):
    if not isinstance(estimator, DIRRegressor): return {}
    return {"check_sample_weight_equivalence_on_dense_data": "steps are of batches drawn at random: a weight of two is not two rows"}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected)
def test_contract(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 4))
    return X, np.exp(X[:, 0] + 0.3 * rng.normal(size=150))


def quick(**given):
    return DIRRegressor(**{"method": "l1", "hidden": (16,), "max_epochs": 3, "random_state": 0} | given)


# a method for each way of training: parts of losses, heads, two views, stages, rows drawn or made, meta-learning, phases, averages
KINDS = ["irda", "irda_rank", "meta_irda", "lds_fds", "smogn", "rrt_lds", "supcr_two_stage", "conr", "deferred", "frob", "hca", "vir", "uvote", "post_hoc"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", KINDS)
def test_methods(method, data):
    """Alike to the bit when fitted again and when pickled; small; a row's prediction is that of the table."""
    X, y = data
    model = quick(method=method).fit(X, y)
    pred, kept = model.predict(X), pickle.dumps(model)
    assert np.isfinite(pred).all() and pred.std() > 0
    assert np.array_equal(pickle.loads(kept).predict(X), pred)
    assert np.array_equal(clone(model).fit(X, y).predict(X), pred)
    assert len(kept) < 2e6
    np.testing.assert_allclose(np.concatenate([model.predict(X[i:i + 1]) for i in range(5)]), pred[:5], rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["irda", "smoter", "meta_irda_rank", "supcr"])
def test_weights_and_methods(method, data):
    X, y = data
    weight = np.where(y > 2, 5.0, 0.5)
    model = quick(method=method)
    if method == "smoter":
        with pytest.raises(ValueError, match="smoter trains on rows that it makes itself"): model.fit(X, y, sample_weight=weight)
    else: assert not np.array_equal(model.fit(X, y, sample_weight=weight).predict(X), clone(model).fit(X, y).predict(X))


def test_methods_without_gradients_are_refused():
    for name, entry in load_conf(ROOT)["methods"].items():
        if "regressor" not in entry: continue
        with pytest.raises(ValueError, match=f"{name} has no gradients: use sklearn"): quick(method=name).fit([[1.0], [2.0], [3.0]], [1, 2, 3])


@pytest.mark.filterwarnings("ignore")
def test_weights_are_multiplied_in(data):
    """The term that a step computes is weighed by the rows that it drew, times the method's own weights."""
    X, y = data
    plain = lambda w: quick(method="mse", max_epochs=15, lr=0.02).fit(X, y, sample_weight=w).predict(X)
    far = y > np.quantile(y, 0.9)
    assert (plain(np.where(far, 30, 1)) - y)[far].mean() > (plain(None) - y)[far].mean()
    assert np.array_equal(plain(np.full(150, 7.0)), plain(None))
    keep = np.arange(150) % 3 > 0
    assert np.array_equal(plain(keep), quick(method="mse", max_epochs=15, lr=0.02).fit(X[keep], y[keep]).predict(X)), "a row of zero is not there"


def test_each_step_has_the_weights_of_its_rows(data, monkeypatch):
    """Whatever the order of the rows, a weight stays with its row."""
    from dir_nb.losses.pointwise import L1Loss

    X, y = data
    seen = []
    was = L1Loss.term
    def term(self, step):
        seen.append((step.target.clone(), step.weight.clone()))
        return was(self, step)
    monkeypatch.setattr(L1Loss, "term", term)
    quick(max_epochs=2).fit(X, y, sample_weight=y)  # the weight is the target
    target, weight = (torch.cat(v) for v in zip(*seen))
    ratio = weight / target
    assert len(seen) > 2 and torch.allclose(ratio, ratio[0].expand_as(ratio), rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_groups_are_not_on_both_sides(data, monkeypatch):
    import dir_nb.sklearn as module

    X, y = data
    groups, split = np.arange(150) // 5, []
    was = module._held_out
    monkeypatch.setattr(module, "_held_out", lambda *a: split.append(was(*a)) or split[-1])
    quick(max_epochs=1).fit(X, y, groups=groups)
    train, val = split[0]
    assert not set(groups[train]) & set(groups[val]) and len(train) + len(val) == 150 and len(val) >= 5
    with pytest.raises(ValueError, match="one group"): quick().fit(X, y, groups=np.zeros(150))


@pytest.mark.filterwarnings("ignore")
def test_preparation_sees_training_rows_alone(data, monkeypatch):
    import dir_nb.sklearn as module

    X, y = data
    split = []
    was = module._held_out
    monkeypatch.setattr(module, "_held_out", lambda *a: split.append(was(*a)) or split[-1])
    model = quick(max_epochs=1).fit(X, y)
    scaler = model.preparation_.named_transformers_["numbers"][-1]
    np.testing.assert_allclose(scaler.mean_, X[split[0][0]].mean(0))


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"height": rng.normal(170, 10, 120), "sex": pd.Categorical(rng.choice(["f", "m"], 120)), "town": rng.choice(["a", "b", None], 120)})
    table.loc[::9, "height"] = np.nan
    return table, (30 + 10 * (table.sex == "m") + rng.normal(size=120)).to_numpy()


@pytest.mark.filterwarnings("ignore")
def test_tables(people):
    X, y = people
    model = quick(max_epochs=20, lr=0.02).fit(X, y)
    assert model.score(X, y) > 0.7, "the category decides"
    assert list(model.feature_names_in_) == ["height", "sex", "town"] and model.n_features_in_ == 3
    for wrong in (X.drop(columns="town"), X.assign(more=1), X.rename(columns={"town": "city"}), X[["sex", "height", "town"]]):
        with pytest.raises(ValueError, match="feature names should match"): model.predict(wrong)
    with pytest.warns(UserWarning, match="unknown categories"): model.predict(X.assign(town="elsewhere"))
    with pytest.raises(ValueError, match="give a DataFrame"): model.predict(X.to_numpy())
    with pytest.raises(ValueError, match="X holds text"): quick().fit(X.to_numpy(), y)
    with pytest.raises(ValueError, match="'height' holds infinities"): quick().fit(X.assign(height=np.inf), y)
    with pytest.raises(ValueError, match="'day' holds datetime64"): quick().fit(X.assign(day=pd.Timestamp("2020-01-01")), y)
    with pytest.raises(ValueError, match="unique column names|two columns are named 'sex'"): quick().fit(X.set_axis(["height", "sex", "sex"], axis=1), y)
    assert np.array_equal(model.predict(X.astype({"sex": object})), model.predict(X))


@pytest.mark.filterwarnings("ignore")
def test_tools_of_scikit_learn(data, people):
    X, y = data
    piped = make_pipeline(PolynomialFeatures(2), StandardScaler(), quick())
    assert np.isfinite(piped.fit(X, y).predict(X)).all()
    found = cross_validate(quick(), X, y, cv=ImbalancedSplit(3, random_state=0), scoring=shot_scorers(y), n_jobs=1)
    assert set(found) >= {"test_neg_mae", "test_neg_bmae", "test_neg_mae_many", "test_neg_mae_medium", "test_neg_mae_few"} and (found["test_neg_mae"] < 0).all()
    assert found["test_neg_mae"] == pytest.approx(cross_validate(quick(), X, y, cv=ImbalancedSplit(3, random_state=0), scoring="neg_mean_absolute_error")["test_score"])
    search = GridSearchCV(quick(max_epochs=1), {"method": ["l1", "lds"], "lr": [1e-9, 1e-2]}, cv=2, scoring="neg_mean_absolute_error").fit(*people)
    assert search.best_params_["lr"] == 1e-2
    assert cross_val_predict(quick(), X, y, cv=2, params={"sample_weight": y}).shape == (150,)


def _fitted(X, y): return quick().fit(X, y)


@pytest.mark.filterwarnings("ignore")
def test_other_processes_give_the_same(data):
    X, y = data
    here = quick().fit(X, y).predict(X)
    (there,) = Parallel(n_jobs=2)([delayed(_fitted)(X, y)])
    assert np.array_equal(there.predict(X), here)


@pytest.mark.filterwarnings("ignore")
def test_randomness_is_its_own(data):
    X, y = data
    torch.manual_seed(5)
    state, chosen = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    first = quick().fit(X, y).predict(X)
    assert torch.equal(torch.get_rng_state(), state) and torch.are_deterministic_algorithms_enabled() == chosen
    torch.manual_seed(6)
    assert np.array_equal(quick().fit(X, y).predict(X), first)
    assert not np.array_equal(quick(random_state=1).fit(X, y).predict(X), first)


def test_doubts_are_said(data):
    X, y = data
    with pytest.warns(WorseThanConstant): quick(lr=1e-9, select="mse").fit(X[::-1], y)  # of features that tell nothing
    with pytest.warns(HardlyVaries): quick().fit(np.zeros_like(X), y)


@pytest.mark.parametrize("X, y, said", [
    ([[1.0], [2.0], [3.0]], [5, 5, 5], "all 3 targets are 5"),
    ([[1.0], [2.0]], [5, 6], "give more samples"),
    ([[1.0]], [5], "1 sample"),
    ([[1.0], [2.0], [3.0]], [1, 2, np.nan], "NaN"),
    ([[1.0], [2.0], [np.inf]], [1, 2, 3], "infinity"),
    ([[1.0], [2.0], [3.0]], [1, 2], "inconsistent numbers"),
    ([[1.0], [2.0], [3.0]], [[1, 2], [3, 4], [5, 6]], "1d array"),
    ([[1.0], [2.0], [3.0]], [1e38, 2e38, 3e38], "give them in other units"),
])
def test_wrong_data(X, y, said):
    with pytest.raises(ValueError, match=said): quick().fit(np.array(X), np.array(y))


@pytest.mark.parametrize("given, said", [
    ({"method": "l11"}, "did you mean 'l1'"), ({"max_epochs": 0}, "max_epochs"), ({"lr": "1e-3"}, "lr="), ({"hidden": (0,)}, "hidden"),
    ({"validation_fraction": 0.7}, "validation_fraction"), ({"device": "gpu"}, "device"), ({"select": "mape"}, "select"),
    ({"width": -1.0}, "width"), ({"width": 1.0, "n_bins": 3}, "width and n_bins"), ({"method": {"parts": {}}}, "no part"),
    ({"method": {"parts": {"loss": {"class": "dir_nb.losses.pointwise.L1Loss"}}, "train": {"epoch": 3}}}, "'epoch' is not known"),
])
def test_wrong_settings(given, said, data):
    with pytest.raises(ValueError, match=said): quick(**given).fit(*data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shift, scale", [(1e9, 1.0), (0.0, 1e-6), (0.0, 1e6), (-3e8, 10.0)])
def test_any_unit(shift, scale, data):
    X, y = data  # a sample on the border of a bin may change sides, and the split with it
    fitted = lambda t: quick(max_epochs=10, n_bins=20).fit(X, t).predict(X)
    np.testing.assert_allclose((fitted(y * scale + shift) - shift) / scale, fitted(y), atol=0.15 * y.std())


def test_weights_by_density():
    """Against a slow count; and equal to repeating rows."""
    y = np.array([1, 1, 1, 1, 2, 2, 5])
    expected = 1 / np.array([4, 4, 4, 4, 2, 2, 1])
    np.testing.assert_allclose(sample_weight(y, lds=False), expected / expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(sample_weight(y, "sqrt_inv", lds=False), expected ** .5 / (expected ** .5).mean(), rtol=1e-6)
    uneven = np.repeat(range(20), [9, 1] * 10)
    assert np.ptp(sample_weight(uneven)) < 0.5 * np.ptp(sample_weight(uneven, lds=False)), "smoothed"
    assert np.array_equal(sample_weight([2.0, 2.0]), [1, 1])
    for wrong, said in (([1, np.nan], "NaN"), ([], "shape"), ([[1, 2]], "shape")):
        with pytest.raises(ValueError, match=said): sample_weight(wrong)


def test_splits(data):
    X, y = data
    with pytest.warns(RareBins, match="bins are joined"): folds = list(ImbalancedSplit(5, random_state=0).split(X, y))
    of, joined = strata(y, 5)
    spread = lambda folds: max(np.ptp(c) for c in np.array([np.bincount(of[t], minlength=of.max() + 1) for _, t in folds]).T)
    assert spread(folds) <= 1 < spread(KFold(5).split(X)), "every fold has its share of every stratum"
    assert sorted(np.concatenate([t for _, t in folds])) == list(range(150))
    groups = np.arange(150) // 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RareBins)
        for train, test in ImbalancedSplit(5).split(X, y, groups): assert len(test) and not set(groups[train]) & set(groups[test])
    assert np.bincount(of).min() >= 5 and joined > 0
    assert (np.diff(of[np.argsort(y)]) >= 0).all(), "strata rise with the target"


def test_scores():
    """By hand from the regions, also for targets that training does not have."""
    X = np.random.default_rng(2).normal(size=(600, 2))
    y = np.exp(X[:, 0])
    model, space = Ridge().fit(X, y), label_space(y)
    region = space.regions.region[space.grid.index(y)].numpy()
    error, found = np.abs(model.predict(X) - y), shot_scorers(space)
    assert -found["neg_mae"](model, X, y) == pytest.approx(error.mean())
    for i, name in enumerate(space.regions.names): assert -found[f"neg_mae_{name}"](model, X, y) == pytest.approx(error[region == i].mean())
    assert np.isnan(found["neg_mae_few"](model, X[region == 0], y[region == 0]))
    assert -found["neg_mae_few"](model, X[:1], y[:1] + 100) == pytest.approx(abs(model.predict(X[:1]) - y[:1] - 100)[0])


def test_decoder_is_fitted_out_of_fold():
    """A regressor that knows its training rows by heart and nothing else: in fold it would look perfect."""
    from sklearn.neighbors import KNeighborsRegressor

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 3)), rng.uniform(0, 10, 200)
    found = PosteriorDecoder(KNeighborsRegressor(1), tau=1.0, n_bins=20).fit(X, y).predict(X)
    assert np.abs(found - y).mean() > 1, "its in-fold errors are zero, and are not believed"
    assert np.ptp(found) < 0.8 * np.ptp(y)
