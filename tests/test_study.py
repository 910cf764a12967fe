"""Studies on real data: a variant that sets nothing is the run of the grid, measures against a slow loop, missing data changes nothing."""
import json
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from project import ROOT, copy_project, run

from dir_nb.compendium.label_norms import norm_table
from dir_nb.paths import load_params
from dir_nb.run import run_config
from dir_nb.compendium.study import BY_COUNTS, read_study, run_both_rules, run_norms, run_study
from dir_nb.compendium.search import draw_settings, searched_entry


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = copy_project(tmp_path_factory.mktemp("study") / "p", ["abalone_dir"], ["l1"], [0], epochs=2)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["studies"] |= {
        "same": {"variants": {"l1": {"method": "l1"}, "decayed": {"method": "l1", "set": {"train.weight_decay": 5.0}}}, "datasets": ["abalone_dir"]},
        "features": {"kind": "table2", "variants": {"l1": {"method": "l1"}}, "datasets": ["abalone_dir"]},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    run(root, "dir-nb", "notebook", "nbs/experiments/prepare.ipynb", "dataset=abalone_dir")
    run(root, "dir-nb", "train", "abalone_dir", "l1", "--workers", "1")
    return root


def study(root, name):
    run(root, "dir-nb", "notebook", "nbs/experiments/study.ipynb", f"study={name}", "workers=1")
    return read_study(name, root)


def test_variant_that_sets_nothing(project):
    found = study(project, "same").query("region in ('all', 'few') and metric == 'mae'")
    grid = json.loads((project / "runs/abalone_dir/l1/s0/metrics.json").read_text())
    for region in ("all", "few"):
        mine = found[found.region == region].set_index("method").value
        assert mine["l1"] == grid[region]["mae"]
        assert mine["decayed"] != mine["l1"]


def test_table2_against_a_loop(project):
    """Features of the saved model, one bin after the other."""
    found = study(project, "features").set_index("metric")
    script = """
import json, torch
from dir_nb.data.core import open_prepared
from dir_nb.run import load_model
model = load_model("runs/abalone_dir/l1/s0/model.safetensors", ".").model.eval()
view = open_prepared("abalone_dir", ".").seed(0)
x, y, _ = view.train[list(range(len(view.train)))]
with torch.no_grad(): feat = model.encode(x)
print(json.dumps({"g": model.head(feat).flatten().tolist(), "y": y.flatten().tolist(), "values": view.grid.values.tolist(),
                  "bins": view.grid.index(y.flatten()).tolist(), "region": view.regions.region.tolist(), "few": view.regions.names.index("few")}))
"""
    got = json.loads(run(project, sys.executable, "-c", script).stdout)
    g, bins, values = np.array(got["g"]), np.array(got["bins"]), got["values"]
    mean, var, error, rare = [], [], [], []
    for b in sorted(set(got["bins"])):
        mine = g[bins == b]
        mean.append(mine.mean())
        var.append(mine.var(ddof=1) if len(mine) > 1 else np.nan)
        error.append((mine.mean() - values[b]) ** 2 + (0 if len(mine) < 2 else var[-1]))
        rare.append(got["region"][b] == got["few"])
    rare, error, known = np.array(rare), np.array(error), [values[b] for b in sorted(set(got["bins"]))]
    want = {"uncertainty.prediction_variance": np.nanmean(var) + np.var(mean), "skewness.loss_ratio": error[rare].mean() / error[~rare].mean(),
            "compactness.along_w_relative": np.nanmean(var) / np.var(mean), "precision.residual": np.abs(np.array(mean) - known).mean()}
    for name, value in want.items():
        assert found.value[name] == pytest.approx(value, rel=2e-3), name
    assert set(found.n) == {len(g)}


def test_missing_data_leaves_the_numbers(project):
    """A study of data that is not here is left out, neither run nor recorded as up to date."""
    kept = project / "results/studies/faces.csv"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("not to be touched")
    told = run(project, "dir-nb", "repro", "--force", "study@faces").stdout
    assert "study@faces" in told and "faces_dir" in told
    assert kept.read_text() == "not to be touched"
    lock = project / "dvc.lock"
    assert not lock.exists() or "study@faces" not in yaml.safe_load(lock.read_text())["stages"]
    with pytest.raises(ValueError, match="faces_dir"): run_study("faces", project)


@pytest.mark.parametrize("folder", sorted((ROOT / "results/search").glob("round_*")), ids=lambda p: p.name)
def test_search_is_what_its_record_says(folder):
    """Every recorded setting follows from the recorded space and the round's seed; the first is the entry; all data sets and seeds were run."""
    spaces, entries = (json.loads((folder / f"{name}.json").read_text()) for name in ("spaces", "entries"))
    files = sorted(folder.glob("*.csv"))
    assert {f.stem for f in files} == set(spaces) and set(spaces) <= set(entries)
    for f in files:
        table, how = pd.read_csv(f), spaces[f.stem]
        drawn = draw_settings(how["space"] or {}, how["draws"], how["round"] if how["round"] > 1 else 0)
        assert [json.loads(s) for s in table.groupby("draw").setting.first()] == drawn, f.stem
        assert set(zip(table.dataset, table.seed)) == {(d, s) for d, h in how["datasets"].items() for s in h["seeds"]}
        assert len(table) == len(drawn) * sum(len(h["seeds"]) for h in how["datasets"].values())


def test_entries_are_what_the_search_chose():
    """The rule of `searched_entry`, applied to every recorded round, leads from the first entries to those of params.yaml."""
    def plain(entry, loss):  # without titles and what is the loss's default
        defaults = {"decoder": "posterior_mean"} if loss in ("isda_r", "risda_r", "irda") else {}
        train = {k: v for k, v in entry.get("train", {}).items() if (k, v) != ("lr_factor", 1.0)}
        return {k: v for k, v in entry.items() if k not in ("title", "train", "loss")} | {"train": train, "loss": {k: v for k, v in entry["loss"].items() if defaults.get(k) != v}}
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    folder = ROOT / "results/search"
    rounds = sorted(int(p.name.removeprefix("round_")) for p in folder.glob("round_*"))
    assert rounds == [1, 2, 3, 4, 5, 6, 7, 8]
    before = {n: json.loads((folder / f"round_{n}/entries.json").read_text()) for n in rounds}
    changed = set()
    for some, after in (((1,), before[2]), ((2,), params["methods"] | before[3]), ((3, 4), params["methods"]), ((5, 6), before[8]), ((7,), before[8]), ((8,), params["methods"])):
        for method, entry in before[some[0]].items():
            tables = [pd.read_csv(f) for n in some if (f := folder / f"round_{n}/{method}.csv").is_file()]
            if not tables or method == "meta_irda":  # irda_b0 and meta_irda take irda's settings (tests/test_pipeline.py)
                continue
            found = searched_entry(entry, tables, params["search"]["metric"])
            assert plain(found, method) == plain(after[method], method), (some, method)
            if plain(found, method) != plain(entry, method):
                changed.add((some, method))
    assert {m for some, m in changed if some == (2,)} == {"focal_r", "bmc", "gai", "irda"}
    assert {m for some, m in changed if some == (3, 4)} == {"lds", "irda"}
    assert {(some, m) for some, m in changed if some[0] >= 5} == {((5, 6), "frob"), ((8,), "frob"), ((8,), "frob_ours")}


def test_norm_schedules_differ_in_their_base_alone():
    """frob's settings of the norms are the same over every base, and each base is the method itself."""
    methods = yaml.safe_load((ROOT / "params.yaml").read_text())["methods"]
    for over, base in {"frob": "l1", "frob_ours": "l1", "frob_lds": "lds", "frob_fds": "fds", "frob_irda": "irda"}.items():
        assert {k: v for k, v in methods[over].items() if k not in ("title", "norms")} == {k: v for k, v in methods[base].items() if k != "title"}, over
        if over != "frob_ours":
            assert methods[over]["norms"] == methods["frob"]["norms"], over
    ours, theirs = methods["frob_ours"]["norms"], methods["frob"]["norms"]
    assert {k for k in ours if ours[k] != theirs.get(k)} == {"alpha", "beta", "gamma", "temperature", "measure", "wanted", "tune_share", "tune_weights"} and ours["beta"] == 0


def test_both_rules(project):
    """By training counts, where the data set's own regions are by counts: the same numbers twice, and those that a run has."""
    config = run_config(load_params(project), "abalone_dir", "l1", 0)
    found = run_both_rules(config, project)
    assert set(found) == {"all", *(r + e for r in ("many", "medium", "few") for e in ("", BY_COUNTS))}
    for r in ("many", "medium", "few"):
        assert found[r] == found[r + BY_COUNTS]
    run_of = json.loads((project / "runs/abalone_dir/l1/s0/metrics.json").read_text())
    for r in ("all", "few"):
        assert found[r]["mse"] == pytest.approx(run_of[r]["mse"], rel=1e-6) and found[r]["spearman"] == pytest.approx(run_of[r]["spearman"], rel=1e-6)


def test_norms_that_training_left(project):
    """What a run stored of its norms is what its model gives, and a loop over labels."""
    script = """
import json
from dir_nb.compendium.label_norms import training_norms
from dir_nb.run import load_model, plain_training
trainer = load_model("runs/abalone_dir/l1/s0/model.safetensors", ".")
found = training_norms(trainer)
(x, y), = plain_training(trainer) if len(trainer.view.train) <= 1024 else [tuple(v for v in trainer.view.train[:][:2])]
feat = trainer.model.encode(x).detach()
keep = y == 9.0
print(json.dumps({"norm": found["norm"].tolist(), "mae": found["mae"].tolist(), "nine": [feat[i].square().sum().sqrt().item() for i in keep.nonzero().flatten()]}))
"""
    got = json.loads(run(project, sys.executable, "-c", script).stdout)
    table = norm_table(project / "runs/abalone_dir/l1/s0").set_index("bin")
    np.testing.assert_allclose(table.norm, np.array(got["norm"])[table.index], rtol=1e-5)
    np.testing.assert_allclose(table.train_mae, np.array(got["mae"])[table.index], rtol=1e-5)
    assert table[table.value == 9].norm.item() == pytest.approx(np.mean(got["nine"]), rel=1e-5)
    assert table[table.value == 9].norm_std.item() == pytest.approx(np.std(got["nine"]), rel=1e-3)
    study = run_norms(run_config(load_params(project), "abalone_dir", "l1", 0), project)
    study = {int(b): study[b] for b in sorted(study, key=int)}
    assert list(study) == table.index.tolist() and [v["n"] for v in study.values()] == table.train_count.tolist()
    for k in ("norm", "norm_std", "train_mae", "test_mae"):
        np.testing.assert_allclose([np.nan if v[k] is None else v[k] for v in study.values()], table[k], rtol=1e-4)
