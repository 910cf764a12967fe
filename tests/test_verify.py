"""What stands here against what is published: in a small git repository, with the right verdict for each kind of change."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dir_nb.compendium.published import changed_files, publish, restore
from dir_nb.compendium.verify import sentence, verify, whole_verdict

SUMMARY = """dataset,method,region,metric,mean,half_width,seeds,n_min,n_max,diff,diff_half_width,diff_seeds
toy_dir,l1,all,mae,2.5,0.1,5,10,10,0.0,0.0,5
toy_dir,irda,all,mae,2.1,0.1,5,10,10,-0.4,0.05,5
toy_dir,irda,few,mae,,,0,0,0,,,0
"""
CLAIMS = """number,place,claim,test,verdict,measured,percent,low,high
1,Sec. 4,errors fall,irda against l1,holds,-16 %,-16.0,-18.0,-14.0
2,Sec. 5,noise can be learnt,learnt against fixed,undecided,-1 %,-1.0,-4.0,2.0
"""
FIGURE = "dataset,title,method,epoch,norm,norm_half,p\ntoy_dir,Toy,irda,1,0.5,0.1,0.04\ntoy_dir,Toy,irda,2,0.7,0.1,0.03\n"
STUDY = "study,method,dataset,seed,region,n,mae\n" + "".join(f"tiny,l1,toy_dir,{s},all,10,{v}\n" for s, v in enumerate((2.0, 2.2, 2.4)))
FILES = {
    "results/summary.csv": SUMMARY, "results/runs.csv": "dataset,value\ntoy_dir,2.5\n", "results/studies/tiny.csv": STUDY,
    "metrics/toy_dir/irda.json": json.dumps({"all": {"mae": 2.1}}), "figures/fig_norm.csv": FIGURE, "figures/fig_norm.png": "image",
    "figures/table_claims.csv": CLAIMS, "figures/table_claims.md": "| claims |", "README.md": "# Toy\n", "dvc.lock": "schema: '2.0'\n",
    "dvc.yaml": "stages: {}\n", "code.py": "x = 1\n", ".gitignore": "/scratch/\n",
}


def git(root, *args):
    done = subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", *args], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "p"
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Results")
    return root


def edit(root, path, old, new):
    text = (root / path).read_text()
    assert text.count(old) == 1
    (root / path).write_text(text.replace(old, new))


def status(found, kind, name):
    row = found[(found.kind == kind) & (found.name == name)]
    assert len(row) == 1
    return row.status.item()


def test_as_published(project):
    found = verify(project)
    assert set(found.status) == {"identical"}
    assert found.kind.value_counts().to_dict() == {"mean": 3, "difference": 3, "metric": 1, "claim": 2, "figure": 2, "study": 1, "file": 3}
    assert sentence(found) == "all 3 numbers identical to the published ones"


@pytest.mark.parametrize(
    "mean, is_now, whole",
    [("2.100000000001", "within", "within"), ("2.19", "within", "within"), ("2.21", "outside", "differs"), ("1.99", "outside", "differs"), ("", "outside", "differs")],
)
def test_a_number_moved(project, mean, is_now, whole):
    edit(project, "results/summary.csv", "irda,all,mae,2.1,", f"irda,all,mae,{mean},")
    found = verify(project)
    assert status(found, "mean", "toy_dir irda all mae") == is_now
    assert status(found, "mean", "toy_dir l1 all mae") == "identical"
    assert whole_verdict(found) == whole
    said = "all within their intervals" if whole == "within" else "1 of them out of their intervals"
    assert sentence(found).startswith(f"1 of 3 means moved, {said}; no verdict of a claim changes; ")


def test_a_difference_has_its_own_interval(project):
    edit(project, "results/summary.csv", ",-0.4,", ",-0.34,")  # the mean's is 0.1, the paired difference's 0.05
    found = verify(project)
    assert status(found, "difference", "toy_dir irda all mae") == "outside"
    assert "outside their intervals: 1 of 3 differences to vanilla (toy_dir irda all mae)" in sentence(found)


def test_a_new_method_moves_no_other(project):
    edit(project, "results/summary.csv", "toy_dir,irda,all", "toy_dir,bmc,all,mae,2.2,0.1,5,10,10,-0.3,0.1,5\ntoy_dir,irda,all")
    found = verify(project)
    assert status(found, "mean", "toy_dir bmc all mae") == "new"
    assert whole_verdict(found) == "within"
    edit(project, "results/summary.csv", "toy_dir,l1,all,mae,2.5,0.1,5,10,10,0.0,0.0,5\n", "")
    found = verify(project)
    assert status(found, "mean", "toy_dir l1 all mae") == "gone"
    assert whole_verdict(found) == "differs"


@pytest.mark.parametrize("value, is_now", [("2.15", "within"), ("2.35", "outside")])
def test_metrics_are_judged_by_the_summary(project, value, is_now):
    edit(project, "metrics/toy_dir/irda.json", "2.1", value)
    assert status(verify(project), "metric", "toy_dir irda all mae") == is_now


def test_a_verdict_turned(project):
    edit(project, "figures/table_claims.csv", "irda against l1,holds", "irda against l1,undecided")
    edit(project, "figures/table_claims.csv", "1,Sec. 4", "7,Sec. 4")  # a claim's number is not its name
    found = verify(project)
    assert status(found, "claim", "Sec. 4 errors fall irda against l1") == "turned"
    assert status(found, "claim", "Sec. 5 noise can be learnt learnt against fixed") == "identical"
    assert whole_verdict(found) == "differs"
    assert "1 of 2 verdicts of claims change (Sec. 4 errors fall irda against l1: holds -> undecided)" in sentence(found)


@pytest.mark.parametrize(
    "path, old, new, is_now, whole",
    [
        ("fig_norm.png", "image", "other font", "redrawn", "within"),
        ("fig_norm.csv", ",0.7,", ",0.79,", "within", "within"),
        ("fig_norm.csv", ",0.03", ",0.02", "moved", "within"),  # a p-value has no interval
        ("fig_norm.csv", ",Toy,irda,2", ",New title,irda,2", "moved", "within"),
        ("fig_norm.csv", ",0.7,", ",0.81,", "differs", "differs"),
    ],
)
def test_a_figure_changed(project, path, old, new, is_now, whole):
    edit(project, f"figures/{path}", old, new)
    found = verify(project)
    assert status(found, "figure", "fig_norm") == is_now
    assert whole_verdict(found) == whole


def test_a_figure_missing_and_one_new(project):
    (project / "figures/fig_norm.png").unlink()
    (project / "figures/fig_new.png").write_text("image")
    found = verify(project)
    assert (status(found, "figure", "fig_norm"), status(found, "figure", "fig_new")) == ("missing", "new")
    assert whole_verdict(found) == "differs"
    assert "missing: 1 of 3 figures and tables (fig_norm)" in sentence(found)


@pytest.mark.parametrize("value, is_now", [("2.5", "within"), ("4.4", "differs")])  # the mean is 2.2 +- .497
def test_a_study_run_anew(project, value, is_now):
    edit(project, "results/studies/tiny.csv", ",2.4", f",{value}")
    assert status(verify(project), "study", "tiny") == is_now


def test_single_runs_have_no_interval(project):
    edit(project, "results/runs.csv", "2.5", "9.5")
    found = verify(project)
    assert status(found, "file", "results/runs.csv") == "moved" and whole_verdict(found) == "within"
    (project / "results/summary.csv").unlink()
    assert status(verify(project), "file", "results/summary.csv") == "missing"


def test_a_study_is_older_than_its_seeds(project):
    """With its settings beside it a study is current; with other seeds it is named, and the whole does not differ for it."""
    from dir_nb.compendium.study import study_settings
    from dir_nb.paths import write_json, write_text

    entry = "display: {title: L1}\nparts:\n  loss: {class: dir_nb.losses.pointwise.L1Loss}\n"
    data = "display: {title: Toy, units: u}\nmodality: tabular\nbins: {low: 0, high: 5, width: 1}\nmodel: {name: mlp}\ntrain: {epochs: 1}\n"
    conf = {"grid": "datasets: [toy_dir]\nmethods: [l1]\nseeds: [0, 1, 2]\n", "methods/l1": entry,
            "datasets/toy_dir": data, "studies/tiny": "variants: {l1: {method: l1}}\ndatasets: [toy_dir]\n"}
    for name, text in conf.items():
        write_text(project / f"conf/{name}.yaml", text)
    write_json(project / "results/studies/tiny.json", study_settings("tiny", project))
    assert "older study" not in set(verify(project).kind)
    write_text(project / "conf/grid.yaml", conf["grid"].replace("[0, 1, 2]", "[0, 1]"))
    found = verify(project)
    assert status(found, "older study", "tiny") == "older"
    assert found[found.kind == "older study"].note.item() == "seeds [0, 1, 2], now [0, 1]"
    assert whole_verdict(found) == "within"


def disturb(root):
    edit(root, "results/summary.csv", "2.1,0.1", "2.15,0.1")
    edit(root, "README.md", "Toy", "Other")
    edit(root, "dvc.lock", "2.0", "2.1")
    (root / "figures/fig_norm.png").unlink()
    (root / "metrics/toy_dir/new.json").write_text("{}")
    (root / "CONTENTS.md").write_text("new\n")
    return {"results/summary.csv": "changed", "README.md": "changed", "dvc.lock": "changed", "figures/fig_norm.png": "missing",
            "metrics/toy_dir/new.json": "new", "CONTENTS.md": "new"}


@pytest.mark.parametrize("staged", [False, True])
def test_restore_leaves_a_clean_checkout(project, staged):
    want = disturb(project)
    if staged:
        git(project, "add", "-A")
    assert restore(project) == want
    assert git(project, "status", "--porcelain") == ""
    for path, text in FILES.items():
        assert (project / path).read_text() == text
    kept = project / "scratch/restored"
    assert "2.15,0.1" in (kept / "results/summary.csv").read_text() and (kept / "CONTENTS.md").read_text() == "new\n"


def test_restore_loses_no_work(project):
    disturb(project)
    edit(project, "code.py", "1", "2")
    (project / "notes.txt").write_text("mine")
    restore(project)
    assert git(project, "status", "--porcelain") == " M code.py\n?? notes.txt\n"
    assert (project / "code.py").read_text() == "x = 2\n"


def test_publish_stages_results_only(project):
    want = disturb(project)
    edit(project, "code.py", "1", "2")
    (project / "notes.txt").write_text("mine")
    assert publish(project) == want
    assert set(git(project, "diff", "--cached", "--name-only").split()) == set(want)
    assert git(project, "log", "--oneline").count("\n") == 1  # nothing is committed
    git(project, "commit", "-q", "-m", "Anew")
    assert set(verify(project).status) == {"identical"}
    assert changed_files(project) == {} and publish(project) == {}


def cli(root, *args, **env):
    env = os.environ | {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200", "DIR_NB_ROOT": str(root)} | env
    return subprocess.run([sys.executable, "-c", "from dir_nb.cli import main; main()", *args], capture_output=True, text=True, cwd=root, env=env)


def test_commands(project):
    done = cli(project, "verify", "--short")
    assert (done.returncode, done.stdout) == (0, "all 3 numbers identical to the published ones\n")
    edit(project, "dvc.lock", "2.0", "2.1")  # holds no number
    assert cli(project, "verify", "--short").stdout == done.stdout
    edit(project, "dvc.lock", "2.1", "2.0")
    edit(project, "results/summary.csv", "2.1,0.1", "2.15,0.1")
    done = cli(project, "verify", "--short")
    assert done.returncode == 0
    assert done.stdout == ("1 of 3 means moved, all within their intervals; no verdict of a claim changes; "
                           "`dir-nb restore` puts the published ones back, `dir-nb publish` takes these\n")
    edit(project, "results/summary.csv", "2.15,0.1", "2.45,0.1")
    done = cli(project, "verify", "--markdown")
    assert done.returncode == 1
    assert "| means over seeds | toy_dir irda all mae | outside | 2.1 [2, 2.2] -> 2.45 |" in done.stdout
    assert cli(project, "publish").stdout == "1 file (1 of results) staged; `git commit` publishes\n"
    assert "1 file (1 of results) put back" in cli(project, "restore").stdout
    assert git(project, "status", "--porcelain") == ""
    assert cli(project, "restore").stdout == "nothing to put back: all is as published\n"


def test_without_git_or_a_checkout(project, tmp_path):
    done = cli(project, "verify", PATH=str(tmp_path))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "git keeps what is published, and is not here" in done.stderr
    (tmp_path / "bare").mkdir()
    for command in ("verify", "restore", "publish"):
        done = cli(tmp_path / "bare", command)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "work in a git clone" in done.stderr.replace("\n", " ")
    git(tmp_path / "bare", "init", "-q")
    assert "work in a git clone" in cli(tmp_path / "bare", "verify").stderr.replace("\n", " ")


def test_in_a_folder_of_a_larger_repository(project, tmp_path):
    """Paths are the project's, wherever the repository begins."""
    git(tmp_path, "init", "-q", "larger")
    inner = tmp_path / "larger/inner"
    subprocess.run(["cp", "-r", project, inner], check=True)
    subprocess.run(["rm", "-rf", inner / ".git"], check=True)
    git(tmp_path / "larger", "add", "-A")
    git(tmp_path / "larger", "commit", "-q", "-m", "All")
    want = disturb(inner)
    assert changed_files(inner) == want
    assert status(verify(inner), "mean", "toy_dir irda all mae") == "within"
    assert restore(inner) == want
    assert git(inner, "status", "--porcelain") == ""
    assert Path(inner / "scratch/restored/README.md").is_file()
