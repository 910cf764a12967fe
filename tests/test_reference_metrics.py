"""CCC, bMASE and SERA against numbers from public code that nobody here wrote (tests/reference): torchmetrics 1.9.0, muvis-dir, imbreg 0.1.3, imbalance-metrics 0.0.6.

Intended differences: CCC divides by N as Lin does, where torchmetrics has N - 1 beside a squared difference of means that it leaves as it is; bMASE takes the
bins it is given, where muvis-dir makes them of the test targets; SERA is the integral itself, where both packages add trapezoids.
"""
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dir_nb.bins import BinGrid, ShotRegions
from dir_nb.metrics import DIRMetrics, bmae, bmase, ccc, pearson, sera

FOLDER = Path(__file__).parent / "reference"
CCC, BMASE, SERA = (json.loads((FOLDER / f"{name}.json").read_text()) for name in ("ccc", "bmase", "sera_utility"))


def _double(*values): return [torch.tensor(v, dtype=torch.float64) for v in values]


@pytest.mark.parametrize("case", CCC["inputs"])
def test_ccc(case):
    x, want = CCC["inputs"][case], CCC["outputs"][case]
    p, t = _double(x["prediction"], x["target"])
    n, gap = len(p), float(p.mean() - t.mean()) ** 2
    assert ccc(p, t) == pytest.approx(want["formula_population_variance"], rel=1e-9)
    assert pearson(p, t) == pytest.approx(want["pearson"], rel=1e-9)
    spread = float(p.var() + t.var())
    assert ccc(p, t) * ((n - 1) / n * spread + gap) / (n - 1) * n / (spread + gap) == pytest.approx(want["ccc_torchmetrics"], rel=1e-9)


@pytest.mark.parametrize("case", CCC["inputs"])
def test_ccc_of_batches(case):
    """As torchmetrics does with two updates: sums of parts give the whole."""
    p, t = _double(CCC["inputs"][case]["prediction"], CCC["inputs"][case]["target"])
    at, grid = CCC["outputs"][case]["two_updates_split_at"], BinGrid(0, 200, 10, outside="pool")
    found = DIRMetrics(grid, ShotRegions.by_count([1] * 20)).update(p[:at], t[:at]).update(p[at:], t[at:]).compute()
    assert found["all"]["ccc"] == pytest.approx(CCC["outputs"][case]["formula_population_variance"], rel=1e-9)


@pytest.mark.parametrize("case", BMASE["inputs"])
def test_bmase(case):
    x, want = BMASE["inputs"][case], BMASE["outputs"][case]
    p, t, train = _double(x["prediction"], x["y_test"], x["y_train"])
    edges = want["edges"]
    grid = BinGrid(edges[0], edges[-1], (edges[-1] - edges[0]) / (len(edges) - 1))
    assert grid.index(t).tolist() == want["bin_index"]
    assert float(train.median()) == pytest.approx(want["reference_constant"])
    assert bmae(p, t, grid) == pytest.approx(want["bMAE"], rel=1e-9)
    assert bmase(p, t, grid, train) == pytest.approx(want["bMASE"], rel=1e-9)


@pytest.mark.parametrize("package", ["imbreg", "imbalance_metrics"])
@pytest.mark.parametrize("case", SERA["inputs"])
def test_sera(case, package):
    x, want = SERA["inputs"][case], SERA["outputs"][case][package]
    y, pred, phi = (np.array(v) for v in (x["y"], x["prediction"], want["phi_y"]))
    assert sera(pred, y, phi.clip(0, 1)) == pytest.approx(want["formula_exact_integral"], rel=1e-9)
    assert sera(pred, y, phi.clip(0, 1)) == pytest.approx(want["sera"], rel=0.01)
    at = np.linspace(0, 1, want["thresholds"]["count"])
    area = np.trapezoid([((pred - y)[phi >= u] ** 2).sum() for u in at], at)
    assert area == pytest.approx(want["sera"], rel=2e-3)  # a phi of 1 less a rounding counts as 1 in one package, as less in the other
