"""The run of all methods beside the default one, on made-up results: which rows tables and figures show, marked, and what is left out by name."""
import json
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from project import ROOT

from dir_nb.compendium import claims, collect, full, plots, ranking
from dir_nb.compendium.study import full_settings, wide_table
from dir_nb.conf import load_conf
from dir_nb.paths import write_json
from dir_nb.seeds import full_plan

CONF = load_conf(ROOT)
METRICS = ("mae", "gm", "bmae", "rmse", "delta1")
SETS, SEEDS = CONF["grid"]["datasets"], CONF["train"]["seeds"]
MAPS = {"smoter": "dense targets cannot be re-sampled", "smogn": "dense targets cannot be re-sampled", "conr": "views of a map would each move its pixels elsewhere"}
SCREENS = 9.  # inches


def made_up(methods, seeds, rng):
    factor = {m: np.exp(rng.normal(0, .05)) for m in methods}
    return pd.DataFrame([{"dataset": d, "method": m, "seed": s, "region": r, "metric": k, "value": (3. + i) * factor[m] ** (1 - i) * np.exp(rng.normal(0, .02)), "n": 40 - i}
                         for d in SETS for m in methods if (d, m) not in {("motorcycle_dir", x) for x in MAPS} for s in seeds for i, r in enumerate(collect.REGIONS) for k in METRICS])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project's settings, results of the grid's methods, and of all methods."""
    root, rng = tmp_path_factory.mktemp("both"), np.random.default_rng(0)
    shutil.copytree(ROOT / "conf", root / "conf")
    shutil.copytree(ROOT / "results/bench", root / "results/bench")
    (root / "nbs/reports").mkdir(parents=True)
    for name in ("paper_numbers.csv", "reports.yaml"): shutil.copy(ROOT / "nbs/reports" / name, root / "nbs/reports")
    collect.write_tables(root / "results", runs=made_up(CONF["grid"]["methods"], SEEDS, rng), undefined=pd.DataFrame(columns=["dataset", "method", "reason"]),
                         full=wide_table(made_up(list(CONF["methods"]), SEEDS, rng)))
    write_json(root / "results/full.json", full_settings(root) | {"undefined": {"motorcycle_dir": MAPS}})
    return root


def report(stem, root, monkeypatch, **given):
    """Run a report notebook's cells on a project; what they define."""
    monkeypatch.setenv("DIR_NB_ROOT", str(root))
    space = {}
    for c in json.loads((ROOT / f"nbs/reports/{stem}.ipynb").read_text())["cells"]:
        if c["cell_type"] != "code": continue
        exec("".join(c["source"]), space)
        if "parameters" in c["metadata"].get("tags", []): space |= given
    plt.close("all")
    return space


def test_the_full_run_is_not_older_than_its_settings():
    """As with studies; before `make full` was ever run there are no rows."""
    assert full.full_differences(ROOT) == []
    assert (ROOT / "results/full.json").is_file() or full.read_full(ROOT)[0].empty


def test_all_methods_are_in_the_full_run():
    plan = full_plan(CONF, ROOT)
    assert plan["methods"] == list(CONF["methods"]) and set(CONF["grid"]["methods"]) < set(plan["methods"])
    assert plan["seeds"] == SEEDS, "rows of both runs are paired by seeds"


def test_a_table_has_the_rows_of_both(project, monkeypatch):
    """Every method that is defined has a row in each form, marked where it is of the full run, under its family; the others dashes and a reason; the picture has an end."""
    found = report("table_dataset", project, monkeypatch, dataset="motorcycle_dir")
    cells, text = found["cells"], (project / "figures/table_motorcycle_dir.md").read_text()
    assert set(cells.method) == set(CONF["methods"]) and cells.label.iloc[0].startswith("Vanilla") and cells.full.equals(cells.label.str.endswith("†"))
    assert set(cells[cells.full].method) == set(CONF["methods"]) - set(CONF["grid"]["methods"]) - MAPS.keys()
    for m, reason in MAPS.items():
        mine = cells[cells.method == m]
        assert mine["mean"].isna().all() and set(mine.reason) == {reason} and f"({reason})" in text
    assert "†: of the full run" in text and text.index("*Density smoothing*") < text.index("| LDS ") < text.index("*Without gradients*") < text.index("| Ridge †")
    families = [f for f in dict.fromkeys(cells.family) if f]
    assert families == [f for f in [*plots.method_families(), "Others"] if f in families]
    read = collect.read_csv(project / "figures/table_motorcycle_dir.csv")
    assert len(read) == len(cells) == len(CONF["methods"]) * 4 * len(set(cells.metric))
    assert found["write_table"] and plt.imread(project / "figures/table_motorcycle_dir.png").shape[0] <= SCREENS * 120
    tex = (project / "figures/table_motorcycle_dir.tex").read_text()
    assert r"\emph{Without gradients}" in tex and "Ridge †" in tex


def test_a_row_of_the_grid_is_of_the_default_run(project):
    own = collect.read_table("runs", project)
    rows = full.rows_of_both(project).runs
    pd.testing.assert_frame_equal(rows[rows.method.isin(CONF["grid"]["methods"])], own, check_dtype=False)
    assert rows.groupby(["dataset", "method"]).ngroups == len(SETS) * len(CONF["methods"]) - len(MAPS)


def test_rows_with_other_seeds_are_left_out_by_name(project, tmp_path, monkeypatch):
    """The grid has moved to new seeds, and the full run was not repeated: its rows cannot be paired."""
    for name in ("conf", "nbs", "results"): shutil.copytree(project / name, tmp_path / name)
    moved = collect.read_table("runs", project)
    collect.write_tables(tmp_path / "results", runs=moved.assign(seed=moved.seed + 5))
    found = report("table_dataset", tmp_path, monkeypatch, dataset="abalone_dir")
    assert set(found["cells"].method) == set(CONF["grid"]["methods"])
    assert "as `make full` had other seeds:" in found["caption"] and "Ridge" in found["caption"]


def test_a_row_older_than_its_settings_says_so(project, tmp_path, monkeypatch):
    for name in ("conf", "nbs", "results"): shutil.copytree(project / name, tmp_path / name)
    entry = tmp_path / "conf/methods/knn.yaml"
    entry.write_text(entry.read_text().replace("regressor:", "regressor:\n  log: true\n ", 1) if "regressor:\n" not in entry.read_text() else entry.read_text().replace("regressor:\n", "regressor:\n  log: true\n", 1))
    assert full.full_differences(tmp_path, arrays=False) == ["method 'knn' has changed"]
    assert "older than their settings: method 'knn' has changed." in report("table_dataset", tmp_path, monkeypatch, dataset="abalone_dir")["caption"]


@pytest.mark.parametrize("stem", ["table_ranking", "fig_plane", "fig_cost"])
def test_figures_of_all_methods(project, monkeypatch, stem):
    """Methods without gradients among them; those that a data set cannot have are named below, and what words there are do not lie on each other."""
    found = report(stem, project, monkeypatch)
    fig, table = found["fig"], found["table"]
    assert set(table.method) == set(CONF["methods"]) - MAPS.keys() and {"ridge", "knn", "mean"} <= set(table.method)
    assert fig.get_figheight() <= SCREENS and ranking.overlaps(fig) == []
    assert set(table[table.label.str.endswith("†")].method) == set(table.method) - set(CONF["grid"]["methods"])
    said = found["caption"] if stem == "table_ranking" else " ".join(fig.legends[0].get_title().get_text().split())
    assert all(t in said for t in ("†: of the full run", "SMOTER", "ConR"))


def test_features_are_asked_of_trained_methods_only(tmp_path, monkeypatch):
    """A grid with regressors and a cell that is not defined: the figures of norms and the claims on order read the other runs."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf/grid.yaml").write_text("datasets: [abalone_dir, motorcycle_dir]\nmethods: [l1, ridge, smoter]\nseeds: [0]\n")
    rng, counts = np.random.default_rng(0), np.array([5, 30, 200, 90])
    write_json(tmp_path / "runs/motorcycle_dir/undefined.json", {"smoter": "maps"})
    rows = []
    for d, m in (("abalone_dir", "l1"), ("abalone_dir", "ridge"), ("abalone_dir", "smoter"), ("motorcycle_dir", "l1"), ("motorcycle_dir", "ridge")):
        folder = tmp_path / "runs" / d / m / "s0"
        folder.mkdir(parents=True)
        bins = pd.DataFrame({"bin": range(4), "value": np.arange(4.), "train_count": counts, "region": ["few", "medium", "many", "medium"], "n": 5, "mae": rng.random(4), "bias": 0.})
        bins.to_csv(folder / "bins.csv", index=False)
        if m != "ridge": np.savez(folder / "feature_stats.npz", count=counts, norm_mean=rng.random(4), norm_var=rng.random(4), error_mean=rng.random(4))
        rows.append({"dataset": d, "method": m, "seed": 0, "region": "all", "metric": "mae", "value": 1., "n": 20})
    collect.write_tables(tmp_path / "results", runs=pd.DataFrame(rows))
    assert set(report("fig_norms", tmp_path, monkeypatch, dataset="motorcycle_dir")["tables"].method) == {"l1"}
    assert set(report("fig_norms", tmp_path, monkeypatch, dataset="abalone_dir")["tables"].method) == {"l1", "smoter"}
    orders = claims.Evidence(tmp_path).orders
    assert set(zip(orders.dataset, orders.method)) == {("abalone_dir", "l1"), ("abalone_dir", "smoter"), ("motorcycle_dir", "l1")}
    found = report("fig_norm_order", tmp_path, monkeypatch)
    assert found["order"] == ["l1", "smoter"] and set(found["tables"].method) == {"l1", "smoter"}
