"""RankSim, Rank-N-Contrast and ConR against numbers from public code that nobody here wrote (tests/reference).

Intended differences, each computed here with the difference and without:
- RankSim, tied label distances: the public code ranks them by position, here they share the mean of their ranks.
- ConR: the public code adds 1 to the denominator for every sample that is no positive; its depth version has other pushes and another divisor.
"""
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import rankdata

from dir_nb.losses.conr import conr_loss
from dir_nb.losses.rank_n_contrast import contrast, distances, rank_n_contrast_loss
from dir_nb.losses.ranksim import ranksim_loss

FOLDER = Path(__file__).parent / "reference"
RANKSIM, RNC, CONR = (json.loads((FOLDER / f"{name}.json").read_text()) for name in ("ranksim", "rank_n_contrast", "conr"))
TIED = "integer_labels_with_tied_distances_lambda2"


def _double(x):
    return torch.tensor(x, dtype=torch.float64)


def _inputs(ref, name):
    x = ref["inputs"][name]
    return {k: _double(v) for k, v in ref["inputs"][x.get("same_as", name)].items()}


def _close(ref, got, want):
    torch.testing.assert_close(got, _double(want), rtol=ref["tolerance"]["rtol"], atol=ref["tolerance"]["atol"])


@pytest.mark.parametrize("name", [n for n in RANKSIM["outputs"] if n != TIED])
def test_ranksim(name):
    x, want, lam = _inputs(RANKSIM, name), RANKSIM["outputs"][name], RANKSIM["settings"][name]["lambda"]
    feat = x["features"].requires_grad_()
    out = ranksim_loss(feat, x["label"], lam)
    out.backward()
    _close(RANKSIM, out.detach(), want["loss"])
    _close(RANKSIM, feat.grad, want["grad_features"])
    _close(RANKSIM, ranksim_loss(feat, x["label"], lam, reduction="mean").detach(), want["loss_divided_by_number_of_rows"])


def test_ranksim_ties():
    """Ours in any order of the samples, and what SciPy's mean ranks give; the stored value is another, by the order of the samples."""
    x, want = _inputs(RANKSIM, TIED), RANKSIM["outputs"][TIED]
    feat, y, n = x["features"], x["label"], len(x["label"])
    z = F.normalize(feat, dim=1)
    by_label, by_feat = (rankdata(-s.numpy(), method="average", axis=1) / n for s in (-(y[:, None] - y).abs(), z @ z.T))
    out = ranksim_loss(feat, y)
    assert float(out) == pytest.approx(((by_label - by_feat) ** 2).sum() / n, rel=1e-12)
    perm = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    assert float(ranksim_loss(feat[perm], y[perm])) == pytest.approx(float(out), rel=1e-12)
    assert abs(float(out) - want["loss"]) > 1e-3
    # what is not tied agrees: the first row's ranks of features, and of its labels where the distance occurs once
    torch.testing.assert_close(_double(by_feat[0]), _double(want["first_row_feature_rank"]), rtol=1e-6, atol=0)
    far = (y[0] - y).abs()
    once = (far[:, None] == far).sum(1) == 1
    assert once.sum() > 1
    torch.testing.assert_close(_double(by_label[0])[once], _double(want["first_row_label_rank"])[once], rtol=1e-6, atol=0)


def stacked(x):
    """(samples, views, D) as views one after another."""
    return x.transpose(0, 1).flatten(0, 1)


@pytest.mark.parametrize("name", RNC["outputs"])
def test_rank_n_contrast(name):
    x, want, t = _inputs(RNC, name), RNC["outputs"][name], RNC["settings"][name]["t"]
    feat, y = x["features"].requires_grad_(), x["label"]
    if y.dim() == 1:
        out = rank_n_contrast_loss(stacked(feat), y.repeat(2), t)
    else:  # labels of several numbers: any distance will do
        y = y.repeat(2, 1)
        out = contrast(-distances(stacked(feat)) / t, (y[:, None] - y).abs().sum(2))
    out.backward()
    _close(RNC, out.detach(), want["loss"])
    _close(RNC, feat.grad, want["grad_features"])


def slow_conr(feat, y, pred, weight, width, push, t, ones=False, depth=False):
    """The loss by loops; with the public code's ones in the denominator, and in its version for depth."""
    n, total, z = len(y), 0.0, F.normalize(feat, dim=1)
    for j in range(n):
        e = lambda i: (z[j] @ z[i] / t).exp()  # noqa: B023, E731
        pos = [i for i in range(n) if i != j and (y[j] - y[i]).abs() <= width]
        neg = [q for q in range(n) if (y[j] - y[q]).abs() > width and (pred[j] - pred[q]).abs() <= width]
        if not neg: continue
        s = [weight[j] * (push * d if depth else (push * d).exp()) for q in neg for d in [(y[j] - y[q]).abs()]]
        below = sum(map(e, pos)) + sum(a * e(q) for a, q in zip(s, neg)) + (n - len(pos) if ones else 0)
        loss = -sum((e(i) / below).log() for i in pos) / (len(pos) + depth)
        total = total + (loss if depth else weight[j] * loss)
    return total / n


@pytest.mark.parametrize("name", CONR["outputs"])
def test_conr(name):
    x, s, want = _inputs(CONR, name), CONR["settings"][name], CONR["outputs"][name]
    depth, weight = s["version"] == "nyud2", None if s.get("weights") == "1" else x["weight"]
    arguments = s["w"], s["e"], s["temperature"]
    one = torch.ones_like(x["target"]) if weight is None else weight

    feat = x["features"].clone().requires_grad_()
    theirs = slow_conr(feat, x["target"], x["prediction"], one, *arguments, ones=True, depth=depth)
    theirs.backward()
    _close(CONR, theirs.detach(), want["loss_reference"])
    _close(CONR, feat.grad, want["grad_features_reference"])

    feat, other = (x["features"].clone().requires_grad_() for _ in range(2))
    ours = conr_loss(feat, x["target"], x["prediction"], weight, *arguments)
    ours.backward()
    slow = slow_conr(other, x["target"], x["prediction"], one, *arguments)
    slow.backward()
    _close(CONR, ours.detach(), float(slow.detach()))
    torch.testing.assert_close(feat.grad, other.grad, rtol=1e-8, atol=1e-10)
    if depth: return
    assert float(ours.detach()) < want["loss_reference"] - 1e-3
    _close(CONR, ours.detach(), want["formula_without_exp0_terms"]["loss"])
    _close(CONR, feat.grad, want["formula_without_exp0_terms"]["grad_features"])
    positives = ((x["target"][:, None] - x["target"]).abs() <= s["w"]).sum(1) - 1
    assert positives.tolist() == want["positives_per_anchor"]
