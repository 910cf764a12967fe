"""Pictures that are stored as JPEG train to the bits of decoded ones; what is torn is named."""
import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dir_nb.data.core import DataProblems, open_prepared
from dir_nb.data.manifest import prepare_manifest
from dir_nb.data.packed import pillow_jpeg
from dir_nb.paths import write_text
from dir_nb.run import run_seed

LOSS = {"loss": {"class": "dir_nb.losses.pointwise.L1Loss"}}


def photo(level, size, rng):
    """Smooth, and the brighter the older."""
    coarse = Image.fromarray(np.uint8(np.clip(15 * level + rng.integers(0, 60, (4, 4, 3)), 0, 255)))
    return coarse.resize((size, size), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The same JPEGs of 12 px as two data sets, decoded and not, and a third that has to be scaled."""
    root, rng = tmp_path_factory.mktemp("project"), np.random.default_rng(0)
    y = np.minimum(rng.geometric(.15, 160), 12)
    table = pd.DataFrame({"path": [f"{i}.jpg" for i in range(len(y))], "target": y})
    data = dict(display=dict(title="Photos", units="years"), modality="image", manifest="photos.csv", split=dict(cap=5, seeds=1),
                bins=dict(low=1, high=13, width=1, value="left"), shots=dict(many=15, few=6),
                model=dict(name="resnet", arch="resnet8", stem="half"), train=dict(epochs=2, batch_size=32))
    sets = {"arrays_dir": {"size": 12}, "jpeg_dir": {"size": 12, "store": "jpeg"}, "scaled_dir": {"size": 8, "store": "jpeg"}}
    write_text(root / "conf/grid.yaml", json.dumps(dict(datasets=list(sets), methods=["l1"], seeds=[0])))
    write_text(root / "conf/methods/l1.yaml", json.dumps({"parts": LOSS}))
    for name, opts in sets.items():
        entry = data | {"input": opts | {"flip": True, "crop": 1}}
        if name != "scaled_dir": entry["train"] = data["train"] | {"num_workers": 2}
        write_text(root / f"conf/datasets/{name}.yaml", json.dumps(entry))
        write_text(root / f"data/{name}/photos.csv", table.to_csv(index=False))
        same = np.random.default_rng(1)
        for i, level in enumerate(y): photo(level, 12, same).save(root / f"data/{name}/{i}.jpg", quality=85)
        prepare_manifest(name, entry | entry["display"], root)
    return root


def test_the_same_pixels(project):
    arrays, packed, scaled = (open_prepared(f"{k}_dir", project).inputs for k in ("arrays", "jpeg", "scaled"))
    assert not (project / "prepared/jpeg_dir/inputs.npy").exists()
    rows = np.random.default_rng(0).permutation(160)
    assert (packed[rows] == arrays[rows]).all() and (packed[:] == arrays[:]).all()
    with Image.open(project / "data/scaled_dir/7.jpg") as im: want = np.asarray(im.resize((8, 8), Image.Resampling.BILINEAR))
    off = np.abs(scaled[7] - want.transpose(2, 0, 1).astype(int))
    assert scaled.shape == (160, 3, 8, 8) and 0 < off.max() < 16 and off.mean() < 3


def test_the_same_training(project):
    """Decoded, flipped and cropped in two loader processes, as arrays are; to the bit."""
    folders = [run_seed(f"{k}_dir", "l1", 0, project, progress=False) for k in ("arrays", "jpeg", "scaled")]
    arrays, packed, scaled = ([(f / n).read_text() for n in ("history.csv", "predictions.csv")] for f in folders)
    assert arrays == packed and scaled != packed and len(scaled[0].splitlines()) == 3


def test_what_is_torn_is_named(project, tmp_path):
    """On a copy: other tests read the same folder, in any order."""
    folder = shutil.copytree(project / "prepared/scaled_dir", tmp_path / "prepared/scaled_dir")
    project = tmp_path
    whole = (folder / "inputs.pack").read_bytes()
    start = int(np.load(folder / "index.npy")[5, 0])
    (folder / "inputs.pack").write_bytes(whole[:start + 9] + b"?" + whole[start + 10:])
    with pytest.raises(ValueError, match="image 5 of scaled_dir/inputs.pack: its bytes have changed: prepare"):
        open_prepared("scaled_dir", project).inputs[[4, 5]]
    (folder / "inputs.pack").write_bytes(whole[:-1])
    with pytest.raises(DataProblems, match="image 159 .* are not there .*: prepare the data set again"):
        open_prepared("scaled_dir", project)
    (folder / "inputs.pack").write_bytes(whole)
    (folder / "index.npy").rename(folder / "away.npy")
    with pytest.raises(DataProblems, match="inputs.pack cannot be read"): open_prepared("scaled_dir", project)
    (folder / "inputs.pack").rename(folder / "away.pack")
    with pytest.raises(DataProblems, match="inputs.npy"): open_prepared("scaled_dir", project)


@pytest.mark.parametrize("mode, options", [("RGB", {}), ("RGB", {"subsampling": 0}), ("RGB", {"progressive": True}), ("L", {})])
def test_decoders_agree(mode, options):
    decoders = pytest.importorskip("torchcodec.decoders", reason="torchcodec is not installed: Pillow decodes")
    for size in (8, 33, 96):
        out = io.BytesIO()
        photo(6, size, np.random.default_rng(size)).convert(mode).save(out, "jpeg", **options)
        assert (decoders.decode_jpeg(out.getvalue()).numpy() == pillow_jpeg(np.frombuffer(out.getvalue(), np.uint8))).all()
