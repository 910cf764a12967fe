"""Data sets: the battery over every entry, splits against independent loops, the way in for one's own data, broken data of every kind."""
import hashlib, io, json, os, shutil, subprocess, sys, tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings, strategies as st

from dir_nb.bins import BinGrid
from dir_nb.conf import flat_dataset, load_conf
from dir_nb.data.catalog import check_dataset, prepare
from dir_nb.data.core import DataProblems, balanced_split, crossing, join_groups, open_prepared
from dir_nb.data.manifest import add_dataset, unpack_tar, unpacked
from dir_nb.metrics import DIRMetrics

os.environ["TQDM_DISABLE"] = "1"
ROOT = Path(__file__).resolve().parents[1]
SHARED = (ROOT / os.environ.get("DIR_NB_SHARED", "../shared")).resolve()
CONF = load_conf(ROOT)["datasets"]
LOADERS = {name: entry["loader"] for name, entry in CONF.items() if "loader" in entry and not {"published", "base"} & entry.keys()} # those: test_benchmarks
CONFIGS = {
    "abalone_dir": dict(title="A", units="rings", modality="tabular", bins=dict(low=1, high=30, width=1, value="left"),
                        shots=dict(many=20, few=8), split=dict(cap=5, seeds=2)),
    "vader_dir": dict(title="V", units="points", modality="text", bins=dict(low=-4, high=4, width=.1, precision="float32"),
                      shots=dict(many=20, few=8), split=dict(cap=5, seeds=2)),
    "motorcycle_dir": dict(title="M", units="px", modality="dense", bins=dict(low=7, high=60, width=1), shots=dict(many=100, few=30),
                           split=dict(seeds=2, block=16, gap=8, patch=8, cap=10), input=dict(flip=True, crop=2)),
    "stsb_dir": dict(title="S", units="points", modality="text", bins=dict(low=0, high=5, width=.1, value="left", precision="float32"),
                     shots=dict(many=10, few=3), split=dict(seeds=2), input=dict(length=8)),
    "stsb_encoder_dir": dict(title="S", units="points", modality="tabular", bins=dict(low=0, high=5, width=.1, value="left", precision="float32"),
                             shots=dict(many=10, few=3), split=dict(seeds=2), input=dict(encoder="made_up")),
}

CONFIGS["glucose_dir"] = dict(title="G", units="mg/dL", modality="series", bins=dict(low=40, high=400, width=10), shots=dict(many=30, few=10),
                              split=dict(seeds=2, block=2, gap=2, cap=8), input=dict(file="CGM.csv.gz", time="datetime", target="glucose",
                              channels=["glucose", "isig"], step=300, length=6, ahead=2, every=3, window=4, jitter=.1))
CONFIGS["earth_dir"] = dict(title="E", units="m", modality="image", bins=dict(low=0, high=400, width=20), shots=dict(many=60, few=30),
                            split=dict(seeds=2, block=5, gap=1, cap=8), input=dict(pixels=4, latitude=30))

def sums(folder: Path) -> None:
    "Write SHA256SUMS for what is in a folder."
    files = sorted(f for f in folder.iterdir() if f.name != "SHA256SUMS")
    (folder / "SHA256SUMS").write_text("".join(f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in files))

def made_up(name: str, folder: Path) -> None:
    "A tiny raw folder in the layout of a data set."
    from PIL import Image
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    if name == "abalone_dir":
        head = "sex,length,diameter,height,whole_weight,shucked_weight,viscera_weight,shell_weight,rings"
        rows = [f"{'MFI'[i % 3]},{','.join(f'{v:.6f}' for v in rng.random(7))},{int(min(29, 1 + rng.poisson(8)))}" for i in range(300)]
        (folder / "abalone.csv").write_text("\n".join([head, *rows]) + "\n")
    if name == "vader_dir":
        words = np.array("good bad film plot dull great actor scene slow fun new old".split())
        for f in ("amazonReviewSnippets", "movieReviewSnippets", "nytEditorialSnippets", "tweets"):
            text = [f"{i // 4}_{i % 4}\t{rng.normal(0, .5):.4f}\t{' '.join(words[rng.integers(0, 12, 9)])}" for i in range(300)]
            (folder / f"{f}_GroundTruth.txt").write_bytes("\r\n".join(text).encode())
    if name == "motorcycle_dir":
        slope = np.add.outer(np.linspace(8, 20, 100), np.linspace(0, 30, 120)).astype(np.float32)
        slope[:5] = np.inf
        Image.fromarray(rng.integers(0, 255, (100, 120, 3), dtype=np.uint8)).save(folder / "motorcycle_left.png")
        np.savez(folder / "motorcycle_disp.npz", arr_0=slope)
    if name == "glucose_dir":
        import pandas as pd
        at = pd.date_range("2010-03-24", periods=288 * 20, freq="5min")
        level = (150 + 90 * np.sin(np.arange(len(at)) / 40) + rng.normal(0, 4, len(at))).clip(40, 400).round()
        pd.DataFrame({"isig": level / 9, "datetime": at, "glucose": level}).drop(index=range(700, 720)).to_csv(folder / "CGM.csv.gz", index=False)
    if name == "earth_dir":
        from scipy.io import netcdf_file
        Image.fromarray(rng.integers(0, 255, (360, 720, 3), dtype=np.uint8)).save(folder / "bmng.jpg")
        with netcdf_file(folder / "etopo20.cdf", "w") as f:
            f.createDimension("y", 540); f.createDimension("x", 1081)
            f.createVariable("ETOPO20X1_1081", "d", ("x",))[:] = 20 + 1 / 6 + np.arange(1081) / 3
            f.createVariable("ROSE", "f", ("y", "x"))[:] = rng.uniform(-50, 400, (540, 361))[:, np.arange(1081) // 3]
    if name in ("stsb_dir", "stsb_encoder_dir"):
        words = np.array("a man dog plays runs in the park two women".split())
        for f, n in (("train_new", 600), ("dev_new", 100), ("test_new", 100)):
            rows = [f"{i}\tg\tf\t2012\t{i}\tnone\tnone\t{f} {i} {' '.join(words[rng.integers(0, 10, 5)])}\t{i} {' '.join(words[rng.integers(0, 10, 5)])}\t{rng.integers(0, 51) / 10:.3f}" for i in range(n)]
            (folder / f"{f}.tsv").write_text("\n".join(["index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore", *rows]) + "\n")
    sums(folder)

def contents(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted(folder.iterdir())}

# --- the battery

@pytest.mark.parametrize("name", LOADERS)
def test_battery_made_up(name, tmp_path, monkeypatch):
    made_up(name, tmp_path / "data" / name)
    monkeypatch.setattr("dir_nb.data.stsb.encode_pairs", lambda pairs, package: np.stack([np.random.default_rng(list(map(ord, a + b))).normal(size=6) for a, b in pairs]))
    prepare(name, {"loader": LOADERS[name], **CONFIGS[name]}, tmp_path)
    check_dataset(open_prepared(name, tmp_path))
    first = contents(tmp_path / "prepared" / name)
    prepare(name, {"loader": LOADERS[name], **CONFIGS[name]}, tmp_path)
    assert contents(tmp_path / "prepared" / name) == first, "preparing twice gives other bytes"
    assert not [f for f in (tmp_path / "prepared").iterdir() if f.name.startswith(".")]

@pytest.mark.parametrize("name", [d for d in LOADERS if "stsb" not in d]) # those that are embedded
def test_battery_real(name, tmp_path):
    if not (ROOT / "data" / name).is_dir(): pytest.skip(f"data/{name} is not here: dvc pull data.dvc")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).symlink_to(ROOT / "data" / name)
    prepare(name, flat_dataset(CONF[name]), tmp_path)
    p = open_prepared(name, tmp_path)
    check_dataset(p)
    assert p.n_seeds == 10
    for s in range(p.n_seeds):
        counts = [p.seed(s).regions.mask(r).sum() for r in ("many", "medium", "few")]
        assert min(counts) > 0, f"seed {s}: an empty shot region"
    assert len({row.tobytes() for row in p.splits}) == p.n_seeds, "every seed draws its own split"
    sums_file = (ROOT / "data" / name / "SHA256SUMS").read_text()
    assert all(line.split()[0] in (ROOT / "data" / name / "PROVENANCE.md").read_text() for line in sums_file.splitlines())

def test_stsb_real(tmp_path):
    raw = SHARED / "data/stsb_dir"
    if not raw.is_dir(): pytest.skip(f"{raw} is not here: it takes STS-B-DIR's files")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/stsb_dir").symlink_to(raw)
    prepare("stsb_dir", flat_dataset(CONF["stsb_dir"]), tmp_path)
    p = open_prepared("stsb_dir", tmp_path)
    check_dataset(p)
    assert [int((p.splits[0] == k).sum()) for k in range(3)] == [5249, 1000, 1000] and len({row.tobytes() for row in p.splits}) == 1

def test_stsb_encoder_real(tmp_path):
    raw, config = SHARED / "data/stsb_dir", flat_dataset(CONF["stsb_encoder_dir"])
    if not raw.is_dir(): pytest.skip(f"{raw} is not here: it takes STS-B-DIR's files")
    for package in ("sentence_transformers", config["input"]["encoder"]): pytest.importorskip(package, reason="pip install dir-nb[encoder]")
    folder = tmp_path / "data/stsb_encoder_dir"
    folder.mkdir(parents=True)
    for f in ("train_new.tsv", "dev_new.tsv", "test_new.tsv"): # a few lines, from all sources
        head, *lines = (raw / f).read_text(encoding="utf-8").split("\n")
        (folder / f).write_text("\n".join([head, *filter(None, lines[::20])]) + "\n", encoding="utf-8")
    prepare("stsb_encoder_dir", config, tmp_path)
    p = open_prepared("stsb_encoder_dir", tmp_path)
    assert p.inputs.shape[1] == 768 and (p.inputs[:, :384] >= 0).all()
    assert np.corrcoef(p.inputs[:, 384:].sum(1), p.targets)[0, 1] > .6, "the cosine of the two sentences is their likeness"

def test_abalone_splits_by_a_loop(tmp_path):
    made_up("abalone_dir", tmp_path / "data/abalone_dir")
    prepare("abalone_dir", {"loader": LOADERS["abalone_dir"], **CONFIGS["abalone_dir"]}, tmp_path)
    p = open_prepared("abalone_dir", tmp_path)
    total = Counter(p.targets.tolist())
    for row in p.splits:
        want = {y: min(n // 3, 5) for y, n in total.items() if n >= 3}
        for k in (1, 2): assert Counter(p.targets[row == k].tolist()) == want

def test_motorcycle_blocks_are_apart():
    from dir_nb.data.motorcycle import cut_blocks
    at, block = cut_blocks(np.stack(np.meshgrid(np.arange(500), np.arange(741), indexing="ij"), -1), 64, 8, 32)
    lo = np.array([at[block == b].reshape(-1, 2).min(0) for b in range(70)])
    hi = np.array([at[block == b].reshape(-1, 2).max(0) for b in range(70)])
    for i in range(70):
        for j in range(i): # pixels strictly between two blocks, along the axis where they are further apart
            assert max((lo[i] - hi[j]).max(), (lo[j] - hi[i]).max()) - 1 >= 8

def test_vader_texts_stay_whole(tmp_path):
    if not (ROOT / "data/vader_dir").is_dir(): pytest.skip("data/vader_dir is not here: dvc pull data.dvc")
    from dir_nb.data.vader import read_ratings, tokenize
    texts, _, owners = read_ratings(ROOT / "data/vader_dir")
    config = flat_dataset(CONF["vader_dir"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/vader_dir").symlink_to(ROOT / "data/vader_dir")
    prepare("vader_dir", config, tmp_path)
    splits = open_prepared("vader_dir", tmp_path).splits
    same = [" ".join(tokenize(t)) for t in texts]
    for row in splits:
        for labels in (owners, same):
            seen: dict[str, int] = {}
            assert all(seen.setdefault(label, int(k)) == k for label, k in zip(labels, row))

# --- splits

@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 15)), min_size=1, max_size=150), st.integers(1, 6), st.integers(0, 3))
def test_balanced_split_properties(samples, cap, seed):
    bins, groups = (np.array(v) for v in zip(*samples))
    quota = np.minimum(np.bincount(bins) // 3, cap)
    alone = balanced_split(bins, cap=cap, seed=seed)
    for k in (1, 2): assert (np.bincount(bins[alone == k], minlength=len(quota)) == quota).all()
    joined = balanced_split(bins, groups, cap, seed)
    for k in (1, 2): assert (np.bincount(bins[joined == k], minlength=len(quota)) <= quota).all()
    assert all(len(set(joined[groups == g])) == 1 for g in set(groups.tolist()))
    assert not crossing(joined[None], groups)
    assert (balanced_split(bins, groups, cap, seed) == joined).all()

def test_balanced_split_is_fast():
    rng = np.random.default_rng(0)
    bins = np.minimum(rng.geometric(.03, 300_000), 150)
    import time
    start = time.perf_counter()
    balanced_split(bins, cap=30)
    assert time.perf_counter() - start < 3

@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=40))
def test_join_groups_by_a_loop(pairs):
    a, b = (list(v) for v in zip(*pairs))
    label = list(range(len(a)))
    for _ in label: # spread the smallest label until nothing changes
        for i in range(len(a)):
            for j in range(len(a)):
                if a[i] == a[j] or b[i] == b[j]: label[i] = label[j] = min(label[i], label[j])
    got = join_groups(a, b)
    assert all((got[i] == got[j]) == (label[i] == label[j]) for i in range(len(a)) for j in range(len(a)))

# --- reading

def test_statistics_come_from_training_only(tmp_path):
    made_up("abalone_dir", tmp_path / "data/abalone_dir")
    prepare("abalone_dir", {"loader": LOADERS["abalone_dir"], **CONFIGS["abalone_dir"]}, tmp_path)
    p = open_prepared("abalone_dir", tmp_path)
    x = p.inputs[p.splits[0] == 0].astype(np.float64)
    for k, ds in ((0, p.seed(0).train), (2, p.seed(0).test)):
        want = (p.inputs[p.splits[0] == k] - x.mean(0)) / x.std(0)
        assert np.allclose(ds[:][0].numpy(), want, atol=1e-4)

def test_float32_targets_fall_into_the_bins_that_were_counted():
    grid = BinGrid(-4, 4, .1, precision="float32")
    y = np.round(np.arange(-40, 41) * .1, 10)
    assert torch.equal(grid.index(torch.tensor(y)), grid.index(torch.tensor(y, dtype=torch.float32)))
    assert grid.index([-.3]).item() == 37 and grid.index([.3]).item() == 43

@pytest.mark.parametrize("low, high", [(0, 5), (-5, 5)])
def test_evaluation_has_the_bins_of_training(low, high, tmp_path):
    "One-decimal targets on a float64 grid: as the table has them, as batches have them and as `predict` hands them, in the bin of the decimal."
    y = np.tile(np.round(np.arange(10 * low, 10 * high + 1) / 10, 1), 3)
    config = dict(title="D", units="1", modality="tabular", manifest="d.csv", bins=dict(low=low, high=high, width=.1), shots=dict(many=3, few=2), split=dict(cap=1, seeds=1))
    (tmp_path / "data/d_dir").mkdir(parents=True)
    (tmp_path / "data/d_dir/d.csv").write_text("target,a\n" + "".join(f"{v},{i}\n" for i, v in enumerate(y)))
    prepare("d_dir", config, tmp_path)
    view = open_prepared("d_dir", tmp_path).seed(0)
    for k, ds in enumerate((view.train, view.val, view.test)):
        want = [min(round(10 * v) - 10 * low, 10 * (high - low) - 1) for v in ds.targets.tolist()] # the decimal, by whole numbers
        for targets in (ds.targets, ds.targets.double(), y[ds.rows]): assert view.grid.index(targets).tolist() == want
        metrics = DIRMetrics(view.grid, view.regions).update(ds.targets.double() + 1, ds.targets.double())
        assert {r: metrics.compute()[r]["n"] for r in view.regions.names} == {r: int(view.split_counts(k)[view.regions.mask(r)].sum()) for r in view.regions.names}
        assert torch.equal(view.split_counts(k), torch.bincount(torch.tensor(want), minlength=view.grid.n_bins))

def test_corrupt_prepared_folders(tmp_path):
    made_up("motorcycle_dir", tmp_path / "data/motorcycle_dir")
    prepare("motorcycle_dir", {"loader": LOADERS["motorcycle_dir"], **CONFIGS["motorcycle_dir"]}, tmp_path)
    folder = tmp_path / "prepared/motorcycle_dir"
    (folder / "masks.npy").unlink()
    with pytest.raises(DataProblems, match=r"masks\.npy"): open_prepared("motorcycle_dir", tmp_path)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "modality": "sound"}))
    with pytest.raises(DataProblems, match="'sound' is unknown"): open_prepared("motorcycle_dir", tmp_path)
    np.save(folder / "targets.npy", np.array([{}], dtype=object), allow_pickle=True)
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"targets\.npy cannot be read"): open_prepared("motorcycle_dir", tmp_path)

# --- one's own data

FACES = dict(title="Faces", units="years", modality="image", manifest="faces.csv", archive="faces.tar",
             bins=dict(low=0, high=121, width=1, value="left"), shots=dict(many=100, few=20), split=dict(cap=12, seeds=2),
             input=dict(size=32, flip=True))

def project(folder: Path) -> Path:
    "A new DVC project with comments in its conf/grid.yaml."
    folder.mkdir()
    (folder / "conf").mkdir()
    (folder / "conf/grid.yaml").write_text("# what to run\ndatasets: [] # none yet\nmethods: []\nseeds: [0]\n")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    return folder

@pytest.fixture
def dvc_project(tmp_path):
    pytest.importorskip("dvc")
    if not shutil.which("git"): pytest.skip("git is not installed")
    return project(tmp_path / "project")

def toy(folder: Path) -> tuple[Path, dict]:
    "A table with a group column and repeated rows."
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = [f"{min(int(rng.geometric(.15)), 19)},{rng.normal():.5f},{i // 3}" for i in range(200)]
    (folder / "toy.csv").write_text("\n".join(["target,a,group", *rows, *rows[:4]]) + "\n")
    return folder, dict(title="Toy", units="kg", modality="tabular", manifest="toy.csv", bins=dict(low=0, high=20, width=1, value="left"),
                        shots=dict(many=20, few=5), split=dict(cap=5, seeds=2))

def test_add_dataset(dvc_project, tmp_path):
    source, config = toy(tmp_path / "own")
    add_dataset("toy_dir", source, config, dvc_project)
    before = {f: (dvc_project / f).read_bytes() for f in ("data.dvc", "conf/grid.yaml", "conf/datasets/toy_dir.yaml")}
    assert "# none yet" in before["conf/grid.yaml"].decode()
    conf = load_conf(dvc_project)
    assert conf["grid"]["datasets"] == ["toy_dir"] and conf["datasets"]["toy_dir"]["model"] == {"name": "mlp"}
    assert conf["datasets"]["toy_dir"]["display"] == {"title": "Toy", "units": "kg"}
    add_dataset("toy_dir", source, config, dvc_project)
    assert {f: (dvc_project / f).read_bytes() for f in before} == before, "adding twice changes something"
    prepare("toy_dir", root=dvc_project)
    check_dataset(open_prepared("toy_dir", dvc_project))
    add_dataset("linked_dir", source, config, dvc_project, link=True)
    assert (dvc_project / "data/linked_dir").is_symlink() and (dvc_project / "data.dvc").read_bytes() == before["data.dvc"]
    (source / "toy.csv").write_text((source / "toy.csv").read_text() + "3,1.0,900\n")
    with pytest.raises(ValueError, match="holds something else"): add_dataset("toy_dir", source, config, dvc_project)

def listing(folder: Path) -> set[str]:
    "The files that a project's data.dvc names."
    command = [sys.executable, "-m", "dvc", "list", "--dvc-only", "-R", ".", "data"]
    return set(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split())

def test_add_dataset_in_a_clone_keeps_the_other_data(tmp_path):
    "Data that were not pulled stay in data.dvc, and can be pulled afterwards."
    pytest.importorskip("dvc")
    clone, (source, config) = tmp_path / "clone", toy(tmp_path / "own")
    if not (ROOT / ".git").exists(): pytest.skip("not a git checkout")
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    before = listing(clone)
    assert len(before) == yaml.safe_load((clone / "data.dvc").read_text())["outs"][0]["nfiles"] and not (clone / "data").exists()
    add_dataset("toy_dir", source, config, clone)
    assert listing(clone) == before | {"toy_dir/toy.csv"}
    subprocess.run([sys.executable, "-m", "dvc", "pull", "-q", "data.dvc"], cwd=clone, check=True)
    assert {str(f.relative_to(clone / "data")) for f in (clone / "data").rglob("*") if f.is_file()} == listing(clone)

def test_add_dataset_without_the_store_changes_nothing(tmp_path):
    "What cannot be read cannot be kept: refused, and data.dvc is as it was."
    pytest.importorskip("dvc")
    clone, (source, config) = tmp_path / "clone", toy(tmp_path / "own")
    if not (ROOT / ".git").exists(): pytest.skip("not a git checkout")
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    shutil.rmtree(clone / "dvcstore")
    before = (clone / "data.dvc").read_bytes()
    with pytest.raises(ValueError, match="`dvc add data/toy_dir` failed"): add_dataset("toy_dir", source, config, clone)
    assert (clone / "data.dvc").read_bytes() == before

def test_add_dataset_after_a_kill(dvc_project, tmp_path):
    "A run killed while it copies leaves nothing that the next one records."
    source, config = toy(tmp_path / "own")
    killed = "import os, shutil, sys, json; from pathlib import Path; from dir_nb.data.manifest import add_dataset\n" \
             "def copytree(a, b): Path(b).mkdir(); (Path(b) / 'half.csv').write_text('half'); os.kill(os.getpid(), 9)\n" \
             "shutil.copytree = copytree; add_dataset(*json.loads(sys.argv[1]))"
    for name in ("toy_dir", "other_dir"):
        args = json.dumps([name, str(source), config, str(dvc_project)])
        assert subprocess.run([sys.executable, "-c", killed, args], cwd=ROOT).returncode == -9
    assert len(list((dvc_project / "data").glob(".*_dir.*/*/half.csv"))) == 2
    add_dataset("toy_dir", source, config, dvc_project)
    assert listing(dvc_project) == {"toy_dir/toy.csv"}
    assert [f.name[:11] for f in (dvc_project / "data").iterdir() if f.name.startswith(".")] == [".other_dir."]

def test_add_from_the_command_line(dvc_project, tmp_path):
    "Without --config the file in conf/datasets holds, and the data set joins the grid; without either, the message says what is lacking."
    source, config = toy(tmp_path / "own")
    env = {k: v for k, v in os.environ.items() if k != "DIR_NB_ROOT"} | {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}
    add = lambda name: subprocess.run([Path(sys.executable).parent / "dir-nb", "data", "add", name, source], cwd=dvc_project, env=env, capture_output=True, text=True)
    (dvc_project / "dvc.yaml").write_text("stages: {}\n")
    (dvc_project / "conf/datasets").mkdir()
    own = {k: v for k, v in config.items() if k not in ("title", "units")} | {"display": {"title": "Toy", "units": "kg"}, "model": {"name": "mlp"}}
    (dvc_project / "conf/datasets/toy_dir.yaml").write_text(yaml.safe_dump(own | {"methods": "kin_dir"}))
    (dvc_project / "conf/datasets/kin_dir.yaml").write_text(yaml.safe_dump(own | {"methods": {"all": {"train.lr_factor": 1.0}}}))
    done = add("other_dir")
    assert done.returncode == 1 and "other_dir" in done.stderr and "Traceback" not in done.stderr
    done = add("toy_dir")
    assert done.returncode == 0, done.stderr
    conf = load_conf(dvc_project)
    assert conf["grid"]["datasets"] == ["toy_dir"] and flat_dataset(conf["datasets"]["toy_dir"]).items() >= config.items()
    assert (dvc_project / "data/toy_dir/toy.csv").is_file()
    assert conf["datasets"]["toy_dir"]["methods"] == {"all": {"train.lr_factor": 1.0}}
    assert yaml.safe_load((dvc_project / "conf/datasets/toy_dir.yaml").read_text())["methods"] == "kin_dir"  # it goes on naming it

def test_add_dataset_without_dvc_project(tmp_path):
    pytest.importorskip("dvc")
    source, config = toy(tmp_path / "own")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match="`dvc add data` failed"): add_dataset("toy_dir", source, config, tmp_path / "bare")
    assert not (tmp_path / "bare/conf").exists()

def test_missing_dvc_is_said_first(tmp_path, monkeypatch):
    source, config = toy(tmp_path / "own")
    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "dvc" else real(name, *a))
    with pytest.raises(ValueError, match="dvc is not installed"): add_dataset("toy_dir", source, config, tmp_path)
    assert not (tmp_path / "data").exists()

def chain_of_links(path: Path, outside: Path) -> None:
    "A tar in the manner of CVE-2025-4517: links whose resolved path is longer than the system resolves, then a way out through them."
    long, steps, at = "d" * 247, "abcdefghijklmnop", ""
    def entry(name, kind, link="", content=b""):
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, len(content)
        tar.addfile(info, io.BytesIO(content))
    with tarfile.open(path, "w") as tar:
        for step in steps:
            entry(os.path.join(at, long), tarfile.DIRTYPE)
            entry(os.path.join(at, step), tarfile.SYMTYPE, long)
            at = os.path.join(at, long)
        way = "/".join([*steps, "l" * 254])
        entry(way, tarfile.SYMTYPE, "../" * len(steps))
        entry("escape", tarfile.SYMTYPE, way + "/.." * len(steps) + str(outside))
        entry("flag", tarfile.LNKTYPE, "escape/flag")
        entry("flag", tarfile.REGTYPE, content=b"changed")
        entry("escape/new", tarfile.REGTYPE, content=b"landed")

def test_a_chain_of_links_leads_nowhere(tmp_path):
    "An archive that deceives `extractall(filter='data')` of Python below 3.11.13 writes nothing outside, nor do its parts without links."
    outside, raw = tmp_path / "outside", tmp_path / "raw"
    outside.mkdir(), raw.mkdir()
    (outside / "flag").write_text("as it was")
    chain_of_links(raw / "chain.tar", outside)
    with pytest.raises(DataProblems, match="is a link or a device"):
        with unpacked(raw, "chain.tar"): pass
    assert {f.name: f.read_text() for f in outside.iterdir()} == {"flag": "as it was"}
    (raw / "dest").mkdir()
    with pytest.raises(ValueError): unpack_tar(raw / "chain.tar", raw / "dest")
    assert not [f for f in (raw / "dest").rglob("*") if f.is_symlink()]
    if sys.version_info[:3] == (3, 11, 7): # the archive is what it is meant to be: this Python's own filter is deceived by it
        (raw / "own").mkdir()
        with tarfile.open(raw / "chain.tar") as tar: tar.extractall(raw / "own", filter="data")
        assert (outside / "new").read_text() == "landed"

def faces() -> Path:
    folder = SHARED / "data/faces"
    if not (folder / "faces.tar").is_file(): pytest.skip(f"no face images below DIR_NB_SHARED ({SHARED.name}/data/faces)")
    return folder

def test_real_faces(dvc_project):
    folder = faces()
    add_dataset("faces_dir", folder, FACES, dvc_project, link=True)
    prepare("faces_dir", root=dvc_project)
    p = open_prepared("faces_dir", dvc_project)
    check_dataset(p)
    assert (p.n, p.inputs.shape[1:]) == (11_032, (3, 32, 32))
    view, want = p.seed(1), {"train": (6944, 1982, 174), "val": (360, 468, 138), "test": (360, 468, 138)}
    for k, numbers in enumerate(want.values()):
        assert tuple(int(view.split_counts(k)[view.regions.mask(r)].sum()) for r in ("many", "medium", "few")) == numbers
    assert "data/faces_dir" not in (dvc_project / "data.dvc").read_text()

def test_broken_faces(tmp_path):
    folder = faces()
    raw = tmp_path / "data/faces_dir"
    raw.mkdir(parents=True)
    with tarfile.open(folder / "faces.tar") as tar: tar.extractall(raw, members=list(tar)[:200], filter="data")
    lines = (folder / "faces.csv").read_text().splitlines()
    rows = [r for r in lines[1:] if (raw / r.split(",")[1]).is_file()]
    age, path, _ = rows[0].split(",")
    other = rows[1].split(",")[1]
    whole = (raw / other).read_bytes()
    (raw / other).write_bytes(whole[:len(whole) // 2]) # a truncated photograph
    (raw / rows[2].split(",")[1]).unlink()
    shutil.copy(raw / path, raw / "faces/copy.jpg")
    rows[0] = f"{age},{path},train"
    rows += [f"{age},faces/copy.jpg,test", "30,/etc/passwd,train", "nan,faces/copy.jpg,test"]
    (raw / "faces.csv").write_text("\n".join([lines[0], *rows]) + "\n")
    with pytest.raises(DataProblems) as e: prepare("faces_dir", {k: v for k, v in FACES.items() if k != "archive"}, tmp_path)
    text = str(e.value)
    for part in (f"{other} cannot be read", "is missing", "leads outside", "not finite", "same content in different splits", path):
        assert part in text
    assert not (tmp_path / "prepared/faces_dir").exists()
