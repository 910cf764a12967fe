"""A report on anybody's predictions, advice on anybody's targets: the numbers, the names of what is doubtful, one line for what does not fit."""
import importlib
import json
import pkgutil
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from project import ROOT
from scipy.stats import skew

import dir_nb
from dir_nb.advice import advise, first_methods, measurements_of, write_advice
from dir_nb.bins import BinGrid
from dir_nb.cli import main
from dir_nb.face import PUBLIC
from dir_nb.labels import label_space
from dir_nb.metrics import DIRMetrics, bmase
from dir_nb.paths import read_json
from dir_nb.labels import ThinRegion, UntestedBins
from dir_nb.reports import DEPTH, MEASURES, Report, report, save_report
from dir_nb.train.core import HardlyVaries, WorseThanConstant

RNG = np.random.default_rng(0)
TRAIN = np.minimum(20 + RNG.gamma(1.5, 12, 3000).round(), 90)
TEST = RNG.integers(20, 85, 300).astype(float)
GOOD, POOR = TEST + RNG.normal(0, 5, 300), 34 + 0.02 * (TEST - 50)


def quiet(*args, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return report(*args, **more)


@pytest.fixture(scope="module")
def made():
    return quiet(TEST, {"good": GOOD, "poor": POOR}, TRAIN, units="years")


def test_public_names_and_modules_do_not_collide():
    """A submodule, once imported, becomes an attribute of the package: it must not hide a name of the face."""
    modules = {m.name for m in pkgutil.iter_modules(dir_nb.__path__)}
    assert not {n for n, where in PUBLIC["dir_nb"].items() if n in modules and where != n}
    for name in ("reports", "advice", "tables", "torch_metrics"): importlib.import_module(f"dir_nb.{name}")
    from dir_nb import advise as a
    from dir_nb import report as r
    assert r is report and a is advise and dir_nb.report is report


def test_the_numbers_are_the_metrics(made):
    space = label_space(TRAIN).covering(TEST)
    want = DIRMetrics(space.grid, space.regions.with_zero(space.counts)).update(GOOD, TEST).compute()
    for region, row in want.items():
        for k in set(MEASURES) & set(row): assert made.regions.loc[("good", region), k] == pytest.approx(row[k], nan_ok=True)
    assert made.regions.loc[("good", "all"), "bmase"] == pytest.approx(bmase(torch.tensor(GOOD), torch.tensor(TEST), space.grid, torch.tensor(TRAIN)))
    assert made.regions.n.loc["good"].drop("all").sum() == len(TEST)


def test_sera_is_a_sum_over_regions(made):
    by_region = made.regions.sera.loc["poor"]
    assert by_region["all"] == pytest.approx(by_region.drop("all").sum()) and by_region["all"] > made.regions.sera["good", "all"] > 0
    even = quiet(np.arange(50.), np.arange(50.) + 1, np.arange(50.))  # a box plot without extremes: nothing is rare
    assert np.isnan(even.regions.sera).all()


def test_per_bin_and_flat_names(made):
    bins = made.per_bin
    assert list(bins.columns) == ["model", "value", "train_count", "region", "n", "mae", "bias"] and set(bins.model) == {"good", "poor"}
    one = bins[(bins.model == "good") & (bins.value == 40)].iloc[0]
    here = TEST == 40
    assert one.n == here.sum() and one.mae == pytest.approx(np.abs(GOOD - TEST)[here].mean()) and one.train_count == (TRAIN == 40).sum()
    flat = made.to_dict()
    assert len(flat) == 2 * 5 * len(MEASURES) and flat["poor/few/mae"] == made.regions.mae["poor", "few"]
    assert quiet(TEST, GOOD, TRAIN).to_dict()["few/mae"] == flat["good/few/mae"]


def test_what_training_lacks_is_zero_shot_and_has_bins_of_its_own():
    made = quiet([30., 40., 120.], [30., 41., 100.], TRAIN)
    assert made.regions.loc[("prediction", "zero"), ["n", "mae"]].tolist() == [1, 20] and made.space.grid.high >= 120
    assert made.regions.n["prediction", "few"] == 0
    assert "zero" not in quiet(TEST, GOOD).regions.loc["prediction"].index  # without training nothing is known to lack


def test_a_grid_a_width_and_a_number_of_bins():
    assert quiet(TEST, GOOD, TRAIN, n_bins=7).space.grid.n_bins >= 7
    assert quiet(TEST, GOOD, TRAIN, width=10).space.grid.width == 10
    grid = BinGrid(0, 100, 5, value="left")
    assert quiet(TEST, GOOD, TRAIN, grid=grid).space.grid == grid


@pytest.mark.parametrize("make", [list, torch.tensor, lambda v: torch.tensor(v).reshape(-1, 1), pd.Series, lambda v: torch.tensor(v, requires_grad=True), lambda v: v[:, None]])
def test_whatever_holds_the_numbers(make, made):
    assert quiet(make(TEST), {"good": make(GOOD), "poor": make(POOR)}, make(TRAIN)).to_dict() == pytest.approx(made.to_dict(), nan_ok=True)


def test_frames_seeds_and_dense_targets(made):
    assert quiet(TEST, pd.DataFrame({"good": GOOD, "poor": POOR}), TRAIN).to_dict() == pytest.approx(made.to_dict(), nan_ok=True)
    seeds = quiet(TEST, {"good": [GOOD, GOOD + 2]}, TRAIN)
    assert seeds.regions.mae["good", "all"] == pytest.approx((np.abs(GOOD - TEST).mean() + np.abs(GOOD + 2 - TEST).mean()) / 2)
    assert "2 seeds" in str(seeds) and len(seeds.runs) == 10
    maps = quiet(TEST.reshape(3, 10, 10), GOOD.reshape(3, 10, 10), TRAIN)
    assert maps.regions.mae["prediction", "all"] == made.regions.mae["good", "all"]


def test_measures_of_depth():
    made = quiet(TEST, GOOD, TRAIN, depth=True)
    assert made.regions.loc[("prediction", "all"), "abs_rel"] == pytest.approx((np.abs(GOOD - TEST) / TEST).mean())
    ratio = np.maximum(GOOD / TEST, TEST / GOOD)
    for k in (1, 2, 3): assert made.regions.loc[("prediction", "all"), f"delta{k}"] == pytest.approx((ratio < 1.25 ** k).mean())
    assert set(DEPTH) <= set(made.regions.columns)


def test_tails(made):
    low, high = np.quantile(TRAIN, [.05, .95])
    assert made.tails.found["good", "high"] == pytest.approx((GOOD >= high)[TEST >= high].mean())
    assert made.tails.right["good", "low"] == pytest.approx((TEST <= low)[GOOD <= low].mean())
    assert made.tails.found["poor", "high"] == 0 and np.isnan(made.tails.right["poor", "high"])


def named(*args, **more):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        report(*args, **more)
    return {w.category: str(w.message) for w in said}


def test_warnings_by_name():
    full, dense = np.repeat(np.arange(20., 91), 10), np.repeat(np.arange(20., 91), 50)
    assert named(full, full + 1, dense) == {}  # all bins many-shot, all tested
    assert all(issubclass(k, UserWarning) for k in (ThinRegion, UntestedBins, HardlyVaries, WorseThanConstant))
    said = named(full[full < 60], full[full < 60], dense)
    assert set(said) == {UntestedBins} and "31 of 71 bins" in said[UntestedBins] and "first: 60" in said[UntestedBins]
    said = named([*full, 120.], [*full, 120.], dense)
    assert set(said) == {ThinRegion} and "zero has 1" in said[ThinRegion]
    assert set(named(full, {"a": full, "b": 0.01 * full + 54.5}, dense)) == {HardlyVaries}
    said = named(full, {"a": full, "b": 110 - full}, dense)
    assert set(said) == {WorseThanConstant} and said[WorseThanConstant].startswith("b: ") and "training median" in said[WorseThanConstant]
    said = named(full, full + 60, dense)
    assert "MAE 60" in said[WorseThanConstant] and "RMSE 60" in said[WorseThanConstant]


@pytest.mark.parametrize("given, says", [
    (dict(y_pred=GOOD[:-1]), r"y_pred has shape \(299,\), y_true \(300,\)"), (dict(y_pred={"a": GOOD[:, None].repeat(2, 1)}), r"y_pred\['a'\] has shape \(300, 2\)"),
    (dict(y_pred=np.where(TEST > 80, np.nan, GOOD)), f"NaN or infinite .first: position {np.flatnonzero(TEST > 80)[0]}"), (dict(y_pred=GOOD.astype(str)), "y_pred holds text"),
    (dict(y_pred=[GOOD, GOOD[:9]]), r"y_pred\[1\] has shape \(9,\)"), (dict(y_pred={}), "no model"), (dict(y_pred=GOOD, y_true=[]), "y_true has shape"), (dict(y_pred=7., y_true=TEST), "y_pred has shape"),
    (dict(y_pred=GOOD, y_train=[]), "y_train has shape"), (dict(y_pred=GOOD, y_train=[4, 4]), "all 2 of y_train are 4"), (dict(y_pred=GOOD, y_train=["a"]), "y_train holds text"),
    (dict(y_pred=[5.], y_true=[5.]), "all 1 of y_true are 5.*give y_train"), (dict(y_pred=GOOD, y_train=[1, None]), r"y_train: 1 of 2 are NaN"), (dict(y_pred=[[1], [2, 3]]), "different lengths"),
    (dict(y_pred=GOOD, width=1, n_bins=3), "width and n_bins"), (dict(y_pred=GOOD, depth=True, y_true=TEST - 30), "above zero"), (dict(y_pred=GOOD, y_train=TRAIN, width=-1), "width"),
    (dict(y_pred=pd.Series(GOOD).iloc[::-1], y_true=pd.Series(TEST)), "different orders"), (dict(y_pred=[3., np.inf], y_true=[1., 2.]), "position 1"), (dict(y_pred=TEST + 1j), "complex"),
    (dict(y_pred=[1.] * 3, y_true=[1., 2., 1e12], y_train=TRAIN), "10,000 bins"),
])
def test_what_does_not_fit_is_named(given, says):
    with pytest.raises(ValueError, match=says): report(**{"y_true": TEST} | given)


def test_one_sample_and_equal_targets_with_training():
    made = quiet([5.], [4.], [1., 2., 5., 5.])
    assert made.regions.mae["prediction", "all"] == 1 and str(made)
    assert quiet([5., 5.], [4., 6.], [1., 2., 5., 5.]).regions.rmse["prediction", "all"] == 1


VALUE = st.one_of(st.integers(-50, 50).map(float), st.floats(-1e3, 1e3))
SOME = arrays(np.float64, st.shared(st.integers(2, 20), key="n"), elements=VALUE)


@settings(max_examples=25, deadline=None)
@given(SOME, SOME, arrays(np.float64, st.integers(1, 20), elements=VALUE))
def test_any_numbers_give_a_report_or_one_line(target, pred, train):
    try: made = quiet(target, pred, train)
    except ValueError as e: assert "\n" not in str(e) and any(word in str(e) for word in ("y_train", "bins", "BinGrid")), str(e)
    else:
        assert made.regions.mae["prediction", "all"] == pytest.approx(np.abs(pred - target).mean())
        assert made.regions.n.loc["prediction"].drop("all").sum() == len(target) and isinstance(made, Report)


def test_pictures_and_page(made, tmp_path):
    pytest.importorskip("matplotlib")
    ten = quiet(TEST, {f"m{k}": GOOD + k for k in range(10)}, TRAIN)
    lines = ten.plot().axes[0].lines
    assert [line.get_label() for line in lines] == [f"m{k}" for k in range(10)] and len({(line.get_color(), line.get_linestyle()) for line in lines}) == 10
    assert sum(bar.get_height() > 0 for bar in ten.plot().axes[1].patches) == len(np.unique(TRAIN))
    assert len(ten.plot_residuals().axes) == 12 and "found: low" in ten.plot_tails().axes[0].lines[0].get_label()
    files = save_report(made, tmp_path / "a/b", "Ages <&>")
    assert {f.name for f in (tmp_path / "a/b").iterdir()} == {f.name for f in files}
    assert json.loads((tmp_path / "a/b/report.json").read_text())["good/all/n"] == 300
    page = files[0].read_text()
    assert "Ages &lt;&amp;&gt;" in page and page.count("data:image/png;base64,") == 3
    assert "<b>" not in quiet(TEST, {"<b>": GOOD}, TRAIN)._repr_html_()


def test_without_matplotlib_one_line(made, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for draw in (made.plot, made.plot_residuals, made.plot_tails, lambda: save_report(made, tmp_path / "out")):
        with pytest.raises(ImportError, match=r"pip install 'dir-nb\[plots\]'"): draw()
    assert not (tmp_path / "out").exists()


# Advice

def test_what_the_package_keeps_is_what_the_results_say(tmp_path):
    assert read_json(ROOT / "dir_nb/advice.json") == json.loads(json.dumps(measurements_of(ROOT))), "run `make contents`"
    assert "advice.json" in (ROOT / "setup.py").read_text()
    with pytest.raises(FileNotFoundError, match="summary.csv"): write_advice(tmp_path)


def test_advice_by_hand(monkeypatch, tmp_path):
    monkeypatch.setenv("DIR_NB_ROOT", str(tmp_path))
    kept = read_json(ROOT / "dir_nb/advice.json")
    prices = RNG.lognormal(12, 1, 4000)
    told = advise(prices)
    assert told.measured["from"] == "the package" and told.log and told.skewness == pytest.approx(skew(prices))
    counts = np.sort(told.space.counts.numpy())
    assert told.tenth == pytest.approx(counts[::-1][:-(-len(counts) // 10)].sum() / 4000)
    cheap, kind = first_methods(kept)
    assert told.methods == tuple(dict.fromkeys(m for m in (cheap, kind) if m)) and len(str(told).splitlines()) <= 10
    assert kept["methods"][kind]["all"] <= 1 and kept["methods"][kind]["few"] == min(v["few"] for v in kept["methods"].values() if v["all"] <= 1)
    assert f"few-shot error {kept['methods'][cheap]['few'] - 1:+.0%}" in str(told)
    assert advise(RNG.uniform(1, 2, 4000)).methods == ("l1",)
    assert not advise(RNG.normal(50, 5, 4000)).log and not advise(-prices).log


@pytest.mark.parametrize("y, says", [([], "shape"), ([3., 3.], "all 2 targets are 3"), ([1., np.nan], "NaN"), (["a", "b"], "give numbers"), ([[1., 2.]], "shape"), ([5.], "all 1 targets")])
def test_advice_refuses(y, says):
    with pytest.raises(ValueError, match=says): advise(y)


# Command line

def said(monkeypatch, capsys, *args):
    monkeypatch.setattr(sys, "argv", ["dir-nb", *map(str, args)])
    monkeypatch.setenv("COLUMNS", "200")
    try: main()
    except SystemExit as e: code = e.code
    return code, *capsys.readouterr()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    pd.DataFrame({"age": TRAIN}).to_csv(tmp_path / "train.csv", index=False)
    pd.DataFrame({"y": TEST, "good": GOOD, "poor": POOR}).to_csv(tmp_path / "preds.csv", index=False, sep=";", decimal=",", encoding="utf-16")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_report_from_the_shell(folder, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    code, out, err = said(monkeypatch, capsys, "report", "preds.csv", "--truth", "y", "--pred", "good", "--pred", "poor", "--train", "train.csv", "--target", "age", "--out", "page")
    assert code == 0 and f"{quiet(TEST, GOOD, TRAIN).regions.mae['prediction', 'few']:.4g}" in out and "HardlyVaries: poor" in err
    assert "spearman" in out and (folder / "page/report.html").is_file() and not [p for p in (folder / "page").iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("args, says", [
    (["report", "pred.csv", "--truth", "y", "--pred", "good"], "did you mean 'preds.csv'"), (["report", "preds.csv", "--truth", "yy", "--pred", "good"], "there is no column 'yy'"),
    (["report", "preds.csv", "--truth", "y", "--pred", "gud"], "there is no column 'gud'"), (["report", "preds.csv", "--truth", "y", "--pred", "y"], "is the column of targets"),
    (["report", "preds.csv", "--truth", "y", "--pred", "good", "--target", "age"], "give that too"), (["report", "preds.csv", "--truth", "y", "--pred", "good", "--train", "train.csv"], "no column 'y'"),
    (["report", "preds.csv", "--truth", "y", "--pred", "good", "--pred", "good"], "given twice"), (["advise", "train.csv", "--target", "agee"], "did you mean 'age'"),
    (["advise", "train.json", "--target", "age"], "did you mean 'train.csv'"),
])
def test_errors_are_one_line(folder, monkeypatch, capsys, args, says):
    code, _, err = said(monkeypatch, capsys, *args)
    assert code == 1 and says in " ".join(err.split()) and err.startswith("error:") and "Traceback" not in err


def test_without_matplotlib_the_shell_says_so(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    code, _, err = said(monkeypatch, capsys, "report", "preds.csv", "--truth", "y", "--pred", "good", "--out", "page")
    assert code == 1 and "pip install 'dir-nb[plots]'" in " ".join(err.split()) and not (folder / "page").exists()


def test_advise_from_the_shell(folder, monkeypatch, capsys):
    pd.DataFrame({"id": range(3000), "months": TRAIN * 12, "age": TRAIN}).to_csv("more.csv", index=False)
    code, out, err = said(monkeypatch, capsys, "advise", "more.csv", "--target", "age")
    assert code == 0 and "3,000 targets from 20 to 90" in out and "IndexColumn: column 'id'" in err and "TargetCopy: column 'months'" in err


def test_version(monkeypatch, capsys):
    assert said(monkeypatch, capsys, "--version")[:2] == (0, f"dir-nb {dir_nb.__version__}\n")
