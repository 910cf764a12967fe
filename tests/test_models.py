"The models together: the battery over the catalog, and what importing them costs."
import subprocess
import sys

import pytest
import torch

from dir_nb.models.catalog import MODELS, build_model, example_batch
from dir_nb.models.core import check_model

SPECS = {"tabular": {"kind": "tabular", "n_features": 5}, "text": {"kind": "text", "vocab_size": 40, "length": 12},
         "image": {"kind": "image", "channels": 3, "size": [18, 22]}, "dense": {"kind": "dense", "channels": 2, "size": [9, 14]},
         "series": {"kind": "series", "channels": 2, "size": [30]}}
CONFIGS = [{"name": "mlp"}, {"name": "mlp", "widths": []}, {"name": "mlp", "widths": [16], "dropout": 0.5, "layer_norm": True},
           {"name": "text"}, {"name": "text", "pool": "gru", "hidden": 10, "dropout": 0.5},
           {"name": "pair"}, {"name": "pair", "units": 5, "layers": 2, "hidden": 10, "embed_dim": 7},
           {"name": "resnet", "arch": "resnet18"}, {"name": "resnet", "arch": "resnet18", "stem": "small"},
           {"name": "resnet", "arch": "resnet8", "stem": "half"}, {"name": "resnet", "arch": "resnet20", "stem": "small"},
           {"name": "depth", "width": 8}, {"name": "depth", "width": 8, "levels": 3, "hidden": 16},
           {"name": "fusion", "arch": "resnet18", "width": 8}, {"name": "resnet1d", "blocks": [1, 1], "width": 8},
           {"name": "convnet", "widths": [8, 16]},
           {"name": "resnet1d", "blocks": [1], "width": 4, "kernel": 3, "stride": 1}, {"name": "gru", "hidden": 6, "layers": 2, "dropout": 0.1}]


def test_every_model_is_covered():
    assert {c["name"] for c in CONFIGS} == set(MODELS) - {"pretrained"} # an extra: nbs/lib/models/68_models.images


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_battery(config):
    spec = SPECS[MODELS[config["name"]][0]]
    facts = check_model(lambda: build_model(config, spec), example_batch(spec, 3))
    assert facts["parameters"] > 0


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_float64_follows_the_input(config):
    spec = SPECS[MODELS[config["name"]][0]]
    x = example_batch(spec, 2)
    model = build_model(config, spec).double()
    pred, feat = model(x.double() if x.is_floating_point() else x)
    assert pred.dtype == feat.dtype == torch.float64
    w, w0 = model.head_params()
    torch.testing.assert_close(feat @ w + w0, pred[..., 0])


def test_catalog_imports_nothing_heavy():
    code = "import sys, dir_nb.models.catalog; print([m for m in ('torchvision', 'sklearn', 'matplotlib', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_unasked_weights_are_never_fetched(monkeypatch):
    def refuse(*args, **kwargs): raise AssertionError("a download was tried")
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    build_model({"name": "resnet", "arch": "resnet18"}, SPECS["image"])
    with pytest.raises(AssertionError, match="download"):
        build_model({"name": "resnet", "arch": "resnet18", "weights": "IMAGENET1K_V1"}, SPECS["image"])


def test_mlp_gradients_are_exact():
    model = build_model({"name": "mlp", "widths": [4], "layer_norm": True}, SPECS["tabular"]).double()
    assert torch.autograd.gradcheck(lambda x: model(x)[0], example_batch(SPECS["tabular"]).double().requires_grad_())
