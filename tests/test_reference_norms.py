"""Ordinal entropy and the losses on norms against numbers from public code that nobody here wrote (tests/reference).

Not compared: `frobs_kl` on feature vectors, since here norms alone are compared.
Intended difference: a batch without a repeated label, where the reference is NaN, has tightness 0 (checked in the notebook).
"""
import json
from pathlib import Path

import pytest
import torch

from dir_nb.losses.norms import label_norms, norm_order_loss
from dir_nb.losses.ordinal_entropy import batch_labels, ordinal_entropy_loss

FOLDER = Path(__file__).parent / "reference"
OE, KL = (json.loads((FOLDER / f"{name}.json").read_text()) for name in ("ordinal_entropy", "frobs_kl"))
NORMS = [name for name in KL["outputs"] if "norms" in name or "raw_year" in name]


def _double(x):
    return torch.tensor(x, dtype=torch.float64)


def _inputs(ref, name):
    return ref["inputs"][ref["inputs"][name].get("same_as", name)]


def _close(ref, got, want):
    torch.testing.assert_close(got, _double(want), **ref["tolerance"])


@pytest.mark.parametrize("name", OE["outputs"])
def test_ordinal_entropy(name):
    x, want = _inputs(OE, name), OE["outputs"][name]
    for weighting, loss, grad in (
        ("reference", want["loss_reference"], want["grad_features_reference"]),
        ("minmax", want["with_min_max_normalisation"]["loss"], want["with_min_max_normalisation"]["grad_features"]),
    ):
        feat = _double(x["features"]).requires_grad_()
        out = ordinal_entropy_loss(feat, _double(x["label"]), weighting)
        out.backward()
        _close(OE, out.detach(), loss)
        _close(OE, feat.grad, grad)


@pytest.mark.parametrize("name", NORMS)
def test_norm_order(name):
    x, s, want = _inputs(KL, name), KL["settings"][name], KL["outputs"][name]
    y, norm = _double(x["y"]), _double(x["second"])
    if len(set(x["y"])) < len(x["y"]):  # the reference pairs samples, here labels are paired: kept apart by less than counts
        y = y + torch.arange(len(y)) * 1e-12
    norm.requires_grad_()
    out = norm_order_loss(norm, y, s["temperature"], eps=s["eps"])
    out.backward()
    _close(KL, out.detach(), want["loss"])
    _close(KL, norm.grad, want["grad_second"])


def test_mean_norm_per_label():
    x, want = _inputs(KL, "mean_norm_per_label"), KL["outputs"]["mean_norm_per_label"]["mean_l2_norm_per_label"]
    y = _double(x["y"])
    norm = label_norms(_double(x["features"]), batch_labels(y)[0])
    for label, value in want.items():
        _close(KL, norm[y == float(label)], [value] * int((y == float(label)).sum()))


def test_something_was_compared():
    assert len(NORMS) == 4 and len(OE["outputs"]) == 3
