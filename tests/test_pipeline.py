"""The pipeline on a tiny grid: what re-runs when something is touched, and that a killed run ends as if it had not been."""
import copy
import json
import os
import signal
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from project import ROOT, change, copy_project, metrics, repro, run

from dir_nb.compendium.benchmarks import BENCHMARKS
from dir_nb.compendium.pipeline import artefacts, notebook_parameters, pipeline_files, stage_shares, stages, write_sources
from dir_nb.compendium.study import lacking_data, read_study, study_differences, study_variants
from dir_nb.conf import load_conf, read_yaml, set_path
from dir_nb.provenance import import_closure
from dir_nb.run import run_config, run_key, run_modules

CONF = load_conf(ROOT)


def test_every_artefact_is_declared():
    """No file in figures/ that no stage makes; every declared one is described."""
    declared = {f for a in artefacts(ROOT) for f in a.files}
    found = {p.relative_to(ROOT).as_posix() for p in (ROOT / "figures").iterdir() if p.is_file() and not p.name.startswith(".")}
    assert not found - declared, f"declare these in dvc.yaml: {sorted(found - declared)}"
    assert all(a.desc.endswith(".") for a in artefacts(ROOT))


@pytest.mark.parametrize("stage", [s for s in stages(ROOT) if s.notebook], ids=lambda s: s.name)
def test_stage_lists_its_code(stage):
    """A stage depends on the digests of its notebook's code, and the command gives only parameters there are."""
    assert f"sources/{Path(stage.notebook).stem}.json" in stage.spec["deps"]
    assert not stage.given or stage.given.keys() <= notebook_parameters(ROOT / stage.notebook).keys()


def test_dvc_reads_the_same_stages():
    """`stages` fills in each dvc.yaml as DVC does."""
    files = [file.relative_to(ROOT) for file in pipeline_files(ROOT)]
    listed = subprocess.run([sys.executable, "-m", "dvc", "stage", "list", "--name-only", *files], cwd=ROOT, capture_output=True, text=True)
    assert sorted(listed.stdout.split()) == sorted(s.name for s in stages(ROOT)), listed.stderr


@pytest.mark.parametrize("lock", ["dvc.lock", "benchmarks/dvc.lock"])
def test_no_stage_of_dvc_lock_is_gone(lock):
    """DVC keeps the entry of a stage for ever, and reads and writes all of dvc.lock after every stage."""
    at = "" if lock == "dvc.lock" else lock.replace(".lock", ".yaml:")
    gone = {at + name for name in read_yaml(ROOT / lock)["stages"]} - {s.name for s in stages(ROOT)}
    assert not gone, f"take these entries out of {lock}: {sorted(gone)}"


def test_the_papers_benchmarks_are_not_in_the_default_run():
    """`dvc repro` runs dvc.yaml and whatever makes what that reads, a folder's content included: nothing of another file."""
    top, apart = [[s for s in stages(ROOT) if (":" in s.name) == other] for other in (False, True)]
    made = {out for s in apart for out in s.outs}
    assert {s.given["dataset"] for s in apart} == set(BENCHMARKS) and len(made) == 4 * len(BENCHMARKS)
    read = {d for s in top for d in s.spec.get("deps", [])}
    pulled = {d for d in read for out in made if f"{out}/".startswith(f"{d}/")}
    assert not pulled, f"these hold what benchmarks/dvc.yaml makes: {sorted(pulled)}"


def test_lock_is_complete():
    """The lock is installed without looking for dependencies: it has to hold all of them."""
    found = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_what_shows_titles_depends_on_them():
    """Reports depend on sources/display.json, and no stage that computes does."""
    for stage in stages(ROOT):
        if stage.notebook: assert ("sources/display.json" in stage.spec["deps"]) == stage.notebook.startswith("nbs/reports/"), stage.name


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Settings of the project in a folder of their own, and a function that gives the files of `sources/` that an edit changes."""
    root = tmp_path_factory.mktemp("sources")
    for name in ("conf", "nbs"): shutil.copytree(ROOT / name, root / name)
    shutil.copy(ROOT / "dvc.yaml", root)
    def written():
        write_sources(root)
        return {p.stem: p.read_text() for p in (root / "sources").iterdir()}
    def changed(path, edit):
        before, text = written(), (root / path).read_text()
        change(root / path, edit)
        after = written()
        (root / path).write_text(text)
        return {k for k in before if before[k] != after[k]}
    return changed


@pytest.mark.parametrize("path, edit, touched", [
    ("conf/methods/irda.yaml", lambda e: e["display"].update(title="Other"), {"display"}),
    ("conf/display.yaml", lambda e: e["methods"]["irda"].update(colour="#123456"), {"display"}),
    ("conf/datasets/abalone_dir.yaml", lambda e: e["display"].update(title="Other"), {"display", "prepare"}),  # its report names it
    ("conf/datasets/abalone_dir.yaml", lambda e: e["train"].update(epochs=3), {"train", "full"}),
    ("conf/datasets/abalone_dir.yaml", lambda e: e["split"].update(cap=29), {"prepare"}),
    ("conf/methods/irda.yaml", lambda e: e["train"].update(lr_factor=9.0), {"train", "full"}),
    ("conf/methods/frob_lds.yaml", lambda e: e.update(train={"lr_factor": 9.0}), {"full"}),  # not in the grid
    ("conf/studies/strategies.yaml", lambda e: e["variants"].popitem(), set()),
    ("conf/grid.yaml", lambda e: e["seeds"].append(9), {"train", "collect"}),
    ("conf/full.yaml", lambda e: e["seeds"].append(9), {"full"}),  # tables say that rows are older
], ids=lambda x: x if isinstance(x, str) else None)
def test_what_an_edit_of_the_settings_touches(sources, path, edit, touched):
    assert sources(path, edit) == touched


def test_a_run_is_what_shapes_it():
    """Titles, colours and other methods are no part of a run's key; its own settings, its data set's and its code are."""
    key = lambda conf: run_key(run_config(conf, "abalone_dir", "fds", 0), ROOT)
    first = key(CONF)
    def edited(edit):
        conf = copy.deepcopy(CONF)
        edit(conf)
        return key(conf) != first
    assert not edited(lambda c: c["methods"]["fds"]["display"].update(title="x"))
    assert not edited(lambda c: c["datasets"]["abalone_dir"]["display"].update(title="x", units="y"))
    assert not edited(lambda c: set_path(c["methods"]["lds"], "weights.scheme", "sqrt_inv"))
    assert edited(lambda c: set_path(c["methods"]["fds"], "fds.momentum", 0.5))
    assert edited(lambda c: c["datasets"]["abalone_dir"]["train"].update(lr=1.0))
    assert edited(lambda c: c["datasets"]["abalone_dir"]["model"].update(dropout=0.5))


def test_studies_are_what_their_settings_say():
    """The numbers in results/ are of the variants that conf/ has; the variant `printed` is the letter."""
    for name, study in CONF["studies"].items():
        made = read_study(name, ROOT).drop_duplicates("method").set_index("method")
        assert {k: (v.base, json.loads(v.setting)) for k, v in made.iterrows()} == {k: (v["method"], v["told"]) for k, v in study_variants(study).items()}, name


@pytest.mark.parametrize("study", CONF["studies"])
def test_no_study_is_older_than_its_settings(study):
    """Entries, seeds, numerics, and data where it is here."""
    assert study_differences(study, ROOT) == []
    if lacking := lacking_data(study, ROOT): pytest.skip(f"all but the data of {', '.join(lacking)}, which is not here, is as it was")


@pytest.mark.parametrize("method", ["l1", "lds_fds", "gai", "irda", "irda_rank", "frob_ours", "smogn", "hca"])
def test_digests_cover_what_a_run_loads(method):
    """Every module of the package that training really imports is in the run's key."""
    config = run_config(CONF, "abalone_dir", method, 0)
    closure = set(import_closure(run_modules(config)))
    code = f"""
import sys, torch
from dir_nb.run import make_trainer
from types import SimpleNamespace
from dir_nb.bins import BinGrid
grid = BinGrid(0, 10, 1.0); y = torch.rand(2000) * 10
view = SimpleNamespace(grid=grid, counts=grid.counts(y), train=SimpleNamespace(targets=y), target_mean=5., target_std=3., many_shot=100, regions=None,
    input_spec=dict(kind='tabular', n_features=3))
t = make_trainer({config!r}, view)
t.method.end_epoch(0)
print('\\n'.join(m for m in sys.modules if m.startswith('dir_nb.')))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert out.returncode == 0, out.stderr[-3000:]
    packages = {"dir_nb.face", "dir_nb.data", "dir_nb.heads", "dir_nb.losses", "dir_nb.models", "dir_nb.parts", "dir_nb.resampling", "dir_nb.train"}
    assert set(out.stdout.split()) - packages - closure == set()


def test_defaults_of_the_class_are_the_searched_entry():
    """Whoever imports IRDALoss gets what the tables show."""
    import torch

    from dir_nb.bins import BinGrid
    from dir_nb.losses.irda import IRDALoss
    from dir_nb.methods import build

    grid = BinGrid(0, 10, 1.0)
    given = {"grid": grid, "counts": torch.arange(1, 11), "dim": 4, "values": grid.values}
    plain, entry = IRDALoss(grid, given["counts"], 4), build(CONF["methods"]["irda"]["parts"]["loss"], given)
    assert repr(plain) == repr(entry)
    for (name, mine), (_, theirs) in zip(plain.state_dict().items(), entry.state_dict().items(), strict=True):
        assert torch.equal(mine, theirs), name


@pytest.mark.parametrize("method", ["lds", "lds_fds", "frob_ours", "frob", "risda_r"])
def test_settings_of_ages_stay_with_ages(method):
    """On counts of pixels, no clip of 5..1,000 levels the weights, and 100 pixels are not many."""
    import torch

    from dir_nb.bins import BinGrid
    from dir_nb.methods import build_method

    grid, counts = BinGrid(7, 60, 1.0), torch.linspace(124, 10509, 53).long()
    view = SimpleNamespace(grid=grid, counts=counts, train=SimpleNamespace(targets=grid.values), target_std=15.0, many_shot=4000)
    config = run_config(CONF, "motorcycle_dir", method, 0)
    parts = build_method(config["entry"], view, 4, config["recipe"]).parts
    if method.startswith("lds"):
        weight = parts["weights"].weight
        assert len(weight.unique()) == 53
        assert weight.max() / weight.min() > 20  # 8 with the clip
    elif method == "risda_r":
        assert parts["loss"].augmentation.tail.tolist() == (counts < 4000).tolist()
    else:
        assert parts["norms"].line.many == 4000
    if method == "lds_fds":
        assert parts["fds"].clip == (0.2, 5.0)
    assert run_config(CONF, "abalone_dir", "lds", 0)["recipe"] == {"BinWeights": {"clip": [5, 1000]}}


OWN = """
import torch
from dir_nb.losses.pointwise import L1Loss


class Tilted(L1Loss):
    "Errors below the target count `more` times."
    def __init__(self, more: float = 1.0):
        super().__init__()
        self.more = more

    def forward(self, pred, target, weight=None, feat=None, head=None):
        off = pred.reshape(-1) - target.reshape(-1)
        return torch.where(off < 0, self.more * off.abs(), off.abs()).mean()
"""


@pytest.mark.slow
def test_what_reruns(tmp_path):
    """Nothing after nothing; one method's runs after its settings or its code; no training after a title or a docstring. A method from
    outside the package, one module and one file, stands in the table."""
    root = copy_project(tmp_path / "p", ["abalone_dir"], ["l1", "fds"], [0], epochs=2)
    goal, trained = ("table", "figure@fig_error_by_bin"), "train@abalone_dir"
    keys = lambda: {p.parts[-3]: (p.read_text(), p.stat().st_mtime_ns) for p in root.glob("runs/abalone_dir/*/s0/key.json")}
    assert trained in repro(root, *goal)
    assert repro(root, *goal) == []

    before = keys()
    change(root / "conf/methods/fds.yaml", lambda e: e["parts"]["fds"].update(momentum=0.5))
    again, after = repro(root, "collect"), keys()
    assert trained in again and "prepare@abalone_dir" not in again
    assert after["l1"] == before["l1"] and after["fds"] != before["fds"]

    module = root / "dir_nb" / "fds.py"
    module.write_text(module.read_text() + "\n_touched = 1\n")
    again = repro(root, "train")
    assert trained in again and keys()["l1"] == after["l1"] and keys()["fds"] != after["fds"]

    module.write_text(module.read_text() + "\n# a comment changes nothing\n")
    change(root / "conf/methods/fds.yaml", lambda e: e["display"].update(title="Feature smoothing"))
    notebook = root / "nbs" / "reports" / "fig_error_by_bin.ipynb"
    notebook.write_text(notebook.read_text().replace('"cells": [', '"cells": [\n  {"cell_type": "markdown", "id": "new", "metadata": {}, "source": ["."]},', 1))
    again = repro(root, *goal)
    assert "sources" in again and "table@abalone_dir" in again and trained not in again
    assert "Feature smoothing" in (root / "figures/table_abalone_dir.md").read_text()

    (root / "own_losses.py").write_text(OWN)
    (root / "conf/methods/tilted.yaml").write_text("display: {title: Tilted error}\nparts: {loss: {class: own_losses.Tilted, more: 2.0}}\n")
    change(root / "conf/grid.yaml", lambda e: e["methods"].append("tilted"))
    before = keys()
    repro(root, "table")
    assert "Tilted error" in (root / "figures/table_abalone_dir.md").read_text()
    assert {m for m, k in keys().items() if k != before.get(m)} == {"tilted"}
    told = keys()["tilted"]
    (root / "own_losses.py").write_text(OWN.replace("off < 0", "off > 0"))
    change(root / "conf/grid.yaml", lambda e: e["methods"].remove("l1"))
    run(root, sys.executable, "-m", "dvc", "repro", "--force", "-s", trained)
    assert keys()["l1"] == before["l1"] and keys()["tilted"] != told  # an entry that is not in the grid keeps its runs; other code, other run
    change(root / "conf/grid.yaml", lambda e: e["methods"].remove("tilted"))
    (root / "conf/methods/tilted.yaml").unlink()
    run(root, sys.executable, "-m", "dvc", "repro", "--force", "-s", trained)
    assert keys().keys() == {"fds", "l1"}  # runs that no entry leads to are removed


@pytest.mark.slow
@pytest.mark.parametrize("method", ["irda", "irda_rank"])
def test_killed_run_resumes_to_the_bit(tmp_path, method):
    """SIGKILL in mid-training; the second call goes on and ends with the same files as a run that was left alone."""
    whole, killed = (copy_project(tmp_path / n, ["abalone_dir"], [method], [0], epochs=12) for n in ("whole", "killed"))
    train = [Path(sys.executable).parent / "dir-nb", "train", "abalone_dir", method, "--workers", "1"]
    for root in (whole, killed):
        change(root / "conf/datasets/abalone_dir.yaml", lambda entry: entry["train"].update(checkpoint_seconds=0))
        repro(root, "prepare")
    run(whole, *train)
    env = os.environ | {"PYTHONPATH": str(killed), "DIR_NB_ROOT": str(killed), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(list(map(str, train)), cwd=killed, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    checkpoint = killed / "scratch" / "abalone_dir" / method / "s0" / "last.ckpt"
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


@pytest.mark.slow
def test_reports_are_drawn_side_by_side(tmp_path):
    """Each report once, by several `dvc repro` that share one dvc.lock; what waits for a figure is left to the call after; nothing after nothing."""
    (tmp_path / "nbs/reports").mkdir(parents=True)
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = dir_nb\n")
    language = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell("name = ''", metadata={"tags": ["parameters"]}),
             nbformat.v4.new_code_cell("from pathlib import Path; f = Path(f'figures/{name}.csv'); f.parent.mkdir(exist_ok=True); f.open('a').write(name)")]
    nbformat.write(nbformat.v4.new_notebook(metadata=language, cells=cells), tmp_path / "nbs/reports/note.ipynb")
    stage = lambda name, **more: {"cmd": f"dir-nb notebook nbs/reports/note.ipynb name={name}", "outs": [{f"figures/{name}.csv": {"cache": False, "persist": True}}]} | more
    names = [f"n{i}" for i in range(5)]
    told = {n: stage(n) for n in names} | {"last": stage("last", deps=["figures/n0.csv"])}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": told}))
    env = os.environ | {"PYTHONPATH": str(ROOT), "DIR_NB_ROOT": str(tmp_path), "DIR_NB_WORKERS": "3"}
    call = lambda name, *words: subprocess.run([Path(sys.executable).parent / name, *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=400)
    assert call("dvc", "init", "--no-scm").returncode == 0
    assert [sorted(sum(stage_shares("reports", n, tmp_path), [])) for n in (1, 3, 9)] == [names] * 3
    for _ in range(2):
        done = call("dir-nb", "side-by-side", "reports")
        assert done.returncode == 0, done.stderr
        assert {p.stem: p.read_text() for p in tmp_path.glob("figures/*.csv")} == {n: n for n in names}
    assert read_yaml(tmp_path / "dvc.lock")["stages"].keys() == set(names)


@pytest.mark.slow
def test_collection_is_the_same_in_every_process(tmp_path):
    """Tests are dealt to processes by their place: no parameter may come out of a set, whose order is each process's own."""
    call = [sys.executable, "-m", "pytest", "-n0", "--collect-only", "-m", "", str(ROOT / "tests"), "--ignore", str(ROOT / "tests/slice")]
    begun = [subprocess.Popen(call, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": str(k)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for k in (1, 2)]
    first, second = ([line for line in p.communicate()[0].splitlines() if "::" in line] for p in begun)
    assert len(first) > 500 and first == second, [pair for pair in zip(first, second) if pair[0] != pair[1]][:3]
