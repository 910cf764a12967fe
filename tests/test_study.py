"""Studies on real data: a variant that sets nothing is the run of the grid, measures against a slow loop, missing data changes nothing."""
import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from project import ROOT, copy_project, run, write_yaml

from dir_nb.compendium.label_norms import norm_table
from dir_nb.conf import load_conf, read_yaml, set_path
from dir_nb.run import run_config
from dir_nb.compendium.search import draw_settings, named_settings, searched_entry, varied_config
from dir_nb.compendium.study import BY_COUNTS, read_study, run_both_rules, run_norms, run_study, study_differences, study_plan, study_settings


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = copy_project(tmp_path_factory.mktemp("study") / "p", ["abalone_dir"], ["l1"], [0], epochs=2)
    same = {"variants": {"l1": {"method": "l1"}, "decayed": {"method": "l1", "set": {"train.weight_decay": 5.0}}}, "datasets": ["abalone_dir"]}
    write_yaml(root / "conf/studies/same.yaml", same)
    write_yaml(root / "conf/studies/features.yaml", {"kind": "table2", "variants": {"l1": {"method": "l1"}}, "datasets": ["abalone_dir"]})
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
    """A study of data that is not here is left out, neither run nor recorded as made anew."""
    kept = project / "results/studies/faces.csv"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("not to be touched")
    told = run(project, "dir-nb", "study", "faces").stdout
    assert "faces: left as it is" in told and "faces_dir" in told
    assert kept.read_text() == "not to be touched" and not kept.with_suffix(".json").exists()
    with pytest.raises(ValueError, match="faces_dir"): run_study("faces", project)


@pytest.mark.parametrize("folder", sorted((ROOT / "results/search").glob("round_*")), ids=lambda p: p.name)
def test_search_is_what_its_record_says(folder):
    """Every recorded setting follows from the recorded space and the round's seed; the first is the entry; all data sets and seeds were run."""
    spaces, entries = (json.loads((folder / f"{name}.json").read_text()) for name in ("spaces", "entries"))
    files = sorted(folder.glob("*.csv"))
    assert {f.stem for f in files} == set(spaces) and set(spaces) <= set(entries)
    for f in files:
        table, plan = pd.read_csv(f), spaces[f.stem]
        drawn = draw_settings(plan["space"] or {}, plan["draws"], plan["round"] if plan["round"] > 1 else 0)
        assert [json.loads(s) for s in table.groupby("draw").setting.first()] == drawn, f.stem
        assert set(zip(table.dataset, table.seed)) == {(d, s) for d, h in plan["datasets"].items() for s in h["seeds"]}
        assert len(table) == len(drawn) * sum(len(h["seeds"]) for h in plan["datasets"].values())


def without(entry, defaults):
    """An entry's parts, or regressor, and training, less what its classes do by themselves."""
    parts = json.loads(json.dumps(named_settings(entry)))
    for path, value in defaults.items():
        *folders, last = path.split(".")
        at = parts
        for name in folders:
            at = at[name]
        if at.get(last) == value:
            del at[last]
    return parts, {k: v for k, v in entry.get("train", {}).items() if (k, v) != ("lr_factor", 1.0)}


HISTORY = read_yaml(ROOT / "results/search/history.yaml")


def as_searched(methods):
    """The entries without what the history says was changed since, which is what they hold now."""
    methods = json.loads(json.dumps(methods))
    for method, changes in HISTORY["since"].items():
        for path, change in changes.items():
            now = json.loads(json.dumps(methods[method]))
            set_path(now, path, change["now"])
            assert now == methods[method] and change["why"], (method, path)
            set_path(methods[method], path, change["searched"])
    return methods


@pytest.mark.parametrize("step", HISTORY["steps"], ids=lambda s: "rounds " + ", ".join(map(str, s["rounds"])))
def test_entries_are_what_the_search_chose(step):
    """The rule of `searched_entry`, applied to recorded rounds, leads to the entries that the history names."""
    conf, folder = load_conf(ROOT), ROOT / "results/search"
    recorded = lambda n: json.loads((folder / f"round_{n}/entries.json").read_text())
    after = as_searched(conf["methods"]) | (recorded(step["led_to"]) if step["led_to"] != "conf" else {})
    changed = []
    for method, entry in recorded(step["rounds"][0]).items():
        tables = [pd.read_csv(f) for n in step["rounds"] if (f := folder / f"round_{n}/{method}.csv").is_file()]
        if not tables or method in HISTORY["taken_from"]:
            continue
        defaults = HISTORY["defaults"].get(method, {})
        found = searched_entry(entry, tables, conf["search"]["metric"])
        if without(found, defaults) != without(entry, defaults):
            changed.append(method)
        assert without(found, defaults) == without(after[method], defaults), method
    assert changed == step["changed"]


def test_history_is_complete():
    """Every recorded round is a step of the history, or under way, and those that take another's settings do so by their files."""
    rounds = {int(p.name.removeprefix("round_")) for p in (ROOT / "results/search").glob("round_*")}
    assert {n for step in HISTORY["steps"] for n in step["rounds"]} == rounds - set(HISTORY["under_way"])
    for n in HISTORY["under_way"]: assert n == load_conf(ROOT)["search"]["round"]
    for method, base in HISTORY["taken_from"].items():
        assert read_yaml(ROOT / f"conf/methods/{method}.yaml")["base"] == base


@pytest.mark.parametrize("study", ["norm_over", "norm_ablation_real", "ablations", "protocols"])
def test_variants_take_the_recipe_of_their_data(study):
    """What a run gets is what the study's record says, also for classes that only the variant names."""
    conf, recorded = load_conf(ROOT), study_settings(study, ROOT)
    variants, datasets, _ = study_plan(study, ROOT)
    for d in datasets:
        for name, v in variants.items():
            config = varied_config(conf, d, v["method"], 0, v["set"])
            assert config["recipe"] == recorded["datasets"][d]["recipes"].get(name, {}), (d, name)
            assert named_settings(config["entry"]) == named_settings(recorded["variants"][name])
    if study == "norm_over":
        assert varied_config(conf, "abalone_dir", "frob_fds", 0, variants["fds_ours"]["set"])["recipe"]["BinWeights"] == {"clip": [5, 1000]}


def test_both_rules(project):
    """By training counts, where the data set's own regions are by counts: the same numbers twice, and those that a run has."""
    config = run_config(load_conf(project), "abalone_dir", "l1", 0)
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
import shutil
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
    study = run_norms(run_config(load_conf(project), "abalone_dir", "l1", 0), project)
    study = {int(b): study[b] for b in sorted(study, key=int)}
    assert list(study) == table.index.tolist() and [v["n"] for v in study.values()] == table.train_count.tolist()
    for k in ("norm", "norm_std", "train_mae", "test_mae"):
        np.testing.assert_allclose([np.nan if v[k] is None else v[k] for v in study.values()], table[k], rtol=1e-4)


def test_older_studies_are_marked(tmp_path):
    """A changed entry is said in the caption of every figure of a study that varies it, and of no other."""
    from dir_nb.compendium.pipeline import artefacts, older_note

    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    for path in (ROOT / "results/studies").glob("*.json"):
        (tmp_path / "results/studies").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "results/studies")
    varied = {a.stem: a.studies for a in artefacts(ROOT) if a.studies}
    assert not any(older_note(s, tmp_path) for s in varied.values())
    path = tmp_path / "conf/methods/risda_r.yaml"
    path.write_text(path.read_text().replace("alpha: 0.5", "alpha: 0.6"))
    assert "variant 'risda' has changed" in older_note(varied["fig_strategies"], tmp_path)
    assert older_note(varied["fig_norm_weights"], tmp_path) == ""
    # a page says the same in every checkout, whatever data lies beside it
    (tmp_path / "prepared/abalone_dir").mkdir(parents=True)
    (tmp_path / "prepared/abalone_dir/targets.npy").write_bytes(b"other")
    assert any("abalone_dir" in x for x in study_differences("norm_weights", tmp_path))
    assert older_note(varied["fig_norm_weights"], tmp_path) == ""
