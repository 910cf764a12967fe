"""FDS in reference mode against numbers of the public code of Yang et al. (2021), which nobody here wrote.

Reproduced: window, running statistics after each epoch, snapshot, smoothed statistics and calibrated features of the AgeDB variant
(momentum, and cumulative) and the STS-B variant. Expected values are the `..._with_copies` ones: the public code with its snapshot cloned.
Not reproduced, on purpose: `..._reference_aliased` (the snapshot shares memory with the running statistics, so that features are whitened
with one epoch and re-coloured with another), and the overwritten argument.
"""
import json
from pathlib import Path

import pytest
import torch

from dir_nb.bins import BinGrid
from dir_nb.fds import CLIPS, FDS
from dir_nb.kernels import kernel_window

REF = json.loads((Path(__file__).parent / "reference" / "fds.json").read_text())
CASES = list(REF["settings"])
RTOL, ATOL = REF["tolerance"]["rtol"], REF["tolerance"]["atol"]


def t(x):
    return torch.tensor(x, dtype=torch.float64)


def close(got, want):
    torch.testing.assert_close(got, t(want), rtol=RTOL, atol=ATOL)


def build(case, **change):
    "The module, features and bins of a case."
    s, inputs = REF["settings"][case], REF["inputs"][case]
    if s["variant"] == "stsb":
        n = s["bucket_num"]
        grid = BinGrid(*s["label_range"], s["label_range"][1] / n, precision="float32", outside="pool")
    else:  # integer labels; those beyond the first and last bucket are pooled
        n = s["bucket_num"] - s["bucket_start"]
        grid = BinGrid(s["bucket_start"], s["bucket_num"], 1, value="left", outside="pool")
    assert s["start_update"] == 0  # the only value FDS knows
    options = {"kernel": s["kernel"], "kernel_size": s["ks"], "sigma": s["sigma"], "momentum": s["momentum"],
               "start_smooth": s["start_smooth"], "clip": s["clip"],
               "mode": "reference_sts_b" if s["variant"] == "stsb" else "reference"}
    fds = FDS(n, s["feature_dim"], **{**options, **change}).double()
    return fds, [t(f) for f in inputs["features_epoch"]], [grid.index(t(y)) for y in inputs["labels_epoch"]]


def epoch(fds, feat, bins, e):
    for f, b in zip(feat.split(7), bins.split(7), strict=True):
        fds.update(f, b)
    fds.end_epoch(e)


@pytest.mark.parametrize("case", CASES)
def test_two_epochs(case):
    fds, feat, bins = build(case)
    out = REF["outputs"][case]
    for e in (0, 1):
        assert torch.equal(fds.smooth(feat[e], bins[e], e), feat[e])  # smooth_is_identity_in_epoch0_and_epoch1
        epoch(fds, feat[e], bins[e], e)
        want = out[f"after_epoch{e}"]
        close(fds.stats.mean, want["running_mean"])
        close(fds.stats.var, want["running_var"])
        close(fds.stats.count.double(), want["num_samples_tracked"])
    copies = out["last_epoch_stats_with_copies"]
    close(fds.last_mean, copies["running_mean_last_epoch"])
    close(fds.last_var, copies["running_var_last_epoch"])
    close(fds.smoothed_mean, out["after_epoch1"]["smoothed_mean_last_epoch"])
    close(fds.smoothed_var, out["after_epoch1"]["smoothed_var_last_epoch"])
    before = feat[2].clone()
    close(fds.smooth(feat[2], bins[2], 2), out["smoothed_features_epoch2_with_copies"])
    assert torch.equal(feat[2], before)


@pytest.mark.parametrize("case", CASES)
def test_window(case):
    s = REF["settings"][case]
    window = kernel_window(s["kernel"], s["ks"], s["sigma"], norm="sum")
    close(window.float().double(), REF["outputs"][case]["kernel_window_used"])


@pytest.mark.parametrize("case", CASES)
def test_shared_memory_is_the_only_difference(case):
    "Put the running statistics of epoch 1 where the snapshot of epoch 0 should be: that is the aliasing bug, and gives its numbers."
    fds, feat, bins = build(case)
    for e in (0, 1):
        epoch(fds, feat[e], bins[e], e)
    fds.last_mean.copy_(fds.stats.mean)
    fds.last_var.copy_(fds.stats.var)
    close(fds.smooth(feat[2], bins[2], 2), REF["outputs"][case]["smoothed_features_epoch2_reference_aliased"])


@pytest.mark.parametrize("case", CASES)
def test_resume_between_epochs(case):
    fds, feat, bins = build(case)
    epoch(fds, feat[0], bins[0], 0)
    again, _, _ = build(case)
    again.load_state_dict(fds.state_dict())
    for k in (fds, again):
        epoch(k, feat[1], bins[1], 1)
    assert torch.equal(fds.smooth(feat[2], bins[2], 2), again.smooth(feat[2], bins[2], 2))


@pytest.mark.parametrize("case", CASES)
def test_corrected_mode_agrees_where_it_should(case):
    "After one epoch the own statistics of occupied bins are the same; the smoothed ones only where all neighbours in reach are occupied."
    ref, feat, bins = build(case)
    cor, _, _ = build(case, mode="corrected")
    epoch(ref, feat[0], bins[0], 0)
    epoch(cor, feat[0], bins[0], 0)
    seen = cor.stats.count > 0
    torch.testing.assert_close(cor.last_mean[seen], ref.stats.mean[seen], rtol=RTOL, atol=ATOL)
    epoch(ref, feat[1], bins[1], 1)  # only now does the reference smooth epoch 0
    half = REF["settings"][case]["ks"] // 2
    inner = torch.tensor([b for b in range(half, len(seen) - half) if bool(seen[b - half:b + half + 1].all())], dtype=torch.long)
    torch.testing.assert_close(cor.smoothed_mean[inner], ref.smoothed_mean[inner], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(cor.smoothed_var[inner], ref.smoothed_var[inner], rtol=1e-6, atol=1e-7)
    assert not torch.allclose(cor.smoothed_mean, ref.smoothed_mean)  # border bins and neighbours of empty ones differ


def test_clip_ranges():
    "The clip ranges of the cases are those in the table."
    assert REF["settings"]["agedb_gaussian"]["clip"] == list(CLIPS["agedb_dir"])
    assert REF["settings"]["stsb_gaussian"]["clip"] == list(CLIPS["sts_b_dir"])
