"""The command line answers, and errors are one line with a remedy."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert done.returncode == 1 and "params.yaml" in done.stderr
