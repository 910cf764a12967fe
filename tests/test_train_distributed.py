"""Two processes that share an epoch learn what one learns, statistics of methods included; no sample is seen twice or left out."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def learned(world, *which):
    """Method -> per process: sum of the head's weights, validation error, training loss, what was drawn, samples validated."""
    script = Path(__file__).with_name("train_two_processes.py")
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", script, str(world), *which], capture_output=True, text=True, timeout=300, env=env)
    rows = sorted(re.findall(r"RANK (\w+) (\d)" + r" ([-.\d]+)" * 5, done.stdout))  # two processes may print on one line
    assert len(rows) == world * len(which), done.stdout + done.stderr
    return {w: [[float(v) for v in row[2:]] for row in rows if row[0] == w] for w in which}


@pytest.mark.slow
def test_two_processes_equal_one():
    """Batches of an odd set are unequal, and of images without targets empty: gradients, losses and errors are those of one process."""
    names = ("l1", "fds", "irda", "rank", "uvote", "pixels")
    alone, together = learned(1, *names), learned(2, *names)
    for name in names:
        [one], two = alone[name], together[name]
        assert two[0][:3] == two[1][:3], name
        assert two[0][:3] == pytest.approx(one[:3], abs=2e-4), name
        assert two[0][4] + two[1][4] == one[4], name


@pytest.mark.slow
def test_what_each_process_does_alone():
    """Each has a random state of its own, and so class-balanced batches and drawn latents of its own, and one model and one set of statistics with the other; a loss that is NaN in one is an error in both, and not a wait without end."""
    found = learned(2, "draws", "vir", "nan")
    first, second = found["draws"]
    assert first[3] != second[3] and min(first[3], second[3]) > 0
    assert found["vir"][0][1:4] == found["vir"][1][1:4] and found["vir"][0][3] != 0
    assert found["nan"] == [[-1.0] * 5] * 2
