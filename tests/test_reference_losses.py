"""Pointwise losses and Balanced MSE against numbers from public code that nobody here wrote (tests/reference).

Intended differences, both from the reference's notes: shapes (N,) give the (N, 1) result instead of broadcasting to (N, N),
and BMC on a batch of one gives the same numbers with a warning. Values and gradients are compared in float64.
"""
import json
from pathlib import Path

import pytest
import torch

from dir_nb.losses import balanced_mse as bm
from dir_nb.losses import pointwise as pw
from dir_nb.parts.noise import Noise

FOLDER = Path(__file__).parent / "reference"


def _load(item: str) -> tuple[dict, list]:
    "The reference and its cases (name, settings, inputs with `same_as` followed, outputs)."
    ref = json.loads((FOLDER / f"{item}.json").read_text())
    inputs = {name: ref["inputs"][x["same_as"]] if "same_as" in x else x for name, x in ref["inputs"].items()}
    return ref, [(name, s, inputs[name], ref["outputs"][name]) for name, s in ref["settings"].items()]


def _close(ref: dict, got: torch.Tensor, want) -> None:
    tol = ref["tolerance"]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64).reshape(got.shape), rtol=tol["rtol"], atol=tol.get("atol", 0))


POINTWISE, POINTWISE_CASES = _load("focal_huber")
BALANCED, BALANCED_CASES = _load("balanced_mse")


def _pointwise(s: dict) -> torch.nn.Module:
    if s["loss"].startswith("focal"):
        return pw.FocalRLoss(s["loss"].removeprefix("focal_"), s["beta"], s["gamma"], s["activate"])
    return pw.HuberLoss(s["beta"]) if s["loss"] == "huber" else {"mse": pw.MSELoss, "l1": pw.L1Loss}[s["loss"]]()


@pytest.mark.parametrize("shapes", ["n", "n1", "mixed"])
@pytest.mark.parametrize("name,settings,inputs,outputs", POINTWISE_CASES, ids=[c[0] for c in POINTWISE_CASES])
def test_pointwise(name, settings, inputs, outputs, shapes):
    pred = torch.tensor(inputs["prediction"], dtype=torch.float64, requires_grad=True)
    target, weight = (torch.tensor(inputs[k], dtype=torch.float64) for k in ("target", "weight"))
    loss = _pointwise(settings)
    weight = (weight if shapes != "n1" else weight[:, None]) if settings["weighted"] else None
    out = loss(pred if shapes == "n" else pred[:, None], target if shapes != "n1" else target[:, None], weight)
    out.backward()
    _close(POINTWISE, out.detach(), outputs["loss"])
    _close(POINTWISE, pred.grad, outputs["grad_prediction"])


def _tensors(*lists) -> list[torch.Tensor]:
    return [torch.tensor(x, dtype=torch.float64) for x in lists]


def _balanced(s: dict, x: dict, pred: torch.Tensor, target: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    "The functional form, sigma squared as a parameter would be."
    kind, var = s["loss"], sigma.square()
    if kind.startswith("bmc"):
        return (bm.bmc_loss_md if kind == "bmc_md" else bm.bmc_loss)(pred, target, var)
    if kind == "bni":
        return bm.bni_loss(pred, target, var, *_tensors(x["bucket_center"], x["bucket_weight"]))
    spread = x["gmm"]["covariances" if kind == "gai_md" else "variances"]
    mixture = _tensors(x["gmm"]["weights"], x["gmm"]["means"], spread)
    return (bm.gai_loss_md if kind == "gai_md" else bm.gai_loss)(pred, target, var, *mixture)


@pytest.mark.parametrize("column", [False, True], ids=["n", "n1"])
@pytest.mark.parametrize("name,settings,inputs,outputs", BALANCED_CASES, ids=[c[0] for c in BALANCED_CASES])
def test_balanced_mse(name, settings, inputs, outputs, column):
    pred = torch.tensor(inputs["prediction"], dtype=torch.float64, requires_grad=True)
    (target,) = _tensors(inputs["target"])
    sigma = torch.tensor(settings["sigma"], dtype=torch.float64, requires_grad=True)
    view = (lambda a: a[:, None]) if column and pred.ndim == 1 else (lambda a: a)
    if name == "bmc_1d_batch_of_one":
        with pytest.warns(UserWarning, match="batch of one"):
            out = _balanced(settings, inputs, view(pred), view(target), sigma)
    else:
        out = _balanced(settings, inputs, view(pred), view(target), sigma)
    out.backward()
    _close(BALANCED, out.detach(), outputs["loss"])
    _close(BALANCED, pred.grad, outputs["grad_prediction"])
    _close(BALANCED, sigma.grad, outputs["grad_sigma"])


@pytest.mark.parametrize("name,settings,inputs,outputs", [c for c in BALANCED_CASES if "_1d_sigma" in c[0]], ids=lambda v: v if isinstance(v, str) else "")
def test_classes(name, settings, inputs, outputs):
    "The classes on a float32 parameter: sigma 1 and 8 are exact there, the mixture and the bins are not."
    pred = torch.tensor(inputs["prediction"], dtype=torch.float64, requires_grad=True)
    (target,) = _tensors(inputs["target"])
    kind, noise = settings["loss"], Noise(settings["sigma"], learnable=True, log=False)
    if kind == "bmc":
        loss = bm.BMCLoss(noise)
    elif kind == "bni":
        loss = bm.BNILoss(torch.tensor(inputs["bucket_center"]), torch.tensor(inputs["bucket_weight"]), noise)
    else:
        loss = bm.GAILoss(*(torch.tensor(inputs["gmm"][k]) for k in ("weights", "means", "variances")), noise)
    out = loss(pred, target)
    out.backward()
    for got, want in ((out.detach(), "loss"), (pred.grad, "grad_prediction"), (loss.noise.free.grad, "grad_sigma")):
        torch.testing.assert_close(got.double(), torch.tensor(outputs[want], dtype=torch.float64).reshape(got.shape), rtol=1e-5, atol=1e-6)
