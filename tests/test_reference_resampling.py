"""Relevance and re-sampling against numbers from public code that nobody here wrote (tests/reference): smogn 0.1.2 and imbreg 0.1.3.

Intended differences: relevance stays what it is at the first and the last control point, where smogn has 1 below and goes on above;
quartiles are smogn's, where imbreg has hinges; goals are whole rows that keep their sum, where smogn rounds factors to a decimal and cuts products;
distances are smogn's only on its own table, target included and unscaled. Synthetic values are not stored: smogn's targets are uninitialised memory.
"""
import json
from pathlib import Path

import numpy as np
import pytest

from dir_nb.resampling.relevance import Relevance, box_plot, bumps_of, control_points
from dir_nb.resampling.samplers import deviations, goals
from dir_nb.resampling.smogn import SMOGN, radii
from dir_nb.resampling.smoter import SMOTER, neighbours

FOLDER = Path(__file__).parent / "reference"
PHI, SAMPLING, SERA = (json.loads((FOLDER / f"{name}.json").read_text()) for name in ("smogn_phi", "smogn_sampling", "sera_utility"))
AUTO = [name for name, s in PHI["settings"].items() if s["method"] == "auto"]
CASES = [(name, how) for name in SAMPLING["outputs"] for how in ("balance", "extreme")]


def _inputs(ref, name):
    return ref["inputs"][ref["inputs"][name].get("same_as", name)]


def _close(ref, got, want):
    np.testing.assert_allclose(got, want, rtol=ref["tolerance"]["rtol"], atol=ref["tolerance"]["atol"])


@pytest.mark.parametrize("name", AUTO)
def test_box_plot(name):
    y, s, want = np.array(_inputs(PHI, name)["y"]), PHI["settings"][name], PHI["outputs"][name]
    b = box_plot(y, s["coef"])
    _close(PHI, [b.low, b.q1, b.median, b.q3, b.high], [want["box_plot"][k] for k in ("lower_whisker", "q1", "median", "q3", "upper_whisker")])
    assert sorted(y[(y < b.low) | (y > b.high)]) == sorted(want["box_plot"]["extremes"])


@pytest.mark.parametrize("name", AUTO)
def test_relevance_from_a_box_plot(name):
    x, s, want = _inputs(PHI, name), PHI["settings"][name], PHI["outputs"][name]
    if not any(want["phi_of_y"]):  # what smogn answers with "all points are 0"
        with pytest.raises(ValueError, match="all relevances are 0: give control points"):
            control_points(x["y"], s["xtrm_type"], s["coef"])
        return
    points = control_points(x["y"], s["xtrm_type"], s["coef"])
    _close(PHI, points, want["control_points_y_phi_slope"])
    phi = Relevance(points)
    _close(PHI, phi(x["y"]), want["phi_of_y"])
    _close(PHI, phi(x["y_query"]), want["phi_of_query_constant_below_first_point"])


@pytest.mark.parametrize("name", [name for name in PHI["settings"] if name not in AUTO])
def test_relevance_by_hand(name):
    x, want = _inputs(PHI, name), PHI["outputs"][name]
    phi = Relevance(PHI["settings"][name]["control_points"])
    last = phi.points[-1, 0]
    for y, expected in ((x["y"], want["phi_of_y"]), (x["y_query"], want["phi_of_query_constant_below_first_point"])):
        y, expected = np.array(y), np.array(expected)
        _close(PHI, phi(y), np.where(y > last, phi.points[-1, 1], expected))


@pytest.mark.parametrize("name", SERA["outputs"])
def test_relevance_by_imbreg(name):
    x, want = SERA["inputs"][name], SERA["outputs"][name]["imbreg"]
    phi = Relevance(want["control_points"])
    for y, expected in ((x["y"], want["phi_y"]), (x["prediction"], want["phi_prediction"]), (want["phi_query"]["y"], want["phi_query"]["phi"])):
        _close(SERA, phi(y), expected)


@pytest.mark.parametrize("name", SAMPLING["outputs"])
def test_bumps(name):
    y = np.array(SAMPLING["inputs"][name]["table"])[:, -1]
    s, want = SAMPLING["settings"][name], SAMPLING["outputs"][name]
    phi = Relevance(control_points(y, s["rel_xtrm_type"], s["rel_coef"]))(y)
    _close(SAMPLING, phi, want["phi_by_row"])
    found = bumps_of(y, phi, s["rel_thres"])
    for b, bump in enumerate(want["balance"]["bumps"]):
        assert set(np.flatnonzero(found.index == b)) == set(bump["rows"]) and found.rare[b] == bump["rare"]


@pytest.mark.parametrize("name, how", CASES)
def test_goals(name, how):
    want = SAMPLING["outputs"][name][how]
    counts = np.array([len(b["rows"]) for b in want["bumps"]])
    got = goals(counts, how)
    assert abs(got.sum() - counts.sum()) <= len(counts) / 2
    if how == "balance":
        _close(SAMPLING, got / counts, want["perc"])
        assert set(got) == {want["target_rows_per_bump_b"]}
    else:  # half a row of ours, half a decimal of theirs, and their 63 of 64 rows
        assert (abs(got / counts - want["perc"]) <= .5 / counts + .05 + np.array(want["perc"]) / 60).all()
    for bump, goal, n in zip(want["bumps"], goals(counts, want["perc"]), counts):  # given as factors, the rows are theirs
        theirs = n + bump["synthetic_rows"] if bump["sampling"] == "over" else bump.get("kept_rows_if_intended", n)
        assert abs(goal - theirs) <= 1 and goal >= theirs


@pytest.mark.parametrize("name", SAMPLING["outputs"])
def test_neighbours_radii_and_noise(name):
    table = np.array(SAMPLING["inputs"][name]["table"])
    compared = 0
    for bump in SAMPLING["outputs"][name]["balance"]["bumps"]:
        if bump["sampling"] != "over":
            continue
        z, rows = table[bump["rows"]], np.array(bump["rows"])
        dist, near = neighbours(z, SAMPLING["settings"][name]["k"])
        radius = radii(z, np.random.RandomState(0))
        assert rows[near].tolist() == bump["knn_rows"]
        _close(SAMPLING, dist, bump["knn_distances"])
        _close(SAMPLING, radius, bump["safe_threshold"])
        _close(SAMPLING, deviations(z), bump["noise_std_used"])
        _close(SAMPLING, np.minimum(SAMPLING["settings"][name]["pert"], radius), bump["noise_factor"])
        safe = [rows[n[d < r]].tolist() for n, d, r in zip(near, dist, radius)]
        assert safe == bump["safe_neighbour_rows"]
        compared += 1
    assert compared


@pytest.mark.parametrize("name, how", CASES)
@pytest.mark.parametrize("kind", [SMOTER, SMOGN])
def test_size_of_the_result(kind, name, how):
    table, s, want = np.array(SAMPLING["inputs"][name]["table"]), SAMPLING["settings"][name], SAMPLING["outputs"][name][how]
    sampler = kind(k=s["k"], relevance=s["rel_xtrm_type"], threshold=s["rel_thres"], amounts=want["perc"], random_state=0)
    x, y = sampler.fit_resample(table[:, :-1], table[:, -1])
    assert len(x) == len(y) and np.isfinite(x).all() and np.isfinite(y).all()
    assert 0 <= len(y) - want["expected_rows_if_intended"] <= len(want["bumps"])
    over = [b["rows"] for b in want["bumps"] if b["sampling"] == "over"]
    assert set(sampler.sample_indices_[sampler.synthetic_]) <= set(np.concatenate(over))
