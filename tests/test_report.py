"Collecting, figures and tables together, on small made-up results; what reports define is taken from their notebooks."
import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dir_nb.bins import BinGrid, ShotRegions
from dir_nb.compendium.collect import BIN_COLUMNS, REGIONS, RunProblems, collect, read_csv, summarise_runs, write_tables
from dir_nb.paths import write_json, write_text
from dir_nb.compendium import curves, errata, plots, ranking, tables
from dir_nb.conf import load_conf

PROJECT = Path(__file__).parents[1]
METHODS = ["l1", "lds", "fds", "bmc", "irda", "mine"]
METRICS = ("mae", "gm", "rmse", "delta1")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("project"), np.random.default_rng(0)
    counts = np.array([0, 1, 8, 30, 150, 400, 220, 90, 25, 5])
    region = np.select([counts > 100, counts >= 20], ["many", "medium"], "few")
    for j, m in enumerate(METHODS):
        for s in range(3):
            folder = root / "runs" / "toy_dir" / m / f"s{s}"
            value = {r: {k: float(rng.normal(3 + i - .2 * j * i, .1)) for k in METRICS} | {"n": 40 - i} for i, r in enumerate(REGIONS)}
            value["medium"]["gm"] = None
            write_json(folder / "metrics.json", {"dataset": "toy_dir", "method": m, "seed": s, "val": {}, **value})
            bins = pd.DataFrame({"bin": range(10), "value": np.arange(10) + .5, "train_count": counts, "region": region, "n": np.minimum(counts, 20) // 2})
            bins = bins.assign(mae=np.where(bins.n > 0, rng.uniform(1, 2, 10), np.nan), bias=0.)
            write_text(folder / "bins.csv", bins[BIN_COLUMNS].to_csv(index=False))
            np.savez(folder / "feature_stats.npz", count=counts, mean=rng.random((10, 4)), var=rng.random((10, 4)))
    return root


@pytest.fixture(scope="module")
def tabled(root):
    return collect(root, ["toy_dir"], METHODS, seeds=[0, 1, 2])


def cells_of(tabled, paper=None):
    return tables.table_cells(tabled[2], "toy_dir", METRICS, METHODS, {"mine": "Mine_& co"}, paper)


def defined(stem):
    """What a report notebook imports and defines, without running it: name -> object."""
    cells = json.loads((PROJECT / f"nbs/reports/{stem}.ipynb").read_text())["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    wanted = (ast.Import, ast.ImportFrom, ast.FunctionDef)
    constant = lambda n: isinstance(n, ast.Assign) and all(name.id.isupper() for t in n.targets for name in ast.walk(t) if isinstance(name, ast.Name))
    tree = ast.parse(code)
    tree.body = [n for n in tree.body if isinstance(n, wanted) or constant(n)]
    found = {}
    exec(compile(tree, stem, "exec"), found)
    return found


def density(table):
    import torch
    counts = torch.tensor([0, 1, 8, 30, 150, 400, 220, 90, 25, 5])
    view = type("View", (), {"name": "toy_dir", "units": "mm", "grid": BinGrid(0, 10, 1), "counts": counts, "regions": ShotRegions.by_count(counts)})
    return table(view, counts.numpy() / counts.sum().item(), "Toy-DIR")


def test_collect_is_the_same_twice(root, tabled, tmp_path):
    for folder in ("a", "b"):
        r, b, s = collect(root, ["toy_dir"], METHODS)
        write_tables(tmp_path / folder, runs=r, bins=b, summary=s)
    for name in ("runs", "bins", "summary"):
        assert (tmp_path / "a" / f"{name}.csv").read_bytes() == (tmp_path / "b" / f"{name}.csv").read_bytes()
    assert list(dict.fromkeys(tabled[0].method)) == METHODS
    assert len(tabled[0]) == len(METHODS) * 3 * 4 * len(METRICS)
    pd.testing.assert_frame_equal(read_csv(tmp_path / "a" / "summary.csv"), summarise_runs(read_csv(tmp_path / "a" / "runs.csv")), check_exact=False, rtol=1e-14)


def test_all_missing_runs_are_named(root):
    with pytest.raises(RunProblems) as e: collect(root, ["toy_dir", "other_dir"], ["l1"], seeds=[0, 7])
    assert all(name in str(e.value) for name in ("toy_dir/l1/s7", "other_dir/l1/s0", "other_dir/l1/s7")) and "toy_dir/l1/s0" not in str(e.value)


def test_paired_difference_by_a_slow_loop(tabled):
    runs, _, summary = tabled
    for _, row in summary[summary.metric == "mae"].iterrows():
        pick = lambda m, row=row: [runs[(runs.method == m) & (runs.region == row.region) & (runs.metric == "mae") & (runs.seed == s)].value.item() for s in range(3)]
        d = [a - b for a, b in zip(pick(row.method), pick("l1"))]
        assert row["diff"] == pytest.approx(sum(d) / 3, abs=1e-12)
        assert row.diff_half_width == pytest.approx(4.30265273 * np.std(d, ddof=1) / 3 ** .5, rel=1e-8, abs=1e-12)


FIGURES = {  # report -> the function that draws it, and its data
    "fig_label_density": ("density_figure", lambda root, t, f: density(f["density_table"])),
    "fig_error_by_bin": ("error_figure", lambda root, t, f: curves.error_table(t[1], {"toy_dir": ("Toy-DIR", "mm")}, points=6)),
    "fig_feature_similarity": ("similarity_figure", lambda root, t, f: curves.similarity_table("toy_dir", ["l1", "fds"], root))}


@pytest.mark.parametrize("stem", FIGURES)
def test_figures_are_equal_byte_for_byte(stem, root, tabled, tmp_path):
    (name, make), found = FIGURES[stem], defined(stem)
    draw, data = found[name], make(root, tabled, found)
    for folder in ("a", "b"): plots.save_figure(draw(data), stem, data, tmp_path / folder)
    for end in ("png", "pdf", "csv"):
        a, b = ((tmp_path / f / "figures" / f"{stem}.{end}").read_bytes() for f in "ab")
        assert a == b and len(a) > 500, end
    back = read_csv(tmp_path / "a" / "figures" / f"{stem}.csv")   # the picture can be drawn again from its csv
    plots.save_figure(draw(back), stem, back, tmp_path / "c")
    assert (tmp_path / "c" / "figures" / f"{stem}.png").read_bytes() == (tmp_path / "a" / "figures" / f"{stem}.png").read_bytes()


def legends(fig):
    return [t.get_text() for legend in fig.legends for t in legend.get_texts()]


def test_error_by_bin_needs_its_baseline(root, tabled):
    found, data = defined("fig_error_by_bin"), curves.error_table(tabled[1])
    with pytest.raises(ValueError, match="baseline"): found["error_figure"](data[data.method != "l1"])
    assert found["families_of"](["l1", "lds", "mine"], "l1") == {"Density smoothing": ["lds"], "Others": ["mine"]}


def test_tradeoff_counts_the_settings_that_were_tried():
    tried = pd.DataFrame({"method": "lds", "round": 1, "draw": range(8), "setting": "{}", "dataset": "x_dir", "mae": 2. + np.arange(8), "few": 9. - np.arange(8), "front": True})
    more = pd.concat([tried, tried[:1].assign(dataset="y_dir")])  # one setting was tried on a second data set too
    assert legends(defined("fig_tradeoff")["front_figure"](more, ["lds"], {}, {})) == ["LDS (8)"]


def test_surrogate_refuses_another_number_of_panels():
    table = pd.DataFrame({"n_clusters": [1], "error": [4.]})
    with pytest.raises(ValueError, match="two K"): defined("fig_surrogate")["surrogate_figure"](table)


def test_forest_marks_what_is_off_its_axis():
    def row(m, v): return {"dataset": "x", "title": "X", "method": m, "label": m, "group": "", "region": "all", "percent": v, "half_width": 1., "seeds": 5}
    fig = defined("fig_study")["forest_figure"](pd.DataFrame([row("a", 3.), row("b", 90.), row("c", np.nan)]), "the entry", 25.)
    assert [t.get_text() for t in fig.axes[0].texts] == ["+90 %", "failed"]
    assert fig.legends[0].get_title().get_text().startswith("Against the entry, paired over 5 seeds")


def test_parts_are_drawn_from_vanilla():
    """Two data sets, three seeds: the ladder starts at zero; what is off its axis or failed says so, and changes are log means."""
    found, rows = defined("fig_parts"), []
    factors = {"vanilla": (1., 1.), "head": (.8, .9), "entry": (.5, .5), "far": (2., 2.), "lost": (.9, np.nan)}
    for m, by in factors.items():
        about = {"study": "parts", "method": m, "title": m.title(), "group": "ladder" if m in ("vanilla", "head", "entry") else "others"}
        rows += [about | {"dataset": d, "seed": k, "region": r, "metric": metric, "value": f * (3. + k), "n": 9}
                 for d, f in zip(("x_dir", "y_dir"), by) for k in range(3) for r, metric in found["MEASURES"]]
    table = pd.DataFrame(rows)
    data = found["with_control"](found["effect_table"](table, "vanilla", list(found["MEASURES"])), table, "vanilla")
    few = data[data.region == "few"].set_index("method")
    assert list(few.index) == list(factors) and few.percent["vanilla"] == 0 and few.sets["vanilla"] == 2
    assert few.percent["head"] == pytest.approx(100 * ((.8 * .9) ** .5 - 1)) and np.isnan(few.percent["lost"])
    assert found["words"](data)["Few-shot"].tolist()[1:4:2] == ["−15.1 [−15.1, −15.1]", "+100.0 [+100.0, +100.0]"]
    fig = found["parts_figure"](data, "entry", [(-60., 20.)] * 3)
    assert [[t.get_text() for t in ax.texts] for ax in fig.axes] == [["+100 %", "failed"]] * 3
    ladder = next(line for line in fig.axes[1].lines if line.get_linestyle() == ":")
    np.testing.assert_allclose(ladder.get_xdata(), few.percent[["vanilla", "head", "entry"]])
    found["parts_figure"](data[data.method != "entry"], "entry", [(-60., 20.)] * 3)  # a study without the entry has no line


def test_labels_that_training_lacks():
    """Two protocols, three seeds: all other labels weigh by their samples, and a dozen methods are told apart, one failed and one off the axis."""
    found, rows = defined("fig_protocols"), []
    factors = {"l1": (1., 1.), "half": (.5, 1.), "lost": (np.nan, np.nan), "far": (9., 1.2), **{f"m{k}": (1 + .02 * k, 1 - .02 * k) for k in range(9)}}
    for m, (zero, rest) in factors.items():
        about = {"study": "protocols", "method": m, "title": m.upper(), "group": "all", "base": m, "setting": "{}", "metric": "mae"}
        value = {"many": (rest, 3), "medium": (5 * rest, 1), "few": (np.nan, 0), "zero": (4 * zero, 2), "all": (3., 6)} # few has no samples
        rows += [about | {"dataset": d, "seed": k, "region": r, "value": v * (1 + .1 * k), "n": 0 if m == "lost" else n}
                 for d in ("x_dir", "y_dir") for k in range(3) for r, (v, n) in value.items()]
    errors = found["with_rest"](pd.DataFrame(rows))
    assert set(errors.region) == {"zero", "rest"}
    one = errors[(errors.dataset == "x_dir") & (errors.seed == 0) & (errors.region == "rest")].set_index("method").value
    assert one["l1"] == pytest.approx((3 * 1 + 1 * 5) / 4) and np.isnan(one["lost"])
    data = found["protocol_table"](errors, "l1", {"x_dir": ("X without ends", "rings")})
    of = data[data.dataset == "x_dir"].set_index(["method", "region"])
    assert of.percent["half", "zero"] == pytest.approx(-50) and of.percent["far", "rest"] == pytest.approx(20)
    assert of.base["m3", "zero"] == pytest.approx(4.4) and np.isnan(of.percent["lost", "rest"])
    fig = found["protocol_figure"](data)
    assert [[t.get_text() for t in ax.texts] for ax in fig.axes] == [["failed", "+800 %", "failed"]] * 2
    assert fig.axes[0].get_title(loc="left") == "X without ends\nvanilla 4.4 / 2.2 rings"
    fig.draw_without_rendering()
    boxes = [t.get_window_extent() for t in fig.axes[0].get_yticklabels()]
    assert len(boxes) == 13 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    marks = [line.get_window_extent().y0 for line in fig.axes[0].lines if line.get_marker() in "os"]
    assert np.diff(sorted(marks)).min() > 3 # points: no two on each other


def test_posteriors_of_the_study():
    """Kept as a study writes them, in no order; one mark for each median, and widths where labels were seen."""
    found, about = defined("fig_posterior"), {"study": "posterior", "group": "", "base": "", "setting": "{}", "dataset": "x_dir", "seed": 0}
    def rows(m, region, n, *v):
        return [about | {"method": m, "title": m.upper(), "region": region, "n": n, "metric": k, "value": x} for k, x in zip(("value", "before", "after"), v)]
    inputs = {"sex_M": 0., "sex_F": 1., "sex_I": 0., "length": .5, "whole_weight": .25}
    kept = [r for k in range(1, 5) for b in (2, 0, 1) for r in rows("entry", f"sample {k} bin {b}", 7, b + 1., (.2, .5, .3)[b], (.1, .1, .8)[b])]
    kept += [r for k in range(1, 5) for r in rows("entry", f"sample {k}", 7, 3., 2.1, 2.9)]
    kept += [r for k in range(1, 5) for name, x in inputs.items() for r in rows("entry", f"sample {k} {name}", 7, x, np.nan, np.nan)]
    kept += [r for m in ("entry", "rank 1", "irda") for b in range(3) for r in rows(m, f"bin {b}", 7, b + 1., np.nan if b == 1 else 1., np.nan if b == 1 else 2.)]
    data = found["posterior_table"](pd.DataFrame(kept), "entry")
    assert data.kind.value_counts().to_dict() == {"posterior": 12, "width": 9, "prediction": 4}
    assert set(data[data.kind != "width"].label) == {"female, 100 mm, 50 g"} and found["described"]({}) == ""
    one = data[(data.kind == "posterior") & (data["sample"] == "3")]
    assert one.value.tolist() == [1., 2., 3.] and one.after.tolist() == [.1, .1, .8]
    fig = found["posterior_figure"](data, "X", "rings", 0)
    assert [line.get_xdata()[0] for line in fig.axes[0].lines if line.get_marker() in "os"] == [2.1, 2.9]
    widths, = (ax for ax in fig.axes if ax.get_legend())
    assert [line.get_xdata().tolist() for line in widths.lines] == [[1., 3.]] * 3


def test_methods_figure_by_hand():
    """Rank correlations of three methods are -1, -1, and .5 for the seed whose third method has the highest error."""
    orders = pd.DataFrame([{"dataset": "x_dir", "method": m, "seed": k, "region": "all", "tau": t, "train_mae": e + .1 * k}
                           for k in range(3) for m, t, e in (("l1", .2, 3.), ("irda", -.5, 2.), ("lds", .9, 1. + 3. * (k == 2)))])
    fig = defined("fig_norm_order")["methods_figure"](orders, ["l1", "lds", "irda"], {"x_dir": ("X", "years")}, {}, ["l1", "irda"])
    assert len(fig.axes[0].lines) == 3 and legends(fig) == ["Vanilla", "IRDA", "1 others"]
    assert fig.axes[0].get_title(loc="right").startswith("ρ = −0.50")


def test_ellipses_before_and_after():
    about = {"dataset": "x", "title": "toy", "n": 30}
    points = [about | {"bin": b, "label": 10. * b, "kind": "point", "x": 10. * b + i, "y": 1. * i} for b in (1, 2) for i in range(5)]
    drawn = [about | {"bin": b, "label": 10. * b, "kind": k, "x": 10. * b, "y": 0., "width": w, "height": 2., "angle": 20.} for b in (1, 2) for k, w in (("own", 3.), ("smoothed", 6.))]
    fig = defined("fig_ellipses")["ellipse_figure"](pd.DataFrame(points + drawn), {"x": "years"}, .5)
    assert [[p.width for p in ax.patches] for ax in fig.axes] == [[3., 3.], [6., 6.]]
    assert "(β = 0.5)" in fig.get_supxlabel()


def test_drawings_of_ideas_say_what_is_here_and_have_no_faults():
    """A method without a class is dashed; the drawings without data are made, which a fault would refuse."""
    found = defined("fig_ideas")
    data = found["strategy_table"]()
    patches = found["strategies_figure"](data).axes[0].patches
    assert sum(p.get_linestyle() == "--" for p in patches) == (data.in_library == "").sum() == 2
    found["vae_figure"](found["VAE_TABLE"])
    found["STRATEGIES"]["Loss"][1]["Lost"] = "losses.remse.LostLoss"
    with pytest.raises(AttributeError, match="LostLoss"): found["strategy_table"]()


def test_one_bin_before_and_after():
    """Distance and spread stand in the panel as they are in the table; the mean is drawn at the label plus its residual."""
    points = [{"kind": "point", "z": float(i), "y": 10. + i, "inside": i == 8} for i in range(10)]
    lines = [{"kind": "line", "variant": v, "w": 1., "w0": 5., "residual": r, "spread": s} for v, r, s in (("without", -6., 3.), ("both", -4., 2.))]
    fig = defined("fig_ideas")["regression_figure"](pd.DataFrame(points + lines), 18., "rings", "weight")
    told = [t.get_text() for t in fig.axes[1].texts if t.get_text()]
    assert told == ["distance 6.0, spread 3.0", "distance 4.0, spread 2.0"]
    means = [c[0].get_xdata()[0] for c in fig.axes[1].containers]
    assert means == [12., 14.]


def test_a_figure_leaves_matplotlib_as_it_was():
    import matplotlib as mpl
    found = defined("fig_label_density")
    mpl.rcParams["font.size"] = 7.5
    found["density_figure"](density(found["density_table"]))
    assert mpl.rcParams["font.size"] == 7.5


def test_an_erratum_goes_when_the_numbers_are_corrected(tmp_path):
    """The whole notebook, run with a table in which the best SOTA's gain on TUAB is as quoted."""
    numbers = tables.paper_numbers(PROJECT / "nbs/reports/paper_numbers.csv")
    cell = (numbers.table == 6) & (numbers.method == "ranksim") & (numbers.metric == "mae") & (numbers.region == "all")
    fixed = numbers.assign(value=numbers.value.where(~cell, 8.3973))
    cells = json.loads((PROJECT / "nbs/reports/table_errata.ipynb").read_text())["cells"]
    space = {}
    def run(cells):
        for c in cells:
            if c["cell_type"] == "code": exec("".join(c["source"]), space)
    first = next(i for i, c in enumerate(cells) if "check(" in "".join(c["source"]))
    last = next(i for i, c in enumerate(cells) if i >= first and "errata_table(" in "".join(c["source"]))
    run(cells[:first]); space["numbers"] = fixed; run(cells[first:last])
    told = errata.read_errata(PROJECT / "nbs/reports/table_errata.ipynb")
    with pytest.raises(ValueError, match="gain on TUAB"): errata.errata_table(told, space["check"].found)
    assert [t for t, (holds, _) in space["check"].found.items() if not holds] == ["the best SOTA's gain on TUAB is misquoted"]


def plain(text, form):
    "A rendered cell without its marks."
    if form == "md": return re.sub(r"\*\*|</?u>", "", text).strip()
    return re.sub(r"\\(?:textbf|underline)\{(.*)\}", r"\1", text.strip()).replace(r"$\pm$", "±").replace("$-$", "−").replace("--", "–").replace("\\\\", "").strip()


def rows_of(text, form):
    "Label -> cells, of every table in a rendered file, in order."
    found = []
    for line in text.split("\n"):
        cells = line.strip("| ").split("|") if form == "md" else re.split(r"(?<!\\)&", line)
        if len(cells) == 9 and not set(cells[1].strip()) <= set("-:") or len(cells) == 9 and cells[1].strip() == "–":
            found.append((cells[0].replace("\\", "").strip(), [plain(c, form) for c in cells[1:]]))
    return [f for f in found if "All" not in f[1][0]]


def test_table_forms_agree(tabled, tmp_path):
    cells = cells_of(tabled)
    paths = tables.write_table(cells, tables.table_caption(cells, "Toy-DIR", "mm"), "table_toy_dir", tmp_path)
    md, tex, csv = paths[0].read_text(), paths[1].read_text(), read_csv(paths[2])
    a, b = rows_of(md, "md"), rows_of(tex, "tex")
    assert a == b and len(a) == 2 * (len(METHODS) + len(METHODS) - 1)
    for pair, start in ((METRICS[:2], 0), (METRICS[2:], len(a) // 2)):
        for label, texts in a[start : start + len(METHODS)]:
            for (metric, region), text in zip([(m, r) for m in pair for r in REGIONS], texts):
                c = csv[(csv.label == label) & (csv.metric == metric) & (csv.region == region)].iloc[0]
                want = "–" if np.isnan(c["mean"]) else f"{c['mean']:.{c.decimals}f} ± {c.half_width:.{c.decimals}f}"
                assert text == want
    assert md.count("**") // 2 >= 15 and tex.count(r"\textbf") == md.count("**") // 2 and tex.count(r"\underline") == md.count("<u>")
    assert r"Mine\_\& co" in tex and paths[3].read_bytes().startswith(b"\x89PNG")


def test_table_is_the_same_twice(tabled, tmp_path):
    cells = cells_of(tabled)
    a, b = ([p.read_bytes() for p in tables.write_table(cells, "Toy.", "table_toy_dir", tmp_path / f)] for f in "ab")
    assert a == b


def test_best_and_second(tabled):
    cells = cells_of(tabled)
    for (metric, _), c in cells[cells["mean"].notna()].groupby(["metric", "region"]):
        order = sorted(set(c["mean"].round(c.decimals.iloc[0])), reverse=metric == "delta1")
        assert set(c[c["mark"] == "best"]["mean"].round(c.decimals.iloc[0])) == {order[0]}
        assert set(c[c["mark"] == "second"]["mean"].round(c.decimals.iloc[0])) == {order[1]}
    assert (cells[(cells.metric == "gm") & (cells.region == "medium")]["mark"] == "").all()


def test_paper_columns_stand_beside_ours(tabled):
    numbers = tables.paper_numbers(PROJECT / "nbs/reports/paper_numbers.csv")
    cells = cells_of(tabled, numbers[numbers.dataset == "agedb_dir"])
    frame = tables.block(cells, "values", "plain")
    assert frame.loc["IRDA", ("paper: MAE ↓", "Few")] == "8.99" and frame.loc["Vanilla", ("paper: GM ↓", "All")] == "5.05"
    assert frame.loc["Mine_& co", ("paper: MAE ↓", "All")] == "–" and "Tables 3-7" in tables.table_markdown(cells, "")
    assert "paper: MAE" not in tables.table_markdown(cells_of(tabled), "")


def test_paper_numbers():
    n = tables.paper_numbers(PROJECT / "nbs/reports/paper_numbers.csv")
    assert len(n) == 592 and n.value.notna().all() and set(n["mark"]) == {"", "underlined"} and (n["mark"] != "").sum() == 39
    assert n.groupby("table").method.nunique().to_dict() == {3: 16, 4: 16, 5: 10, 6: 16, 7: 16}
    known = set(load_conf(PROJECT)["display"]["methods"]) | {"sota_vs_vanilla", "ours_vs_vanilla"}
    assert set(n.method) <= known
    assert n.groupby(["method"]).label.nunique().max() == 1   # one label of the paper per id


def test_the_papers_last_rows_by_arithmetic():
    """Recomputed independently of check_vs_vanilla. Five cells of 'SOTA' and 'OURS' do not follow from the rows above them."""
    n = tables.paper_numbers(PROJECT / "nbs/reports/paper_numbers.csv")
    ours, wrong = ["ISDA-R", "RISDA-R", "IRDA", "Meta-IRDA"], []
    for t in range(3, 8):
        for metric in n[n.table == t].metric.unique():
            for region in REGIONS:
                col = dict(n[(n.table == t) & (n.metric == metric) & (n.region == region)][["label", "value"]].values)
                for row, group in (("SOTA", [k for k in col if k not in ours and "VANILLA" != k and " vs. " not in k]), ("OURS", ours)):
                    gains = [col[k] - col["VANILLA"] if metric == "delta1" else col["VANILLA"] - col[k] for k in group]
                    if abs(max(gains) - col[f"{row} (Best) vs. VANILLA"]) > 5e-4: wrong.append((t, metric, region, row.lower() + "_vs_vanilla"))
    found = tables.check_vs_vanilla(n)
    assert wrong == list(found[["table", "metric", "region", "row"]].itertuples(index=False, name=None))
    assert wrong == [(3, "mae", "medium", "sota_vs_vanilla"), (3, "gm", "medium", "sota_vs_vanilla"), (5, "rmse", "few", "ours_vs_vanilla"),
                     (6, "mae", "medium", "sota_vs_vanilla"), (6, "gm", "medium", "sota_vs_vanilla")]


def test_reports_start_light():
    """What most reports import, and Student's intervals, bring neither PyTorch nor scipy.stats with them: 40 reports, a second each."""
    code = """import sys
from dir_nb.compendium import collect, curves, effects, label_norms, plots, study, tables
collect.t_interval([1., 2., 3.]); effects.Estimate(1., 1., 3.).interval(); effects.interval_p(1., 1., 3)
print([m for m in ('scipy.stats', 'torch', 'sklearn') if m in sys.modules])"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_losses_do_not_need_the_reports():
    code = "import sys, dir_nb.compendium.collect; print([m for m in ('matplotlib', 'torch', 'torchvision') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


SCREENS = 9.  # inches: a screen and a half at 110 dpi


@pytest.fixture(scope="module")
def crowd():
    """Runs of 45 methods: those that have a family, and others with long names. One loses far more than all others, one diverged once."""
    rng, sets = np.random.default_rng(0), ["abalone_dir", "vader_dir", "motorcycle_dir", "glucose_dir", "earth_dir"]
    known = ["l1", *(m for members in plots.method_families().values() for m in members)][:30]
    methods = [*known, *(f"a_method_of_2026_{i}" for i in range(len(known), 45))]
    good, trade = rng.normal(0, .04, 45), rng.uniform(0, .35, 45)
    good[0] = trade[0] = 0.
    rows = [{"dataset": d, "method": m, "seed": s, "region": r, "metric": k, "n": 9,
             "value": (3. + hard) * np.exp(good[i] + share * trade[i] + (9. if m == methods[-1] else 0) * (r == "all") * .1 + rng.normal(0, .03))}
            for d in sets for s, hard in enumerate(rng.normal(0, .3, 5)) for i, m in enumerate(methods)
            for ((r, k), share) in zip(ranking.MEASURES, (.1, -1., -.5))]
    runs = pd.DataFrame(rows)
    lost = (runs.method == methods[-2]) & (runs.seed == 3) & (runs.dataset == "vader_dir")
    return runs.assign(value=runs.value.mask(lost))


@pytest.fixture(scope="module")
def crowded(crowd):
    return ranking.ranking_table(crowd, {})


def readable(fig):
    assert fig.get_figheight() <= SCREENS and ranking.overlaps(fig) == []


def test_ranking_of_45_methods_is_readable(crowd, crowded):
    found, first = defined("table_ranking"), ranking.leaders(crowded, "irda")
    assert 3 <= len(first) <= 7 and "irda" in first
    fig = found["ranking_figure"](crowded, first)
    readable(fig)
    assert len(fig.axes[0].get_yticklabels()) == 45
    frame, lost = found["ranking_frame"](crowded), crowded[crowded.method == "a_method_of_2026_43"]
    assert len(frame) == 45 and frame.shape[1] == 9 and (lost["rank"] >= 9.).all()  # the last of 45 on one of five sets
    assert frame[frame.Method == "Vanilla"].iloc[0, 4] == "0"
    partly = crowd[~((crowd.method == "lds") & (crowd.dataset == "earth_dir"))]
    table = ranking.ranking_table(partly, {})
    caption = found["ranking_caption"](table, ranking.left_out(partly, table), {})
    assert "44 methods over 5 data sets" in caption and caption.endswith("lack them: lds.")
    assert f"difference is {ranking.critical_difference(44, 5):.1f} ranks: of 946 pairs" in caption
    few = table[table.region == "few"]
    slow = sum(a - b > few.critical.iloc[0] for a in few["rank"] for b in few["rank"])
    assert f"Few-shot {slow}," in caption and 0 < slow < 473


def test_plane_of_45_methods_is_readable(crowded):
    found, first = defined("fig_plane"), ranking.leaders(crowded, "irda")
    data = found["plane_table"](crowded, first)
    fig = found["plane_figure"](data, first)
    readable(fig)
    said = [t.get_text() for t in fig.axes[0].texts]
    assert len(data) == 45 and set(data.label[data.front | data.leader]) <= {re.split(r" \([+−]", w)[0] for w in said}
    far, = (w for w in said if w.startswith("a_method_of_2026_44"))  # beyond the axis, with its numbers
    assert re.search(r"\(\+1\d\d %, [+−]\d+ %\)", far) and fig.axes[0].get_xlim()[1] < 60
    beats = lambda a, b: a.x <= b.x and a.y <= b.y and (a.x < b.x or a.y < b.y)
    assert data.front.tolist() == [not any(beats(a, b) for a in data.itertuples()) for b in data.itertuples()]


def test_costs_of_45_methods_are_readable(crowded):
    rng, first, methods = np.random.default_rng(0), ranking.leaders(crowded, "irda"), sorted(set(crowded.method) - {"l1"})
    setting = {"arch": "resnet18", "size": 96, "batch": 32, "dim": 512, "bins": 100, "clusters": 1}
    steps = pd.DataFrame([setting | {"method": m, "extra": 10 ** rng.uniform(-5, .1), "state_mb": 10 ** rng.uniform(-3, 3)} for m in methods[1:]])
    training = pd.DataFrame([{"what": w, "method": m, "ratio": 10 ** rng.uniform(-.05, 1.2)} for w in ("mlp, 8 columns", "resnet8, 32 px, arrays") for m in methods])
    data = ranking.cost_table(crowded, steps, training)
    fig = defined("fig_cost")["cost_figure"](data, first, "a machine")
    readable(fig)
    assert fig.legends[0].get_title().get_text().replace("\n", " ").endswith(f"Not all costs were measured of: {plots.method_style(methods[0])[0]}.")
    assert [sum(line.get_marker() in ranking.MARKS for line in ax.lines) for ax in fig.axes] == [44, 44, 45, 45]


def test_fig_loops_says_what_was_measured(tmp_path):
    """Rows by the ratio at the largest size there is, a mark for each size, and by name what took too long for a loop."""
    found, times = defined("fig_loops"), {"slow": (2., 30., 400.), "level": (1., 1., 1.), "cubic": (3., 50.)}
    rows = [{"loss": k, "title": k.title(), "n": n, "ours": .001, "loop": .001 * r, "ratio": r, "ratio_q1": .9 * r, "ratio_q3": 1.1 * r, "machine": "a machine"}
            for k, ratios in times.items() for n, r in zip((256, 1024, 4096), ratios)]
    write_text(tmp_path / "bench/loops.csv", pd.DataFrame(rows).to_csv(index=False))
    found["project_root"] = lambda: tmp_path
    data = found["read_loops"]("bench")
    assert data.title.drop_duplicates().tolist() == ["Slow", "Cubic", "Level"] and data.n.tolist() == [256, 1024, 4096, 256, 1024, 256, 1024, 4096]
    fig = found["loops_figure"](data)
    marks = [line.get_marker() for line in fig.axes[0].lines]
    assert [marks.count(m) for m in "os^"] == [3, 3, 2] and legends(fig) == ["N = 256", "N = 1024", "N = 4096"]
    assert fig.legends[0].get_title().get_text().replace("\n", " ") == "a machine. Not timed, since the loop is too slow: Cubic at N = 4096."
    many = pd.concat([data.assign(title=data.title + f", labels are bins {i}", loss=data.loss + str(i)) for i in range(13)])
    readable(found["loops_figure"](many))
    with pytest.raises(FileNotFoundError, match="loops.ipynb"): found["read_loops"]("gone")


def test_norms_of_45_methods_are_readable(crowd):
    methods, rng = list(dict.fromkeys(crowd.method)), np.random.default_rng(0)
    sets = list(dict.fromkeys(crowd.dataset))
    summary = pd.DataFrame([{"dataset": d, "method": m, "region": r, "measure": k, "mean": rng.random(), "half_width": .1, "seeds": 5}
                            for d in sets for m in methods for r in REGIONS for k in ("size", "residual", "partial")])
    found, first = defined("fig_norm_order"), ["l1", "irda", "frob"]
    fig = found["order_figure"](summary, methods, {}, {}, first)
    readable(fig)
    assert legends(fig) == ["Vanilla", "IRDA", "Feature norms", "42 others"]
    orders = pd.DataFrame([{"dataset": d, "method": m, "seed": s, "region": "all", "tau": rng.random(), "train_mae": rng.random()} for d in sets for m in methods for s in range(3)])
    readable(found["methods_figure"](orders, methods, {}, {}, first))
