"""DenseWeight against numbers from public code that nobody here wrote (tests/reference).

Intended differences: the public code scales the density from its smallest value on a grid, here from zero, which tells where alpha is not 1; its own
weights are off by as much as the file says, for want of interpolation; and the peak of its coarse grid (256 points, .26 of a bandwidth apart) is a
little too low.
"""
import json
from pathlib import Path

import pytest
import torch

from dir_nb.weighting.dense import DenseWeight, dense_weights, silverman

DENSE = json.loads((Path(__file__).parent / "reference" / "dense_weight.json").read_text())
EXACT = {"alpha_1": 2e-6, "alpha_0.5": 5e-5, "alpha_2": 1e-3, "alpha_0": 1e-12, "alpha_1_bandwidth_0.7_grid_256": 1e-2}  # of the largest weight


def _double(x):
    return torch.tensor(x, dtype=torch.float64)


def _case(name):
    x, setting = DENSE["inputs"][name], DENSE["settings"][name]
    x = DENSE["inputs"][x.get("same_as", name)]
    return _double(x["y"]), _double(x["query"]), setting["alpha"], setting["bandwidth"], DENSE["outputs"][name]


@pytest.mark.parametrize("name", DENSE["outputs"])
def test_dense_weights(name):
    y, query, alpha, bandwidth, want = _case(name)
    ours, exact = dense_weights(y, y, alpha, bandwidth), _double(want["formula_exact_kde"])
    assert float((ours - exact).abs().max()) <= EXACT[name] * float(exact.max())
    off = want["max_abs_difference_reference_to_exact"] + EXACT[name] * float(exact.max())
    torch.testing.assert_close(ours, _double(want["weights"]), rtol=0, atol=off)
    torch.testing.assert_close(dense_weights(y, query, alpha, bandwidth), _double(want["weights_of_query"]), rtol=0, atol=off)
    if bandwidth is None: assert silverman(y) == pytest.approx(want["bandwidth_used"], rel=1e-6)


def test_the_part_interpolates():
    y, _, alpha, _, want = _case("alpha_1")
    torch.testing.assert_close(DenseWeight(y, alpha).weigh(None, 0, y).double(), _double(want["formula_exact_kde"]), rtol=0, atol=2e-5)
