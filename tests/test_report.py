"Collecting, figures and tables together, on small made-up results."
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
from dir_nb.compendium import plots, tables

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


def density():
    grid = BinGrid(0, 10, 1)
    counts = np.array([0, 1, 8, 30, 150, 400, 220, 90, 25, 5])
    import torch
    view = type("View", (), {"name": "toy_dir", "units": "mm", "grid": grid, "counts": torch.tensor(counts), "regions": ShotRegions.by_count(torch.tensor(counts))})
    return plots.density_table(view, counts / counts.sum(), "Toy-DIR")


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


FIGURES = {"fig_label_density": lambda root, t: (plots.label_density, density()),
           "fig_error_by_bin": lambda root, t: (plots.error_by_bin, plots.error_table(t[1], {"toy_dir": ("Toy-DIR", "mm")}, points=6)),
           "fig_feature_similarity": lambda root, t: (plots.feature_similarity, plots.similarity_table("toy_dir", root=root))}


@pytest.mark.parametrize("stem", FIGURES)
def test_figures_are_equal_byte_for_byte(stem, root, tabled, tmp_path):
    draw, data = FIGURES[stem](root, tabled)
    for folder in ("a", "b"): plots.save_figure(draw(data), stem, data, tmp_path / folder)
    for end in ("png", "pdf", "csv"):
        a, b = ((tmp_path / f / "figures" / f"{stem}.{end}").read_bytes() for f in "ab")
        assert a == b and len(a) > 500, end
    back = read_csv(tmp_path / "a" / "figures" / f"{stem}.csv")   # the picture can be drawn again from its csv
    plots.save_figure(draw(back), stem, back, tmp_path / "c")
    assert (tmp_path / "c" / "figures" / f"{stem}.png").read_bytes() == (tmp_path / "a" / "figures" / f"{stem}.png").read_bytes()


def test_a_figure_leaves_matplotlib_as_it_was():
    import matplotlib as mpl
    mpl.rcParams["font.size"] = 7.5
    plots.label_density(density())
    assert mpl.rcParams["font.size"] == 7.5


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
    known = set(plots.METHODS_STYLE) | {"sota_vs_vanilla", "ours_vs_vanilla"}
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


def test_losses_do_not_need_the_reports():
    code = "import sys, dir_nb.compendium.collect; print([m for m in ('matplotlib', 'torch', 'torchvision') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
