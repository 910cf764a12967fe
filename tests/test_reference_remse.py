"""ReMSE with one cluster, and IRDA without augmentation, against the public BNI loss of Balanced MSE (numbers in reference/balanced_mse.json).

BNI with bucket centres c_b and weights p_b is ReMSE with K = 1, values c_b and prior p_b: no difference is expected.
"""
import json
from pathlib import Path

import pytest
import torch

from dir_nb.compendium.surrogate import printed_20
from dir_nb.losses.irda import irda_loss
from dir_nb.losses.remse import competitors, remse_loss

REF = json.loads((Path(__file__).parent / "reference" / "balanced_mse.json").read_text(encoding="utf-8"))
CASES = ["bni_1d_sigma1", "bni_1d_sigma8"]


def case(name):
    found = REF["inputs"][name]
    found = REF["inputs"][found["same_as"]] if "same_as" in found else found
    data = {k: torch.tensor(v, dtype=torch.float64) for k, v in found.items()}
    return data, float(REF["settings"][name]["sigma"]), REF["outputs"][name]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("which", ["exponent", "factor", "irda_split", "irda_exact", "irda_printed_20"])
def test_bni(name, which):
    data, sigma, want = case(name)
    pred, s = data["prediction"].requires_grad_(), torch.tensor(sigma, dtype=torch.float64, requires_grad=True)
    values, prior = data["bucket_center"], data["bucket_weight"].log()
    if which.startswith("irda"):
        bins = (data["target"][:, None] - values).abs().argmin(1)
        terms = competitors(values, torch.ones(len(values), 1, dtype=torch.float64), prior)
        loss = irda_loss(pred, data["target"], bins, terms, torch.zeros(()), None, s, printed_20 if which == "irda_printed_20" else which[5:])
    else: loss = remse_loss(pred, data["target"], values, None, prior, s, which)
    loss.backward()
    tol = REF["tolerance"]
    for got, key in ((loss, "loss"), (pred.grad, "grad_prediction"), (s.grad, "grad_sigma")):
        torch.testing.assert_close(got.detach(), torch.tensor(want[key], dtype=torch.float64), rtol=tol["rtol"], atol=tol["atol"])
