"""Statistics and exponents behind ISDA-R and RISDA-R against the public code of ISDA and RISDA (numbers in reference/isda.json, risda.json).

Both are classifiers; what can be compared are the parts that the regression versions are made of: the streaming covariance per class, and the
exponents +ratio/2 (w_c - w_y)' S_y (w_c - w_y) and +alpha (w_c - w_y)' (K mu - mu)_y. `Augmented.logits` has them for w_c = y_c w / sigma^2, as
the notebook shows. Intended differences: our covariance is unbiased, the reference divides by n; RISDA's second training step is not compared, because
the reference writes the mixed covariance back into its estimator, so that the mixing compounds.
"""
import json
from pathlib import Path

import pytest
import torch

from dir_nb.feature_stats import FeatureStats
from dir_nb.losses.isda import reasoning

HERE = Path(__file__).parent / "reference"
ISDA, RISDA = (json.loads((HERE / f"{n}.json").read_text(encoding="utf-8")) for n in ("isda", "risda"))


def t(x, dtype=torch.float64):
    return torch.tensor(x, dtype=dtype)


def estimated(kind):
    "Statistics after the reference's three batches, the covariance divided by n."
    s, data = ISDA["settings"][kind], ISDA["inputs"]["full"]
    stats = FeatureStats(s["classes"], s["dim"], kind, momentum=None).double()
    for feat, label in zip(data["feature_batches"], data["label_batches"]): stats.update(t(feat), t(label, torch.long))
    stats.end_epoch()
    second = stats.second
    second *= ((stats.count - 1) / stats.count).view(-1, *[1] * (second.dim() - 1))
    return stats


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_isda(kind):
    s, data, want, tol = ISDA["settings"][kind], ISDA["inputs"]["full"], ISDA["outputs"][kind], ISDA["tolerance"]
    stats, close = estimated(kind), lambda a, b: torch.testing.assert_close(a, t(b), rtol=1e-6, atol=1e-7)
    after = want["after_batch_3"]
    # the block of features and a full scatter are float32, hence the tolerance
    close(stats.mean, after["mean"]); close(stats.second, after["covariance"]); close(stats.count.double(), after["amount"])
    feat, label, w, bias = t(data["feature_batches"][2]), t(data["label_batches"][2], torch.long), t(data["weight"]), t(data["bias"])
    gaps = torch.stack([torch.stack([stats.quadratic(w[c] - w[k]) for c in range(len(w))]) for k in range(len(w))]) # (own, other, bin)
    term = gaps[label, :, label] * s["ratio"] / 2
    torch.testing.assert_close(feat @ w.T + bias + term, t(want["augmented_logits_batch_3"]), rtol=1e-6, atol=1e-6)
    assert tol["rtol"] <= 1e-6


def test_risda():
    s, data, want = RISDA["settings"]["augmented_logits"], RISDA["inputs"]["augmented_logits"], RISDA["outputs"]["augmented_logits"]
    feat, label, w, mu, k = (t(data[n]) for n in ("features", "label", "weight", "prototype", "reasoning_matrix"))
    label = label.long()
    mix = reasoning(k, torch.ones(len(k)))
    # a row of the reference, rounded to two decimals, may not sum to one: there our rows are normalised
    torch.testing.assert_close(mix * k.sum(1, keepdim=True), k)
    shift = mix * k.sum(1, keepdim=True) @ mu - mu
    torch.testing.assert_close(shift, t(want["prototype_shift"]), rtol=1e-8, atol=1e-10)
    stats = FeatureStats(s["classes"], s["dim"]).double()
    stats.cov.copy_(t(data["covariance"])); stats.mean.copy_(shift)
    logits = feat @ w.T
    for i, c in enumerate(label.tolist()):
        d = w - w[c]
        logits[i] += torch.stack([s["beta"] / 2 * stats.quadratic(v)[c] + s["alpha"] * stats.project(v)[c] for v in d])
    torch.testing.assert_close(logits, t(want["augmented_logits"]), rtol=1e-8, atol=1e-10)
