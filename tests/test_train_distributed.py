"""Two processes that share an epoch learn what one learns, statistics of methods included."""
import os
import subprocess
import sys
from pathlib import Path

import pytest


def _run(n):
    script = Path(__file__).with_name("train_two_processes.py")
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", script, str(n)], capture_output=True, text=True, timeout=180, env=env)
    rows = sorted(line.split() for line in (done.stdout + done.stderr).splitlines() if line.startswith("RANK"))
    assert len(rows) == n, done.stdout + done.stderr
    return [[float(v) for v in row[2:]] for row in rows]


@pytest.mark.slow
def test_two_processes_equal_one():
    one, two = _run(1), _run(2)
    assert two[0] == two[1]
    assert two[0] == pytest.approx(one[0], rel=1e-4)
