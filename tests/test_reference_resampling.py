"""Relevance and re-sampling against numbers from public code that nobody here wrote (tests/reference): smogn 0.1.2 and imbreg 0.1.3.

Intended differences: relevance stays what it is at the first and the last control point, where smogn has 1 below and goes on above;
quartiles are smogn's, where imbreg has hinges.
"""
import json
from pathlib import Path

import numpy as np
import pytest

from dir_nb.resampling.relevance import Relevance, box_plot, bumps_of, control_points

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
