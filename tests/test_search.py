"""The book of trials: a search that is killed goes on, two processes share one journal, and without optuna it says what is lacking."""
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pandas as pd
import pytest
from project import ROOT

from dir_nb.compendium import search
from dir_nb.compendium.search import TrialBook, draw_settings, search_method
from dir_nb.paths import write_text

DATA, SEEDS = ("toy_dir", "other_dir"), (0, 1)
RUNS = len(DATA) * len(SEEDS)
SCRIPT = """
import os, sys
from pathlib import Path
from test_search import search, slow_run, wait_for
root, slow_run.seconds, search.run_error = Path(sys.argv[1]), float(sys.argv[2]), slow_run
(root / f"{os.getpid()}.ready").touch()
wait_for(lambda: len(list(root.glob("*.ready"))) >= int(sys.argv[3]))
table = search.search_method("l1", root, workers=1)
if table is not None: table.to_csv(root / f"{os.getpid()}.csv", index=False)
"""


def slow_run(config, root):
    """Trains nothing: writes down that it was asked for, takes its time and makes up errors."""
    with open(root / "asked", "a") as f: f.write(json.dumps([os.getpid(), config["train"]["lr"], config["dataset"], config["seed"]]) + "\n")
    time.sleep(slow_run.seconds)
    mae = config["train"]["lr"] * (1 + config["seed"]) / 3
    return {r: {"mae": mae, "bmae": mae / 7} for r in ("all", "many", "medium", "few")}


@pytest.fixture
def here(monkeypatch):
    """Runs of this process, too, train nothing."""
    monkeypatch.setattr(slow_run, "seconds", 0, raising=False)
    monkeypatch.setattr(search, "run_error", slow_run)


@pytest.fixture
def root(tmp_path):
    """Two made-up data sets, of which only the digest is read, and a search over eight settings."""
    write_text(tmp_path / "conf/grid.yaml", json.dumps({"datasets": list(DATA), "methods": ["l1"], "seeds": [0]}))
    write_text(tmp_path / "conf/methods/l1.yaml", (ROOT / "conf/methods/l1.yaml").read_text())
    for d in DATA:
        write_text(tmp_path / f"conf/datasets/{d}.yaml", (ROOT / "conf/datasets/abalone_dir.yaml").read_text())
        write_text(tmp_path / f"prepared/{d}/meta.json", "{}")
    rates = [2.0**k for k in range(1, 8)]
    write_text(tmp_path / "conf/search.yaml", json.dumps({
        "round": 3, "draws": 8, "metric": "bmae", "datasets": {d: {"seeds": list(SEEDS)} for d in DATA}, "spaces": {"l1": {"lr_factor": rates}}}))
    return tmp_path


def start(root, seconds, together=1):
    """A search in a process of its own, which begins when so many are ready."""
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(root), str(seconds), str(together)], cwd=ROOT / "tests", env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


def asked(root):
    return [json.loads(line) for line in (root / "asked").read_text().splitlines()] if (root / "asked").is_file() else []


def wait_for(condition, seconds=100):
    for _ in range(int(seconds / .05)):
        if condition(): return
        time.sleep(.05)
    raise AssertionError("it did not come")


def check_table(table):
    drawn = draw_settings({"lr_factor": [2.0**k for k in range(1, 8)]}, 8, 3)
    assert [json.loads(s) for s in table.groupby("draw").setting.first()] == drawn
    assert list(zip(table.dataset, table.seed)) == [(d, s) for _ in drawn for d in DATA for s in SEEDS]
    factor = table.setting.map(lambda s: json.loads(s).get("lr_factor", 1.))
    rate = table.mae / (1 + table.seed) * 3 / factor
    assert rate.to_numpy() == pytest.approx(rate[0]) and table.bmae.to_numpy() == pytest.approx(table.mae.to_numpy() / 7)


def test_killed_search_goes_on(root, here):
    """What was finished is not run again; the setting that was in hand is, as a whole."""
    first = start(root, .1)
    wait_for(lambda: len(asked(root)) > 2 * RUNS + 1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = asked(root)
    table = search_method("l1", root, workers=1)
    again = Counter(tuple(run) for _, *run in asked(root)[len(before):])
    assert set(again.values()) == {1}
    done = len(before) // RUNS # settings of which all runs were asked for; the last of them may not have been told
    assert sum(again.values()) in ((8 - done) * RUNS, (9 - done) * RUNS)
    check_table(table)
    pd.testing.assert_frame_equal(search_method("l1", root, workers=1), table)
    assert len(asked(root)) == len(before) + sum(again.values()) # all is known: nothing was run
    assert [p.name for p in (root / "scratch/search").iterdir() if "-" in p.name] == [] # nobody's lock is left


def test_two_processes_share_a_journal(root):
    both = [start(root, .1, together=2) for _ in range(2)]
    assert [p.wait(120) for p in both] == [0, 0]
    runs = asked(root)
    assert set(Counter(tuple(run) for _, *run in runs).values()) == {1} and len(runs) == 8 * RUNS
    assert {pid for pid, *_ in runs} == {p.pid for p in both} # neither did it alone
    tables = [f for p in both if (f := root / f"{p.pid}.csv").is_file()]
    assert tables # of who came last, at least
    for f in tables: check_table(pd.read_csv(f))


def test_failed_search_goes_on(root, here, monkeypatch):
    """After an error in a run the setting is tried again, although its process still lives."""
    def fail(config, root):
        if config["train"]["lr"] == max(rates): raise RuntimeError("no memory")
        return slow_run(config, root)
    rates = [.004 * 2.0**k for k in range(8)]
    monkeypatch.setattr(search, "run_error", fail)
    with pytest.raises(RuntimeError, match="no memory"): search_method("l1", root, workers=1)
    assert 0 < len(asked(root)) < 8 * RUNS
    monkeypatch.setattr(search, "run_error", slow_run)
    check_table(search_method("l1", root, workers=1))
    assert len(asked(root)) == 8 * RUNS


def test_changed_settings_are_another_study(root, here):
    """Trials of other code, data or entries are neither read nor overwritten."""
    check_table(search_method("l1", root, workers=1))
    entry = root / "conf/datasets/toy_dir.yaml"
    write_text(entry, entry.read_text().replace("batch_size: 128", "batch_size: 7"))
    check_table(search_method("l1", root, workers=1))
    assert len(asked(root)) == 16 * RUNS


@pytest.mark.parametrize("folder", sorted((ROOT / "results/search").glob("round_*")), ids=lambda p: p.name)
def test_published_draws_are_what_is_enqueued(folder, tmp_path):
    """The trials of a book made from the recorded space are the recorded settings, in their order and with optuna's parameters."""
    spaces = json.loads((folder / "spaces.json").read_text())
    for method, plan in spaces.items():
        recorded = [json.loads(s) for s in pd.read_csv(folder / f"{method}.csv").groupby("draw").setting.first()]
        settings = draw_settings(plan["space"] or {}, plan["draws"], plan["round"] if plan["round"] > 1 else 0)
        with TrialBook(tmp_path / f"{method}.journal", method, settings) as book:
            trials = list(book)
        assert [t.user_attrs["draw"] for t in trials] == list(range(len(recorded)))
        plain = lambda v: json.loads(v) if isinstance(v, str) and v[:1] in "[{" else v
        assert [{k: plain(v) for k, v in t.params.items()} for t in trials] == recorded, method


def test_without_optuna(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install dir-nb\[search\]"): search_method("l1", root)
    assert not asked(root) and not (root / "scratch").exists()
