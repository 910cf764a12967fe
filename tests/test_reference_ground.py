"""Bins, kernels, LDS weights and metrics against numbers that public code printed (tests/reference/*.json)."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dir_nb.bins import BinGrid, ShotRegions
from dir_nb.kernels import kernel_window
from dir_nb.lds import lds_weights
from dir_nb.metrics import DIRMetrics, abs_rel, delta2, delta3, lg10

AGES = BinGrid(0, 121, 1, value="left", outside="pool")
SCORES = BinGrid(0, 5, 0.1, precision="float32")
DEPTHS = BinGrid(0, 10, 0.1, rule="floor", outside="pool")
SHOTS = {"many": "many", "median": "medium", "low": "few", "medium": "medium", "few": "few"}  # the sources' names and ours


def load(item: str) -> dict:
    return json.loads((Path(__file__).parent / "reference" / f"{item}.json").read_text())


def window_of(setting: dict, **options):
    return kernel_window({"triang": "triangular"}.get(setting["kernel"], setting["kernel"]), setting["ks"], setting["sigma"], **options)


KERNELS, LDS, SHOT, STSB, NYUD2 = map(load, ("kernel_windows", "lds_weights", "shot_metrics", "stsb", "nyud2"))


@pytest.mark.parametrize("case", KERNELS["settings"])
def test_windows(case):
    out, setting = KERNELS["outputs"][case], KERNELS["settings"][case]
    np.testing.assert_allclose(window_of(setting), out["lds_window_max_normalised"], rtol=1e-9)
    if setting["kernel"] == "triang":
        assert window_of(setting).tolist() == out["lds_window_max_normalised"]  # to the bit
    # the source keeps this one in float32
    np.testing.assert_allclose(window_of(setting, norm="sum"), out["fds_window_sum_normalised"], rtol=1e-6)
    for norm in ("max", "sum"):
        if exact := out.get(f"exact_gaussian_{norm}_normalised_by_formula"):
            np.testing.assert_allclose(window_of(setting, form="exact", norm=norm), exact, rtol=1e-9)


def check_weights(got, expected, counts, rtol=3e-6):
    """Expected is None where the source has no sample; ours has a finite weight there too."""
    keep = [i for i, v in enumerate(expected) if v is not None]
    np.testing.assert_allclose(got[keep], [expected[i] for i in keep], rtol=rtol)
    assert bool((torch.isfinite(got) & (got > 0)).all())
    assert float((got.double() * counts).sum() / counts.sum()) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("case", LDS["settings"])
def test_age_weights(case):
    setting, out = LDS["settings"][case], LDS["outputs"][case]
    counts = torch.tensor(LDS["inputs"]["sqrt_inv_no_lds"]["train_count_per_age"])
    args = {"scheme": setting["reweight"], "window": window_of(setting) if setting["lds"] else None}
    truncated = "weight_per_age_without_integer_truncation" in out
    if truncated:
        # Listed error of the source: with 'inverse' and LDS its smoothed counts stay whole numbers. Off by default here.
        check_weights(lds_weights(counts, **args), out["weight_per_age_without_integer_truncation"], counts)
    check_weights(lds_weights(counts, **args, truncate=truncated), out["weight_per_age"], counts)


def stsb_scores():
    bins = STSB["inputs"]["bins"]
    return torch.tensor(bins["unique_scores"]), torch.tensor(bins["count_of_score"])


def test_score_bins():
    unique, count = stsb_scores()
    expected = STSB["outputs"]["bins"]
    assert SCORES.index(unique).tolist() == expected["bin_of_unique_score"]
    assert SCORES.counts(unique.repeat_interleave(count)).tolist() == expected["count_per_bin_np_histogram"]
    # decimal edges: the same bins whether the scores are float32 or float64 and whatever the grid's precision
    decimal = np.asarray(STSB["inputs"]["bins"]["unique_scores"], dtype="float64")
    for grid in (SCORES, BinGrid(0, 5, 0.1)):
        for scores in (decimal, decimal.astype("float32")):
            assert grid.index(scores).tolist() == expected["bin_of_unique_score"]
    # what the listed trap costs, in training pairs: the edges of np.linspace among scores of either precision
    for scores, moved in ((decimal, 1307), (decimal.astype("float32"), 1289)):
        naive = np.clip(np.searchsorted(np.linspace(0, 5, 51), scores, side="right") - 1, 0, 49)
        assert int(count[naive != np.array(expected["bin_of_unique_score"])].sum()) == moved


def test_score_regions():
    expected, (unique, count) = STSB["outputs"]["bins"], stsb_scores()
    lists = expected["shot_bins_hard_coded"]
    regions = ShotRegions.by_list(50, **lists)
    assert [regions.names[r] for r in regions.region] == expected["region_used_for_each_bin"]
    summary = regions.summary(SCORES.counts(unique.repeat_interleave(count)))
    assert [summary[k]["samples"] for k in regions.names] == [4510, 538, 201]
    # the published lists do not follow from the thresholds 100 and 20
    by_count = ShotRegions.by_count(expected["count_per_bin_np_histogram"])
    assert (by_count.region != regions.region).nonzero().flatten().tolist() == [15, 25, 33, 45, 47]


@pytest.mark.parametrize("case", [c for c in STSB["settings"] if c.startswith("weights")])
def test_score_weights(case):
    setting, out = STSB["settings"][case], STSB["outputs"][case]
    unique, count = stsb_scores()
    bins = SCORES.index(unique)
    args = {"scheme": setting["reweight"], "window": window_of(setting) if setting["lds"] else None, "clip": None}
    counts = SCORES.counts(unique.repeat_interleave(count))
    exact = out.get("weight_of_unique_score_without_integer_truncation")
    if exact:  # the listed truncation error, as for ages
        check_weights(lds_weights(counts, **args)[bins], exact, count)
    check_weights(lds_weights(counts, **args, truncate=exact is not None)[bins], out["weight_of_unique_score"], count)


def test_depth_bins():
    case = NYUD2["inputs"]["bin_index"]["depth"], NYUD2["outputs"]["bin_index"]["bin"]
    assert DEPTHS.index(torch.tensor(case[0])).tolist() == case[1]
    assert DEPTHS.index(torch.tensor(case[0], dtype=torch.float64)).tolist() == case[1]


@pytest.mark.parametrize("case", [c for c in NYUD2["settings"] if c.startswith("bucket")])
def test_depth_weights(case):
    setting = NYUD2["settings"][case]
    counts = torch.tensor(NYUD2["inputs"]["bucket_weights_inverse_no_lds"]["train_bucket_num"])
    start, window = setting["bucket_start"], window_of(setting) if setting["lds"] else None
    got = lds_weights(counts[start:], setting["reweight"], window, clip=None, boundary="reflect")
    expected = NYUD2["outputs"][case]["bucket_weight"]
    check_weights(got, expected[start:], counts[start:], rtol=1e-6)
    assert expected[:start] == expected[start:start + 1] * start  # bins without any pixel take the first bin's weight there


def check_row(row: dict, expected: dict, names: dict, rtol=1e-9):
    for theirs, ours in names.items():
        assert row[ours] == pytest.approx(expected[theirs], rel=rtol, abs=0), (theirs, ours)


@pytest.mark.parametrize("case", SHOT["settings"])
def test_age_metrics(case):
    data, out = SHOT["inputs"][case], SHOT["outputs"][case]
    counts = torch.tensor(data["train_count_per_age"])
    grid = BinGrid(0, len(counts), 1, value="left", outside="pool")
    regions = ShotRegions.by_count(counts)
    assert [regions.names[r] for r in regions.region] == [SHOTS[r] for r in out["region_per_age"]]
    got = DIRMetrics(grid, regions)
    for p, t in zip(np.array_split(data["prediction"], 4), np.array_split(data["label"], 4)):
        got.update(p, t)
    names = {"mse": "mse", "l1": "mae", "gmean": "gm"}
    check_row(got.compute()["all"], out["overall"], names)
    for theirs, expected in out["shot"].items():
        check_row(got.compute()[SHOTS[theirs]], expected, names)


@pytest.mark.parametrize("case", [c for c in STSB["settings"] if c.startswith("metrics")])
def test_score_metrics(case):
    data, out = STSB["inputs"][case], STSB["outputs"][case]["metrics"]
    regions = ShotRegions.by_list(50, **STSB["outputs"]["bins"]["shot_bins_hard_coded"])
    pred = np.array(data["prediction_in_0_1"]) * 5  # targets are divided by five for the loss there
    target = np.array(data["label_in_0_5"], dtype="float32")  # read as float32 there
    got = DIRMetrics(SCORES, regions).update(pred, target).compute()
    names = {"mse": "mse", "l1": "mae", "gmean": "gm", "pearsonr": "pearson", "spearmanr": "spearman", "num_samples": "n"}
    for theirs, expected in out.items():
        check_row(got["all" if theirs == "overall" else theirs], expected, names)
    assert (got["all"]["gm_floored"] > 0) == (case == "metrics_with_exact_hits")


def test_depth_metrics():
    data, out = NYUD2["inputs"]["metrics"], NYUD2["outputs"]["metrics"]["metrics"]
    regions = ShotRegions.by_list(100, **NYUD2["outputs"]["metrics"]["shot_bins_hard_coded"])
    pred, target = np.array(data["output"]), np.array(data["depth"])
    names = {"MSE": "mse", "RMSE": "rmse", "MAE": "mae", "NUM": "n", "ABS_REL": "abs_rel", "LG10": "lg10"}
    got = DIRMetrics(DEPTHS, regions, depth=True, ranks=False)
    for p, t in zip(pred, target):
        got.update(p[..., None], t)  # image by image, channels last
    for theirs, expected in out.items():
        row = got.compute()["all" if theirs == "overall" else theirs]
        check_row(row, expected, names)
        for k in (1, 2, 3):
            assert row[f"delta{k}"] == pytest.approx(expected[f"DELTA{k}"], rel=1e-7)  # printed in float32 there
    assert delta2(pred, target) == pytest.approx(out["overall"]["DELTA2"], rel=1e-7) and delta3(pred, target) == 1
    assert abs_rel(pred, target) == pytest.approx(out["overall"]["ABS_REL"], rel=1e-9)
    assert lg10(pred, target) == pytest.approx(out["overall"]["LG10"], rel=1e-9)
    # pixels without depth: an error unless asked to skip them (the source cannot handle them per region)
    holes = target.copy()
    holes[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="ignore_nan=True"):
        got.update(pred, holes)
    assert DIRMetrics(DEPTHS, regions, ignore_nan=True).update(pred, holes).compute()["all"]["n"] == target.size - 1


def test_age_pooling():
    """Ages above the last bin are counted in it, as in the source."""
    assert AGES.index([0, 119, 120, 121, 130]).tolist() == [0, 119, 120, 120, 120]
