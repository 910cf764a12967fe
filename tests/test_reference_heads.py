"""UVOTE and VIR against numbers from public code that nobody here wrote (tests/reference).

Intended differences, each computed here with the difference and without:
- UVOTE: the public code clips the last expert's counts and smooths what has been raised to a power; here the density is smoothed first, and nothing clipped.
  It adds 1e-10 to scales, which the tolerance covers.
- VIR: a floor of 1e-6 on omega, which here has a softplus of sharpness one; the variance of a latent is scaled by the ratio of variances, not by its root;
  bins without samples take no part; what a mirrored border counts twice is squared as one. Penalty and omega are those of the file where they are compared.
"""
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dir_nb.feature_stats import FeatureStats
from dir_nb.heads.uvote import expert_weights, laplace_nll, vote
from dir_nb.heads.vir import ALPHA_0, LEAST, NIG, SHARPNESS, LatentSmoothing, latent_moves, latent_update
from dir_nb.kernels import kernel_matrix, kernel_window, smooth_bins
from dir_nb.lds import lds_weights

FOLDER = Path(__file__).parent / "reference"
UVOTE, VIR = (json.loads((FOLDER / f"{name}.json").read_text()) for name in ("uvote", "vir"))
TRAINED = [name for name, s in UVOTE["settings"].items() if s["loss"] == "l1nll"]


def _double(x):
    return torch.tensor(x, dtype=torch.float64)


def _close(got, want, rtol=1e-8, atol=1e-10):
    torch.testing.assert_close(got, _double(want), rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", TRAINED)
def test_uvote_loss(name):
    x, s, want = UVOTE["inputs"][name], UVOTE["settings"][name], UVOTE["outputs"][name]
    y, mean, log_scale = (_double(x[k]) for k in ("labels", "mu", "log_scale"))
    mean, log_scale = mean.T.requires_grad_(), log_scale.T.requires_grad_()
    later = (s["epoch"] / s["epochs"]) ** 2 if s["dynamic_loss"] else 1.0
    each = (_double(want["weights_per_expert"]).T * laplace_nll(mean, log_scale, y)).mean(0)
    total = (each * torch.tensor([1.0] + [later] * (s["experts"] - 1))).sum()
    total.backward()
    _close(total.detach(), want["loss_total"], 1e-7)
    _close(mean.grad.T, want["grad_mu"], 1e-7)
    _close(log_scale.grad.T, want["grad_log_scale"], 1e-7, 1e-7)
    assert ((log_scale.detach().abs() > 5) == (log_scale.grad == 0)).all() and (log_scale.grad == 0).any()


@pytest.mark.parametrize("name", UVOTE["settings"])
def test_uvote_weights(name):
    """Without smoothing ours, but for the clip of the last expert; with it theirs by their order of steps, whose first expert is not unweighted."""
    s, want = UVOTE["settings"][name], _double(UVOTE["outputs"][name]["weights_per_expert"])
    bins = torch.tensor(UVOTE["inputs"][name]["labels"]).clamp(max=120)
    counts = torch.bincount(bins, minlength=121).double()
    ours = expert_weights(counts, s["experts"], None)[bins].T
    if s["lds"] is None:
        _close(ours[:-1], want[:-1].tolist(), 3e-7)
        _close(lds_weights(counts, "inverse", clip=(5.0, 1000.0))[bins], want[-1].tolist(), 3e-7)
        return
    window = kernel_window(s["lds"]["kernel"], s["lds"]["ks"], s["lds"]["sigma"])
    for m, r in enumerate(torch.linspace(0, 1, s["experts"]).tolist()):
        powered = counts.pow(r) if r < 1 else counts.clamp(5, 1000)
        theirs = 1 / smooth_bins(powered, window)[bins]
        _close(theirs / theirs.mean(), want[m].tolist(), 1e-6)
    smoothed = expert_weights(counts, s["experts"], (s["lds"]["kernel"], s["lds"]["ks"], s["lds"]["sigma"]))[bins].T
    assert (smoothed[0] == 1).all() and want[0].max() > 1.2


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("ours, theirs", [("least", "minvar"), ("inverse", "avgvar"), ("mean", "avg")])
def test_uvote_votes(name, ours, theirs):
    x, want = UVOTE["inputs"][name], UVOTE["outputs"][name]["combined"][theirs]["prediction"]
    pred, scale = vote(_double(x["mu"]).T, _double(x["log_scale"]).T, ours)
    _close(pred, want)
    assert (scale > 0).all()


@pytest.mark.parametrize("name", ["nig_train_weighted", "nig_eval"])
def test_vir_head(name):
    x, s, want = VIR["inputs"][name], VIR["settings"][name], VIR["outputs"][name]
    raw, y = _double(x["raw_head_output"]).requires_grad_(), _double(x["target"])
    weight = None if x["weight"] is None else _double(x["weight"])
    observed = NIG.observed(raw, weight)
    for key, got in (("gamma", observed.gamma), ("v", observed.v), ("alpha", observed.alpha)): _close(got.detach().unsqueeze(1), want[key])
    # omega with their softplus
    law = NIG(observed.gamma, observed.v, observed.alpha, F.softplus(raw[:, 2], SHARPNESS))
    assert (LEAST, ALPHA_0) == (2.0, s["prior"]["alpha"])
    _close(law.beta.detach().unsqueeze(1), want["beta"])
    _close(law.nll(y).detach().unsqueeze(1), want["nll"])
    _close(law.strain(y).detach().unsqueeze(1), want["reg"])
    loss = (law.nll(y) + s["coeff"] * law.strain(y)).mean()
    loss.backward()
    _close(loss.detach(), want["loss_cdm"])
    _close(raw.grad, want["grad_wrt_raw_head_output"])
    if name == "nig_eval": _close(law.doubt.detach().unsqueeze(1), want["predictive_variance_used_by_reference"])


def _filled(stats, d):
    """Mean, variance, variance of the mean as the public code has them: bins without samples begin with 0, 1 and 1."""
    empty = (stats.count == 0)[:, None]
    mean, doubt, var = stats.mean[:, :d], stats.mean[:, d:], stats.var[:, :d]
    return torch.where(empty, 0.0, mean), torch.where(empty, 1.0, var), torch.where(empty, 1.0, doubt)


@pytest.mark.parametrize("name", ["prm_gaussian", "prm_cumulative"])
def test_vir_smoothing(name):
    s, want, x = VIR["settings"][name], VIR["outputs"][name], VIR["inputs"][name]
    feat, d, n = _double(x["features_epoch"]), s["feature_dim"], s["bucket_num"] - s["bucket_start"]
    bins = (torch.tensor(x["labels_epoch"]) - s["bucket_start"]).clamp(0, n - 1)
    smoothing = LatentSmoothing(n, d, momentum=s["momentum"]).double()
    stats, moments = smoothing.stats, []
    for epoch in range(2):
        stats.update(feat[epoch], bins[epoch])
        latent_update(stats)
        moments.append(_filled(stats, d))
        after, known = want[f"after_epoch{epoch}"], stats.count > 0
        assert stats.count.tolist() == after["num_samples_tracked"] and (~known).sum() == 1
        for got, key in ((stats.mean, "running_mean_and_variance_of_mean"), (stats.var, "running_variance_and_its_variance")):
            torch.testing.assert_close(got[known], _double(after[key])[known], rtol=1e-8, atol=1e-10)
    # what the last samples are moved by are the statistics of the epoch before the last
    window = _double(want["kernel_window_used"])
    kernel, squares = (kernel_matrix(n, w, "mirror") for w in (window, window.square()))
    _close(smoothing.kernel[n // 2, n // 2 - 2:n // 2 + 3], want["kernel_window_used"], 1e-5)
    mean, var, doubt = moments[0]
    last = want["last_epoch_stats_with_copies"]
    _close(torch.cat([kernel @ mean, squares @ doubt], 1), last["smoothed_mean_last"], 1e-6, 1e-8)
    _close(kernel @ var, [row[:d] for row in last["smoothed_var_last"]], 1e-6, 1e-8)
    gain, shift, before, later = latent_moves(mean, var, doubt, kernel, torch.ones(n, dtype=torch.bool), tuple(s["clip"]))
    # a bin that the mirror counts twice counts with the square of its sum here, theirs is the sum of squares
    torch.testing.assert_close(later[2:-2], (squares @ doubt)[2:-2], rtol=1e-9, atol=0)
    assert (later[0] > (squares @ doubt)[0]).all()
    later = squares @ doubt
    for key, value in (("gain", gain), ("shift", shift), ("before", before), ("after", later)): getattr(smoothing, key).copy_(value)
    stats.mean[:, :d] = mean
    m, v = smoothing(*feat[2].split(d, 1), bins[2])
    _close(torch.cat([m, v], 1), want["formula_variance_scaled_by_factor_epoch2"], 1e-6, 1e-8)
    root = (feat[2][:, d:] + before[bins[2]]) * (1 + gain[bins[2]]) + later[bins[2]]
    _close(torch.cat([m, root], 1), want["smoothed_features_epoch2_with_copies"], 1e-6, 1e-8)
    # before there are statistics nothing moves; theirs adds 2
    fresh = LatentSmoothing(n, d).double()
    assert all(torch.equal(a, b) for a, b in zip(fresh(*feat[1].split(d, 1), bins[1]), feat[1].split(d, 1)))
    assert _double(want["smoothed_features_epoch1_with_copies"])[:, d:].sub(feat[1][:, d:]).max() == pytest.approx(2)
    assert isinstance(fresh.stats, FeatureStats)
