"""The command line answers, and errors are one line with a remedy."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from project import copy_project, run

ROOT = Path(__file__).resolve().parents[1]


def call(*args, cwd=ROOT):
    env = os.environ | {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    env.pop("DIR_NB_ROOT", None)
    return subprocess.run([Path(sys.executable).parent / "dir-nb", *args], capture_output=True, text=True, cwd=cwd, env=env)


@pytest.mark.parametrize("args", [["--help"], ["data", "--help"], ["data", "add", "--help"], ["train", "--help"]])
def test_help(args):
    assert "Usage" in call(*args).stdout


def test_list_names_everything():
    out = call("list").stdout
    assert "abalone_dir" in out and "lds_fds" in out


def test_artefacts_are_listed():
    out = call("artefacts").stdout
    assert "fig_label_density" in out and "table_abalone_dir" in out


@pytest.mark.parametrize(
    "args, says",
    [
        (["train", "abalone_dri", "l1"], "did you mean 'abalone_dir'"),
        (["train", "abalone_dir", "irada"], "did you mean 'irda'"),
        (["evaluate", "abalone_dir", "huber_missing"], "no finished run"),
        (["notebook", "nbs/experiments/train.ipynb", "datset=x"], "has no parameters ['datset']"),
        (["notebook", "nbs/experiments/train.ipynb", "x"], "name=value"),
    ],
)
def test_errors_are_one_line(args, says):
    done = call(*args)
    assert done.returncode == 1
    assert says in done.stderr and "Traceback" not in done.stderr


def test_outside_a_project(tmp_path):
    done = call("list", cwd=tmp_path)
    assert done.returncode == 1 and "no folder conf/" in done.stderr


def test_own_data_from_nothing(tmp_path):
    """The two lines for one's own data, in a project without any: a CSV becomes a row of results."""
    pytest.importorskip("dvc")
    folder, project = tmp_path / "own", copy_project(tmp_path / "project", [], ["lds"], [0])
    folder.mkdir()
    (folder / "own.csv").write_text("target,a,b\n" + "".join(f"{min(400 // (i + 20), 19)},{i / 9:.3f},{i * i % 7}\n" for i in range(400)))
    settings = dict(title="Own", units="kg", modality="tabular", manifest="own.csv", bins=dict(low=0, high=20, width=1, value="left"),
                    shots=dict(many=40, few=8), split=dict(cap=5, seeds=1), train=dict(epochs=1, batch_size=64, lr=1e-3))
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings))
    said = lambda *args: " ".join(run(project, "dir-nb", *args, check=False, NO_COLOR="1", TERM="dumb", COLUMNS="200").stderr.split())
    assert "'own_dir' is not among conf/datasets" in said("train", "own_dir", "lds")
    assert "`dvc pull data.dvc`" in said("train", "abalone_dir", "lds") # an entry whose raw data are not there
    run(project, "dir-nb", "data", "add", "own_dir", folder, "--config", tmp_path / "own.yaml")
    assert "did you mean 'lds'" in said("train", "own_dir", "ldss") and (project / "prepared/own_dir").is_dir()
    shutil.rmtree(project / "prepared") # as in a clone: what is not prepared is prepared first
    shown = run(project, "dir-nb", "train", "own_dir", "lds").stdout
    assert "400 samples" in shown and "lds on own_dir" in shown
    found = yaml.safe_load((project / "runs/own_dir/lds/s0/metrics.json").read_text())
    assert found["all"]["n"] == 40 # five of each bin that has 15, a third of the others
