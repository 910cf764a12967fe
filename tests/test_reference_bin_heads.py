"""Heads over bins against numbers from public code that nobody here wrote (tests/reference).

Intended differences, each computed here with the difference and without:
- HL-Gauss, DLDL-v2: targets over bins are in single precision.
- DLDL-v2: the cross-entropy stands for the divergence, which is less by the entropy of the targets; the port's other head is no softmax.
- HCA: classes are pooled by the sum of their shares, with one softmax; the public code takes one for each level, or has the maximum of logits.
"""
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dir_nb.bins import BinGrid
from dir_nb.heads.hca import combine, distillation, hierarchy
from dir_nb.heads.label_distribution import bin_moments, expectation_loss
from dir_nb.heads.mean_variance import mean_variance_loss
from dir_nb.losses.rank import rank_loss
from dir_nb.parts.bin_head import SoftLabels
from dir_nb.parts.decoder import bin_mean

FOLDER = Path(__file__).parent / "reference"
HL_GAUSS, DLDL, MEAN_VARIANCE, HCA = (json.loads((FOLDER / f"{n}.json").read_text()) for n in ("hl_gauss", "dldl_v2", "mean_variance_loss", "hca"))
SINGLE = {"rtol": 1e-6, "atol": 1e-7}


def _double(x):
    return torch.tensor(x, dtype=torch.float64)


def _close(got, want, ref=None, **tolerance):
    tolerance = tolerance or {k: ref["tolerance"][k] for k in ("rtol", "atol")}
    torch.testing.assert_close(got.detach().double(), _double(want), **tolerance)


@pytest.mark.parametrize("name", HL_GAUSS["outputs"])
def test_hl_gauss(name):
    """Targets at the borders and beyond are among them."""
    s, want = HL_GAUSS["settings"][name], HL_GAUSS["outputs"][name]
    u, y = (_double(HL_GAUSS["inputs"][name][k]) for k in ("logits", "target"))
    width = (s["max_value"] - s["min_value"]) / s["num_bins"]
    grid = BinGrid(s["min_value"], s["max_value"], width)
    _close(grid.edges, want["bin_edges"], rtol=1e-9, atol=1e-12)
    labels = SoftLabels(s["sigma"] / width, "histogram").setup(grid)(y, grid.nearest(y))
    _close(labels, want["target_distribution"], **SINGLE)
    u.requires_grad_()
    loss = rank_loss(u, labels)
    loss.backward()
    _close(loss, want["loss"], **SINGLE)
    _close(u.grad, want["grad_logits"], **SINGLE)
    _close(bin_mean(u.softmax(1), grid.values), want["decoded_from_logits"], **SINGLE)
    _close(bin_mean(labels, grid.values), want["decoded_from_target_distribution"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DLDL["outputs"])
def test_dldl_v2(name):
    s, want = DLDL["settings"][name], DLDL["outputs"][name]
    u, y = (_double(DLDL["inputs"][name][k]) for k in ("logits", "age"))
    ages = BinGrid(0, len(s["bins"]), 1, value="left")
    labels = SoftLabels(s["std"]).setup(ages)(y, ages.index(y))
    _close(labels, want["target_distribution"], **SINGLE)
    u.requires_grad_()
    shares = u.softmax(1) if s["head"] == "softmax" else F.normalize(u.sigmoid(), p=1, dim=1)
    _close(shares, want["probabilities"], DLDL)
    logits = shares.log()  # any shares are a softmax of their logarithms
    _close(bin_moments(logits)[0], want["expected_age"], DLDL)
    far = expectation_loss(logits, y)
    _close(far, want["l1_of_expectation"], DLDL)
    double = F.softmax(-((torch.arange(ages.n_bins) - y[:, None]) / s["std"]) ** 2 / 2, 1)
    entropy = -(double * double.clamp_min(1e-300).log()).sum(1).mean()
    total = rank_loss(logits, labels) + far
    total.backward()
    _close(total - entropy, want["total"], rtol=1e-5, atol=1e-6)
    _close(u.grad, want["grad_logits"], **SINGLE)
    exact = rank_loss(logits.detach(), double) - entropy
    _close(exact, want["kl"], DLDL)


@pytest.mark.parametrize("name", MEAN_VARIANCE["outputs"])
def test_mean_variance(name):
    s, want = MEAN_VARIANCE["settings"][name], MEAN_VARIANCE["outputs"][name]
    u, y = (_double(MEAN_VARIANCE["inputs"][name][k]) for k in ("logits", "age"))
    at = y - s["start_age"]
    u.requires_grad_()
    both = mean_variance_loss(u, at, s["lambda_mean"], s["lambda_variance"])
    _close(torch.autograd.grad(both, u, retain_graph=True)[0], want["grad_logits_mean_and_variance"], MEAN_VARIANCE)
    _close(mean_variance_loss(u, at, s["lambda_mean"], 0), want["mean_loss_times_lambda"], MEAN_VARIANCE)
    _close(mean_variance_loss(u, at, 0, s["lambda_variance"]), want["variance_loss_times_lambda"], MEAN_VARIANCE)
    hard = rank_loss(u, F.one_hot(at.long(), u.shape[1]).double())
    _close(hard, want["cross_entropy"], MEAN_VARIANCE)
    _close(both + hard, want["total"], MEAN_VARIANCE)
    _close(torch.autograd.grad(both + hard, u)[0], want["grad_logits_total"], MEAN_VARIANCE)


def hca(name):
    """Logits of the finest level, the coarse ones and the student, counts, and what is wanted."""
    x, heads = HCA["inputs"][name], [_double(h) for h in HCA["inputs"][name]["head_logits"]]
    return _double(x["fine_logits"]), heads, _double(x["adjusted_logits"]), torch.tensor(x["count_per_label"]), HCA["outputs"][name]


@pytest.mark.parametrize("name", HCA["outputs"])
def test_hca_levels(name):
    *_, counts, want = hca(name)
    rows = hierarchy(counts, HCA["settings"][name]["levels"])
    assert len(rows) == len(want["intervals"])
    for row, spans in zip(rows, want["intervals"]):
        assert row.tolist() == [next(k for k, (low, high) in enumerate(spans) if low <= b < high) for b in range(len(counts))]


@pytest.mark.parametrize("how", ["add", "mul"])
@pytest.mark.parametrize("name", HCA["outputs"])
def test_hca_combined(name, how):
    fine, heads, _, counts, want = hca(name)
    rows = hierarchy(counts, len(heads))
    got = combine(fine.softmax(1), [h.softmax(1) for h in heads], rows, how)
    _close(got, want["combine_plain"][how], HCA)
    assert got.argmax(1).tolist() == want["combine_plain"][f"{how}_value"]


@pytest.mark.parametrize("name", HCA["outputs"])
def test_hca_distilled(name):
    fine, heads, student, counts, want = hca(name)
    rows = [*hierarchy(counts, len(heads)), torch.arange(len(counts))]
    got = torch.stack([distillation(student, v, F.one_hot(row)).mean() for v, row in zip([*heads, fine], rows)])
    _close(got, want["formula_sum_single_softmax"]["per_level"], HCA)
    # the finest level, where there is nothing to pool, is that of the public code; a level in between is not
    maxima = want["distill_max_all"]["per_level"]
    assert float(got[-1]) == pytest.approx(maxima[-1], rel=1e-7)
    assert abs(float(got[1]) - maxima[1]) > 1e-3 and abs(float(got[1]) - want["distill_sum_all"]["per_level"][1]) > 1e-3


@pytest.mark.parametrize("name", HCA["outputs"])
def test_hca_pooled_by_maxima(name):
    """What the public code has, and this leaves out: a class is as likely as the likeliest of its bins."""
    fine, heads, student, counts, want = hca(name)
    student.requires_grad_()
    total = []
    for row, teacher in zip([*hierarchy(counts, len(heads)), torch.arange(len(counts))], [*heads, fine]):
        tops = torch.stack([student[:, row == c].amax(1) for c in range(int(row.max()) + 1)], 1)
        total.append(distillation(tops, teacher, torch.eye(tops.shape[1])).mean())  # nothing left to pool
    _close(torch.stack(total), want["distill_max_all"]["per_level"], HCA)
    _close(torch.autograd.grad(sum(total), student)[0], want["distill_max_all"]["grad_of_sum_wrt_adjusted_logits"], HCA)
