"""Dist Loss and SRL against numbers from public code that nobody here wrote (tests/reference); of PRIME there is no public code by its authors.

Intended differences, each computed here with the difference and without:
- Dist Loss, pseudo-labels: the public code rounds expected counts and repairs their sum, here they are the middles of equal shares,
  which are nearer to the density.
- Dist Loss, weights: the public code multiplies by position after sorting, here a weight goes with its sample.
- SRL, homogeneity: the public code has minus the cosines of neighbours and their variance, here is the paper's Eq. 6, which knows gaps of labels.
Not offered: SRL's weights of the contrast by distance of labels, which the public code has for 102 or 187 labels only.
"""
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dir_nb.losses.dist_loss import dist_loss, label_density, pseudo_labels, soft_sort
from dir_nb.losses.pointwise import focal_r_loss, huber_loss, l1_loss, mse_loss
from dir_nb.losses.srl import SRLLoss, bin_centroids, centroid_contrast, enveloping_loss, homogeneity_loss

FOLDER = Path(__file__).parent / "reference"
DIST, SRL = (json.loads((FOLDER / f"{name}.json").read_text()) for name in ("dist_loss", "srl"))
SORTED = ["soft_strength_0.1", "strength_1_small_gaps", "strength_10"]
DISTANCES = {"L1": l1_loss, "L2": mse_loss, "focal_l1": focal_r_loss, "huber": huber_loss}
CURVES = ["curve_8_points", "curve_24_points", "single_step"]
BATCHES = ["batch_16_labels_10", "batch_12_labels_6_t05"]


def _inputs(ref, name):
    return {k: torch.tensor(v, dtype=torch.float64) for k, v in ref["inputs"][name].items()}


def _close(ref, got, want):
    torch.testing.assert_close(got.detach(), torch.tensor(want, dtype=torch.float64), rtol=ref["tolerance"]["rtol"], atol=ref["tolerance"]["atol"])


@pytest.mark.parametrize("name", ["density_ages", "density_fine_step"])
def test_density_and_pseudo_labels(name):
    s, want = DIST["settings"][name], DIST["outputs"][name]
    y = _inputs(DIST, name)["labels"]
    values = torch.arange(len(want["density"]), dtype=torch.float64) * s["step"] + s["min_label"]
    density = label_density(y[(y >= s["min_label"]) & (y <= s["max_label"])], values, s["bw_method"])
    _close(DIST, density, want["density"])
    for n, theirs in want["batches"].items():
        ours = pseudo_labels(density, values, int(n))
        counts = (ours.unsqueeze(1) == values).sum(0)
        expected = int(n) * density
        assert (counts - expected).abs().max() < 1 and counts.sum() == int(n)
        theirs_counts = torch.tensor(theirs["counts_per_bin"])
        assert (counts - theirs_counts).abs().max() <= 2
        far = lambda c: ((c / int(n) - density).cumsum(0).abs().sum() * s["step"]).item()  # noqa: B023, E731
        assert far(counts) < 0.6 * far(theirs_counts)  # Wasserstein distance from the density
        moved = (ours - torch.tensor(theirs["pseudo_labels"])).abs().mean().item()
        assert moved < far(counts) + far(theirs_counts) + 1e-9


@pytest.mark.parametrize("name", SORTED)
def test_soft_sort(name):
    x, want, epsilon = _inputs(DIST, name), DIST["outputs"][name], DIST["settings"][name]["regularization_strength"]
    pred = x["prediction"].requires_grad_()
    out = soft_sort(pred, epsilon)
    out.backward(torch.tensor(want["vector_for_vjp"], dtype=torch.float64))
    _close(DIST, out, want["soft_sorted"])
    _close(DIST, pred.grad.flatten(), want["vjp_of_soft_sort"])
    assert torch.equal(out, pred.flatten().sort().values) is want["soft_sort_equals_hard_sort"]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("name", SORTED)
def test_dist_loss(name, distance):
    x, want, epsilon = _inputs(DIST, name), DIST["outputs"][name][distance], DIST["settings"][name]["regularization_strength"]
    pred, call = x["prediction"].requires_grad_(), DISTANCES[distance]
    between = dist_loss(pred, x["pseudo_labels"], epsilon=epsilon, distance=call)
    plain = call(pred, x["target"])
    (between + plain).backward()
    for got, key in ((between, "distribution"), (plain, "plain"), (between + plain, "total")): _close(DIST, got, want[key])
    _close(DIST, pred.grad, want["grad"])


@pytest.mark.parametrize("name", SORTED)
def test_weights_go_with_their_samples(name):
    x, want, epsilon = _inputs(DIST, name), DIST["outputs"][name], DIST["settings"][name]["regularization_strength"]
    ours = dist_loss(x["prediction"], x["pseudo_labels"], x["weights"], epsilon)
    _close(DIST, ours, want["formula_weights_follow_the_sample_L1"]["distribution"])
    theirs = (x["weights"].flatten() * (soft_sort(x["prediction"], epsilon) - x["pseudo_labels"].flatten()).abs()).mean()
    _close(DIST, theirs, want["L1_weighted_as_in_reference_loss_weight_0.7"]["distribution"])
    assert abs(ours - theirs) > 1e-3


def theirs_homogeneity(trace, sign=-1.0, spread=0.1):
    """Cosines of neighbours, summed, and their variance."""
    z = F.normalize(trace, dim=1)
    cos = (z[1:] * z[:-1]).sum(1)
    return sign * cos.sum() + spread * cos.var()


@pytest.mark.parametrize("name", CURVES)
def test_geometry(name):
    x, want = _inputs(SRL, name), SRL["outputs"][name]
    unit = torch.arange(len(x["embeddings"]))
    calls = {"enveloping": lambda z: enveloping_loss(z, x["points"]), "formula_homogeneity_unit_spacing": lambda z: homogeneity_loss(z, unit),
             "formula_homogeneity_label_spacing": lambda z: homogeneity_loss(z, x["labels_for_formula"]), "smooth_loss_agedb_alpha_minus_1": theirs_homogeneity,
             "smooth_loss_imdb_alpha_plus_1": lambda z: theirs_homogeneity(z, 1.0), "smooth_loss_alpha_minus_1_beta_0": lambda z: theirs_homogeneity(z, spread=0.0)}
    assert want.keys() <= calls.keys()
    for key in want:
        z = x["embeddings"].clone().requires_grad_()
        out = calls[key](z)
        out.backward()
        _close(SRL, out, want[key]["loss"])
        _close(SRL, z.grad, want[key]["grad"])
    if "smooth_loss_alpha_minus_1_beta_0" in want:  # with gaps of one, Eq. 6 has twice the gradient of minus the cosines
        _close(SRL, homogeneity_loss(x["embeddings"], unit) / 2, len(unit) - 1 + want["smooth_loss_alpha_minus_1_beta_0"]["loss"])


@pytest.mark.parametrize("name", BATCHES)
def test_trace_of_a_batch(name):
    x, want, s = _inputs(SRL, name), SRL["outputs"][name], SRL["settings"][name]
    bins, n, t = x["labels"].long(), s["num_labels"], s["temperature"]
    part = SRLLoss(n, x["surrogate"].shape[1]).double()
    part.refresh(x["surrogate"], torch.ones(n, dtype=torch.bool))
    terms = {"contrastive": lambda z, trace: centroid_contrast(z, bins, trace.detach(), t), "enveloping": lambda z, trace: enveloping_loss(trace, x["points"]),
             "smooth_loss_agedb_alpha_minus_1": lambda z, trace: theirs_homogeneity(trace),
             "contrastive_against_given_surrogate": lambda z, trace: centroid_contrast(z, bins, x["surrogate"], t)}
    for key, call in terms.items():
        z = x["features"].clone().requires_grad_()
        trace, there = part.filled(*bin_centroids(z, bins, n))
        assert there.all()
        out = call(z, trace)
        out.backward()
        _close(SRL, out, want[key]["loss"])
        _close(SRL, z.grad, want[key]["grad_features"])


@pytest.mark.parametrize("name", BATCHES)
def test_surrogate(name):
    """Means of a label, and the mixture with the old ones; the public code counts a label that did not come as zero, here it stays as it was."""
    x, want, n = _inputs(SRL, name), SRL["outputs"][name], SRL["settings"][name]["num_labels"]
    total, count = bin_centroids(x["features"], x["labels"].long(), n)
    present, mean = want["centroids_of_present_labels"]["labels"], total / count.clamp(min=1).unsqueeze(1)
    _close(SRL, mean[present], want["centroids_of_present_labels"]["centroids"])
    for there in (torch.ones(n, dtype=torch.bool), count > 0):
        part = SRLLoss(n, total.shape[1], momentum=0.9).double()
        part.refresh(x["surrogate"], torch.ones(n, dtype=torch.bool))
        part.refresh(mean, there)
        stored = torch.tensor(want["surrogate_update_momentum_0.9_with_centroids_zero_filled"], dtype=torch.float64)
        torch.testing.assert_close(part.surrogate[there], stored[there], rtol=1e-9, atol=1e-12)
        assert torch.equal(part.surrogate[~there], x["surrogate"][~there])
