"""Runs go side by side in processes of this machine, or on a cluster by joblib's own backends (an extra)."""
import importlib.util
import math
import os
import subprocess
import sys

import pytest

from dir_nb.seeds import in_parallel, joblib_backend

CALLS = [(3, 4), (5, 12), (8, 15)]
WANTED = [(0, 5.0), (1, 13.0), (2, 17.0)]


@pytest.mark.parametrize("workers", [1, 2])
def test_on_this_machine(workers, monkeypatch):
    monkeypatch.delenv("DIR_NB_BACKEND", raising=False)
    assert sorted(in_parallel(math.hypot, CALLS, workers, progress=False)) == WANTED


@pytest.mark.parametrize("name", ["ray", "dask"])
def test_a_missing_backend_names_the_remedy(name, monkeypatch):
    monkeypatch.setenv("DIR_NB_BACKEND", name)
    for module in ("ray", "ray.util", "ray.util.joblib", "dask", "dask.distributed"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"pip install dir-nb\[cluster\]"):
        joblib_backend(2)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install dir-nb[cluster]")
def test_two_ray_workers():
    code = f"""
import math, ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
from dir_nb.seeds import in_parallel
print("found", sorted(in_parallel(math.hypot, {CALLS}, workers=2, progress=False)))
"""
    env = os.environ | {"DIR_NB_BACKEND": "ray"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=env)
    assert f"found {WANTED}" in done.stdout, done.stderr[-2000:]
