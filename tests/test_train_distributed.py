"""Two processes that share an epoch learn what one learns, statistics of methods included; no sample is seen twice or left out."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def learned(world, which):
    """Per process: sum of the head's weights, validation error, training loss, what was drawn, samples validated."""
    script = Path(__file__).with_name("train_two_processes.py")
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", script, str(world), which], capture_output=True, text=True, timeout=180, env=env)
    rows = sorted(re.findall(r"RANK (\d)" + r" ([-.\d]+)" * 5, done.stdout))  # two processes may print on one line
    assert len(rows) == world, done.stdout + done.stderr
    return [[float(v) for v in row[1:]] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["l1", "fds", "irda", "pixels"])
def test_two_processes_equal_one(which):
    """Batches of an odd set are unequal, and of images without targets empty: gradients, losses and errors are those of one process."""
    [one], two = learned(1, which), learned(2, which)
    assert two[0][:3] == two[1][:3]
    assert two[0][:3] == pytest.approx(one[:3], abs=2e-4)
    assert two[0][4] + two[1][4] == one[4]


@pytest.mark.slow
def test_processes_draw_apart():
    """Each process has a random state of its own: they see different class-balanced batches."""
    two = learned(2, "draws")
    assert two[0][3] != two[1][3] and min(two[0][3], two[1][3]) > 0


@pytest.mark.slow
def test_one_diverging_process_stops_both():
    """A loss that is NaN in one process is an error in both, and not a wait without end."""
    assert learned(2, "nan") == [[-1.0] * 5] * 2
