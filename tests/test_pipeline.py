"""The pipeline on a tiny grid: what re-runs when something is touched, and that a killed run ends as if it had not been."""
import json
import os
import signal
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import yaml
from project import ROOT, copy_project, metrics, repro, run

from dir_nb.losses.irda import PRINTED
from dir_nb.paths import load_params
from dir_nb.compendium.pipeline import artefacts, notebook_parameters, shown, sources_file, stage_modules, stage_settings, stages
from dir_nb.provenance import import_closure
from dir_nb.compendium.study import read_study, study_variants


def test_every_artefact_is_declared():
    """No file in figures/ that no stage makes; every declared one is described."""
    declared = {f for a in artefacts(ROOT) for f in a.files}
    found = {p.relative_to(ROOT).as_posix() for p in (ROOT / "figures").iterdir() if p.is_file() and not p.name.startswith(".")}
    assert not found - declared, f"declare these in dvc.yaml: {sorted(found - declared)}"
    assert all(a.desc.endswith(".") for a in artefacts(ROOT))


@pytest.mark.parametrize("stage", [s for s in stages(ROOT) if s.notebook], ids=lambda s: s.name)
def test_stage_lists_its_code(stage):
    """A stage depends on its notebook and on the digests of its modules, and the command gives only parameters there are."""
    assert sources_file(stage) in stage.deps
    given = {a.split("=")[0] for a in stage.spec["cmd"].split()[3:]}
    assert not given or given <= notebook_parameters(ROOT / stage.notebook).keys()


def test_lock_is_complete():
    """The lock is installed without looking for dependencies: it has to hold all of them."""
    found = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_what_shows_titles_depends_on_them():
    """Notebooks that name data sets or methods depend on sources/titles.json, which holds no setting that a number depends on."""
    spec = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    seen = 0
    for stage in stages(ROOT):
        if not stage.notebook or not stage.notebook.startswith("nbs/reports/"): continue
        text = (ROOT / stage.notebook).read_text()
        if any(f"{name}(" in text for name in ("dataset_titles", "method_titles", "dataset_entry")):
            assert "sources/titles.json" in spec[stage.name.split("@")[0]]["deps"], stage.name
            seen += 1
    assert seen > 10
    params = load_params(ROOT)
    found = shown(params)
    assert found["datasets"]["abalone_dir"] == {"title": "Abalone-DIR", "units": "rings", "modality": "tabular"}
    assert found["methods"].keys() == params["methods"].keys() and found["methods"]["irda"] == "IRDA"
    params["methods"]["irda"]["loss"]["beta"] = 0.9
    params["datasets"]["abalone_dir"]["train"]["lr"] = 1.0
    assert shown(params) == found


def test_studies_are_what_params_says():
    """Every study is a stage, frozen; its numbers in results/ are of the variants that params.yaml has; the variant `printed` is the letter."""
    params = load_params(ROOT)
    spec = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert spec["study"]["matrix"]["study"] == list(params["studies"]) and spec["study"]["frozen"]
    assert {k.removeprefix("loss."): v for k, v in params["studies"]["ablations"]["variants"]["printed"]["set"].items()} == PRINTED
    for name, study in params["studies"].items():
        made = read_study(name, ROOT).drop_duplicates("method").set_index("method")
        assert {k: (v.base, json.loads(v.setting)) for k, v in made.iterrows()} == {k: (v["method"], v["set"]) for k, v in study_variants(study).items()}, name


def test_study_depends_on_what_it_varies(tmp_path):
    """Settings of a method that a study varies change its digests, those of another method do not."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    params = load_params(ROOT)
    def digests():
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        found = {s.name: stage_settings(s, tmp_path) for s in stages(tmp_path)}
        assert found["train@abalone_dir-l1"] == {}
        return found["study@strategies"]
    before = digests()
    assert set(before) == {f"settings:{d}-{m}" for d in params["grid"]["datasets"] for m in ("irda", "risda_r")}
    params["methods"]["l1"]["train"] = {"lr_factor": 3.0}
    assert digests() == before
    params["methods"]["irda"]["loss"]["beta"] = 0.9
    assert {k for k, v in digests().items() if v != before[k]} == {k for k in before if k.endswith("-irda")}
    params["train"]["seeds"] = [0, 1]
    assert not set(digests().values()) & set(before.values())


@pytest.mark.parametrize("method", ["l1", "lds_fds", "gai", "irda", "frob_ours"])
def test_digests_cover_what_a_run_loads(method):
    """Every module of the package that training really imports is among the stage's digests."""
    stage = next(s for s in stages(ROOT) if s.name.startswith("train@") and s.item["method"] == method)
    closure = set(import_closure(stage_modules(stage, ROOT)))
    code = f"""
import sys, torch
from dir_nb.run import load_params, make_trainer, run_config
from types import SimpleNamespace
from dir_nb.bins import BinGrid, ShotRegions
config = run_config(load_params({str(ROOT)!r}), {stage.item['dataset']!r}, {method!r}, 0)
grid = BinGrid(0, 10, 1.0); y = torch.rand(200) * 10
view = SimpleNamespace(grid=grid, counts=grid.counts(y), train=SimpleNamespace(targets=y), target_mean=5., target_std=3., regions=None,
    input_spec=dict(kind='tabular', n_features=3, vocab_size=50, length=8, channels=3, size=32))
view.input_spec['kind'] = {{'mlp': 'tabular', 'text': 'text', 'resnet': 'image', 'depth': 'dense'}}[config['model']['name']]
t = make_trainer(config, view)
t.method.end_epoch(0)
print('\\n'.join(m for m in sys.modules if m.startswith('dir_nb.')))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert out.returncode == 0, out.stderr[-3000:]
    packages = {"dir_nb.face", "dir_nb.data", "dir_nb.losses", "dir_nb.models", "dir_nb.train", "dir_nb.report"}
    assert set(out.stdout.split()) - packages - closure == set()


def test_control_and_meta_share_irda_settings():
    """irda_b0 is IRDA but for the augmentation, meta_irda is IRDA but for what the network learns."""
    methods = load_params(ROOT)["methods"]
    irda, control, meta = ({k: v for k, v in methods[m].items() if k != "title"} for m in ("irda", "irda_b0", "meta_irda"))
    assert control["loss"]["beta"] == 0 < irda["loss"]["beta"]
    assert irda | {"loss": irda["loss"] | {"beta": 0}} == control | {"loss": control["loss"] | {"beta": 0}}
    assert {k: meta["loss"].get(k) for k in irda["loss"] if k != "name"} == {k: v for k, v in irda["loss"].items() if k != "name"}
    assert irda.get("train") == meta.get("train")


def test_defaults_of_the_class_are_the_searched_entry():
    """Whoever imports IRDALoss gets what the tables show."""
    from inspect import signature

    from dir_nb.losses.irda import IRDALoss
    entry = {k: v for k, v in load_params(ROOT)["methods"]["irda"]["loss"].items() if k != "name"}
    assert entry == {k: signature(IRDALoss).parameters[k].default for k in entry}


@pytest.mark.slow
def test_what_reruns(tmp_path):
    """Nothing after nothing; one method's runs after its settings or its code; no training after a figure's notebook or a docstring."""
    root = copy_project(tmp_path / "p", ["abalone_dir"], ["l1", "fds"], [0], epochs=2)
    goal = ("table", "fig_error_by_bin")
    assert {s for s in repro(root, *goal) if s.startswith("train@")} == {"train@abalone_dir-l1", "train@abalone_dir-fds"}
    assert repro(root, *goal) == []

    params = yaml.safe_load((root / "params.yaml").read_text())
    params["methods"]["fds"]["fds"]["momentum"] = 0.5
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    again = repro(root, "collect")
    assert "train@abalone_dir-fds" in again and "train@abalone_dir-l1" not in again and "prepare@abalone_dir" not in again

    module = root / "dir_nb" / "fds.py"
    module.write_text(module.read_text() + "\n_touched = 1\n")
    again = repro(root, "train")
    assert "train@abalone_dir-fds" in again and "train@abalone_dir-l1" not in again

    module.write_text(module.read_text() + "\n# a comment changes nothing\n")
    assert repro(root, "train") == ["sources"]

    notebook = root / "nbs" / "reports" / "fig_error_by_bin.ipynb"
    notebook.write_text(notebook.read_text().replace('"cells": [', '"cells": [\n  {"cell_type": "markdown", "id": "new", "metadata": {}, "source": ["."]},', 1))
    assert [s for s in repro(root, "fig_error_by_bin") if s.startswith(("train", "prepare"))] == []


@pytest.mark.slow
def test_killed_run_resumes_to_the_bit(tmp_path):
    """SIGKILL in mid-training; the second call goes on and ends with the same files as a run that was left alone."""
    whole, killed = (copy_project(tmp_path / n, ["abalone_dir"], ["irda"], [0], epochs=30) for n in ("whole", "killed"))
    train = [Path(sys.executable).parent / "dir-nb", "train", "abalone_dir", "irda", "--workers", "1"]
    for root in (whole, killed):
        repro(root, "prepare")
    run(whole, *train)
    env = os.environ | {"PYTHONPATH": str(killed), "DIR_NB_ROOT": str(killed), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(list(map(str, train)), cwd=killed, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    checkpoint = killed / "scratch" / "abalone_dir" / "irda" / "s0" / "last.ckpt"
    end = time.time() + 120
    while not checkpoint.exists() and time.time() < end:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.exists() and not (killed / "runs").exists()
    run(killed, *train)
    assert metrics(killed) == metrics(whole)
    for a in sorted(whole.glob("runs/**/*.*")):
        assert a.read_bytes() == (killed / a.relative_to(whole)).read_bytes(), a.name


@pytest.mark.slow
def test_notebooks_start_side_by_side(tmp_path):
    """Kernels of stages that start at one moment have sockets of their own, whatever folder they share."""
    folder = tmp_path / "nbs"
    folder.mkdir()
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = dir_nb\n")
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}, cells=[nbformat.v4.new_code_cell("name = ''", metadata={"tags": ["parameters"]}),
                                               nbformat.v4.new_code_cell("from pathlib import Path; Path(name).write_text(name)")])
    nbformat.write(notebook, folder / "note.ipynb")
    code = "import sys; from dir_nb.compendium.pipeline import run_notebook; run_notebook('nbs/note.ipynb', {'name': sys.argv[1]}, sys.argv[2])"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    names = [f"n{i}" for i in range(4)]
    started = [subprocess.Popen([sys.executable, "-c", code, name, tmp_path], env=env) for name in names]
    assert [p.wait(240) for p in started] == [0] * len(names)
    assert [(tmp_path / name).read_text() for name in names] == names
