"""Two processes that share an epoch learn what one learns, statistics of methods included."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def _run(n):
    script = Path(__file__).with_name("train_two_processes.py")
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", script, str(n)], capture_output=True, text=True, timeout=180, env=env)
    rows = sorted(re.findall(r"RANK (\d) ([-.\d]+) ([-.\d]+) (\d+)", done.stdout))  # two processes may print on one line
    assert len(rows) == n, done.stdout + done.stderr
    return [[float(v) for v in row[1:]] for row in rows]


@pytest.mark.slow
def test_two_processes_equal_one():
    one, two = _run(1), _run(2)
    assert two[0] == two[1]
    assert two[0] == pytest.approx(one[0], rel=1e-4)
