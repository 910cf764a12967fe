"""Methods without gradients: the entries of conf/, run, kept and collected as any other."""
import json

import numpy as np
import pytest
import yaml
from project import ROOT

from dir_nb.compendium.collect import collect
from dir_nb.compendium.search import run_error, varied_config
from dir_nb.conf import load_conf
from dir_nb.data.core import meta_from, seed_splits, write_prepared
from dir_nb.paths import read_json, write_text
from dir_nb.provenance import code_digests
from dir_nb.run import run_config, run_key, run_modules
from dir_nb.seeds import run_methods

CONF = load_conf(ROOT)
ENTRIES = [m for m, entry in CONF["methods"].items() if "regressor" in entry]


def project(root, scale=1.0, **data):
    """A made-up table with a long tail, and the project's own entries."""
    rng = np.random.default_rng(0)
    y = np.minimum(rng.geometric(0.15, 400), 20).astype(float) * scale
    x = np.stack([np.sqrt(y / scale) + rng.normal(0, 0.3, 400), rng.normal(size=400)], 1)
    data = {"display": {"title": "A toy", "units": "years"}, "modality": "tabular", "split": {"cap": 5, "seeds": 2}, "model": {"name": "mlp"},
            "bins": {"low": scale, "high": 21 * scale, "width": scale, "value": "left"}, "shots": {"many": 15, "few": 6},
            "train": {"epochs": 3}, "recipe": {"BinWeights": {"clip": [5, 1000]}}} | data
    files = {"grid": {"datasets": ["toy_dir"], "methods": ["l1", *ENTRIES], "seeds": [0, 1]}, "datasets/toy_dir": data}
    files |= {f"methods/{m}": yaml.safe_load((ROOT / f"conf/methods/{m}.yaml").read_text()) for m in ["l1", *ENTRIES]}
    for name, entry in files.items(): write_text(root / f"conf/{name}.yaml", yaml.safe_dump(entry))
    meta = meta_from("toy_dir", data | data["display"], "made up")
    write_prepared(root / "prepared/toy_dir", meta, y, seed_splits(y, meta), inputs=x)
    return root


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = project(tmp_path_factory.mktemp("regressors"))
    return root, run_methods("toy_dir", ["l1", *ENTRIES], root, workers=1, progress=False)


def test_the_floor_and_the_ceiling(done):
    assert set(ENTRIES) == {"mean", "median", "ridge", "knn", "boosting", "boosting_lds", "boosting_log"}
    error = {m: found["all"]["mae"] for m, found in done[1].items()}
    assert max(error[m] for m in ("ridge", "knn", "boosting", "boosting_log")) < 0.8 * min(error["mean"], error["median"])
    assert done[1]["boosting_lds"]["few"]["mae"] < done[1]["boosting"]["few"]["mae"]


def test_collected_with_the_others(done):
    runs, bins, summary = collect(done[0], ["toy_dir"], ["l1", *ENTRIES], [0, 1])
    of = lambda table: table.groupby("method").size().to_dict()
    assert len(set(of(runs).values())) == 1 and len(set(of(bins).values())) == 1  # the same rows for each
    assert (summary.diff_seeds[(summary.metric == "mae") & (summary.region == "all")] == 2).all()


def test_kept_and_run_anew(done):
    root, _ = done
    made = lambda: {p.parts[-3:-1]: p.stat().st_mtime_ns for p in (root / "runs").rglob("metrics.json")}
    before = made()
    write_text(root / "conf/methods/ridge.yaml", yaml.safe_dump({"base": "mean", "regressor": {"estimator": {"class": "sklearn.linear_model.Ridge", "alpha": 5.0}}}))
    run_methods("toy_dir", ["l1", *ENTRIES], root, workers=1, progress=False)
    assert {k for k, v in made().items() if before[k] != v} == {("ridge", "s0"), ("ridge", "s1")}


def test_no_key_of_a_net_reaches_them():
    """A change to the regressors trains no net again, and their own key knows their code."""
    modules = {m: code_digests(run_modules(run_config(CONF, "abalone_dir", m, 0))) for m in ("l1", "lds", "ridge")}
    assert [any(name.startswith("dir_nb.baselines") for name in modules[m]) for m in ("l1", "lds", "ridge")] == [False, False, True]


@pytest.mark.parametrize("method", ENTRIES)
def test_the_unit_changes_nothing(done, tmp_path, method):
    found = run_methods("toy_dir", [method], project(tmp_path, 1024.0), workers=1, progress=False)[method]
    assert found["all"]["mae"] / 1024 == pytest.approx(done[1][method]["all"]["mae"], rel=1e-5)


@pytest.mark.parametrize("name", [d for d, entry in CONF["datasets"].items() if entry["model"]["name"] == "pair"])
def test_pairs_are_refused(name):
    with pytest.raises(ValueError, match=f"ridge is not defined on {name}: a bag of words"): run_config(CONF, name, "ridge", 0)


SPACES = {m: space for m, space in CONF["search"]["spaces"].items() if "regressor" in CONF["methods"][m]}


@pytest.mark.parametrize("method", SPACES)
def test_every_value_of_its_space_is_fitted(tmp_path, method):
    """One path after the other, as the search varies them: each changes what is predicted."""
    root = project(tmp_path)
    error = lambda setting: run_error(varied_config(load_conf(root), "toy_dir", method, 0, setting), root)["all"]["mae"]
    for path, values in SPACES[method].items():
        found = [error({path: v}) for v in values]
        assert np.isfinite(found).all() and len(set(found)) > 1, (path, found)


def test_data_derived_from_others_are_run(tmp_path):
    """Training that lacks labels: a region of its own in every table, for nets as for others."""
    from dir_nb.data.catalog import ensure_prepared
    root = project(tmp_path)
    entry = {"base": "toy_dir", "display": {"title": "Without tails"}, "shots": {"zero": True}, "split": {"protocol": {"kind": "extrapolation", "share": 0.4}}}
    write_text(root / "conf/datasets/tails_dir.yaml", json.dumps(entry))
    ensure_prepared("tails_dir", root)
    run_methods("tails_dir", ["l1", "ridge"], root, workers=1, progress=False)
    runs, bins, _ = collect(root, ["tails_dir"], ["l1", "ridge"], [0, 1])
    zero = runs[(runs.region == "zero") & (runs.metric == "mae")]
    assert len(zero) == 4 and (zero.n > 0).all() and zero.value.notna().all()
    assert (bins.train_count[bins.region == "zero"] == 0).all() and (bins.train_count[bins.region == "few"] > 0).all()
    config = run_config(load_conf(root), "tails_dir", "ridge", 0)
    key, at = run_key(config, root), root / "runs/tails_dir/ridge/s0/key.json"
    assert read_json(at) == key


def test_weights_that_read_targets():
    """DenseLoss's weights need the targets themselves, not their bins."""
    import torch
    from sklearn.linear_model import Ridge

    from dir_nb.baselines.regressors import TableRegressor
    from dir_nb.bins import BinGrid
    from dir_nb.weighting.dense import DenseWeight

    class Table:
        modality = "tabular"
        x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
        targets = torch.linspace(0, 1, 60) ** 3 * 9
        def plain(self): return self
        def __len__(self): return 60
        def __getitem__(self, i): return self.x[i], self.targets[i], None

    view = type("View", (), {"train": Table()})
    plain, weighed = [TableRegressor(BinGrid(0, 10, 1), 1., Ridge(), w).fit(view).predict(view.train)[0].mean()
                      for w in (None, DenseWeight(Table.targets))]
    assert weighed > plain + .1  # rare, large targets count for more
