"""A copy of the project with a small grid, for tests that run the pipeline."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKERS = os.environ.get("DIR_NB_WORKERS", "1")  # few runs: processes of their own would take longer to start than to train
PARTS = ["dir_nb", "nbs", "conf", "dvc.yaml", "data.dvc", ".dvcignore", "settings.ini"]


def copy_project(to, datasets, methods, seeds, epochs=None):
    """The pipeline's files and the raw data of `datasets`, without results; returns the folder."""
    to.mkdir(parents=True)
    for name in PARTS:
        src = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(src, to / name, ignore=ignore) if src.is_dir() else shutil.copy(src, to / name)
    for name in datasets:
        shutil.copytree(ROOT / "data" / name, to / "data" / name)
    (to / "data.dvc").unlink()
    (to / "results").mkdir()
    header = (ROOT / "results/full.csv").read_text().splitlines()[0]
    (to / "results/full.csv").write_text(header + "\n")  # `make full` was never run
    write_yaml(to / "conf/grid.yaml", {"datasets": datasets, "methods": methods, "seeds": seeds})
    if epochs:
        for name in datasets:
            change(to / f"conf/datasets/{name}.yaml", lambda entry: entry["train"].update(epochs=epochs))
    run(to, "git", "init", "-q")
    run(to, sys.executable, "-m", "dvc", "init", "-q")
    run(to, sys.executable, "-m", "dvc", "config", "core.analytics", "false")
    return to


def write_yaml(path, content):
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def change(path, edit):
    """Change the content of a settings file in place."""
    content = yaml.safe_load(path.read_text())
    edit(content)
    write_yaml(path, content)


def run(root, *cmd, check=True, **env):
    """Run a command in the copy, with the copy's own package first on the path."""
    env = os.environ | {"PYTHONPATH": str(root), "DIR_NB_ROOT": str(root), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "DIR_NB_WORKERS": WORKERS} | env
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(list(map(str, cmd)), cwd=root, env=env, capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"{cmd} failed\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done


def repro(root, *targets):
    """`dvc repro`; returns the names of the stages that ran."""
    out = run(root, sys.executable, "-m", "dvc", "repro", *targets).stdout
    return [line.split("'")[1] for line in out.splitlines() if line.startswith("Running stage")]


def metrics(root):
    """{(dataset, method, seed): content of metrics.json}."""
    return {tuple(p.parts[-4:-1]): json.loads(p.read_text()) for p in sorted(root.glob("runs/*/*/s*/metrics.json"))}
