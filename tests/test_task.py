"""Methods in a loop of one's own: every entry trains or refuses, and a step is the trainer's to the bit."""
import copy
import json
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from project import ROOT
from torch import nn

from dir_nb import Task, Trainer, TrainConfig, label_space, task
from dir_nb.bins import BinGrid
from dir_nb.hugging_face import TaskHooks
from dir_nb.labels import LabelSpace
from dir_nb.losses.pointwise import L1Loss
from dir_nb.methods import build_method
from dir_nb.models.mlp import MLP
from dir_nb.labels import LEAST_SAMPLES, ThinRegion, UntestedBins
from dir_nb.tasks import WideWeights, method_entry, method_files
from dir_nb.train.batches import seed_epoch
from dir_nb.train.core import HardlyVaries, WorseThanConstant, train_epoch

pytestmark = pytest.mark.filterwarnings("ignore::dir_nb.tasks.WideWeights")

FILES = method_files()
REFUSED = {  # id -> what its error says
    **dict.fromkeys(("frob", "frob_fds", "frob_irda", "frob_lds", "frob_ours", "rrt", "rrt_lds", "supcr_mse", "supcr_two_stage"), "cuts training into phases"),
    **dict.fromkeys(("smogn", "smoter", "smogn_lds_fds"), "draws the samples of an epoch"),
    **dict.fromkeys(("meta_irda", "meta_irda_rank"), "drawn by class"),
    **dict.fromkeys(("boosting", "boosting_lds", "boosting_log", "knn", "mean", "median", "ridge"), "is a regressor of tables"),
}


class Net(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(4, dim), nn.ReLU())
        self.head = nn.Linear(dim, 1)


def toy(n=400, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=g)
    return x, (30 + 8 * x[:, 0] + torch.randn(n, generator=g)).clamp(5, 60).round()


def batches(x, y, size=40):
    return list(zip(x.split(size), y.split(size)))


def train(net, t, data, lr=1e-2, steps=10, views=None):
    "The loop that this is for."
    optimizer = torch.optim.Adam([{"params": net.parameters()}, *t.param_groups(lr)], lr=lr)
    for xb, yb in data[:steps]:
        optimizer.zero_grad()
        t.loss(net.encode(xb), yb, net.head, views=[] if views is None else [net.encode(views(xb))]).backward()
        optimizer.step()
    t.end_epoch()


# every entry

@pytest.mark.parametrize("name", [n for n in FILES if n not in REFUSED])
def test_every_supported_method_beats_its_start(name):
    torch.manual_seed(0)
    x, y = toy()
    net, t = Net(), task(y, name, dim=16, epochs=4)
    data = batches(x, y)
    t.measure((net.encode(xb), yb) for xb, yb in data)
    def error():
        t.fit_decoder(((net.encode(xb), yb) for xb, yb in data), net.head)
        return float((t.predict(net.encode(x), net.head) - y).abs().mean())
    errors = [float((y - y.mean()).abs().mean())]
    if not t.fits: errors.append(error())  # a fitted decoder reads an untrained net well already
    for _ in range(4): train(net, t, data, views=lambda x: x + 0.05 * torch.randn_like(x))
    assert error() < 0.9 * min(errors)
    assert t.at["epochs"] == 4


@pytest.mark.parametrize("name", REFUSED)
def test_every_refused_method_says_so_in_one_line(name):
    with pytest.raises(ValueError, match=REFUSED[name]) as e: task(toy()[1], name, dim=16, epochs=5)
    assert "\n" not in str(e.value) and name in str(e.value) and "use dir_nb." in str(e.value)


def test_methods_of_the_table_above_are_all_there_are():
    assert REFUSED.keys() < FILES.keys() and len(FILES) - len(REFUSED) >= 30


@pytest.mark.parametrize("name", ["uvote", "deferred"])
def test_what_depends_on_epochs_asks_for_them(name):
    with pytest.raises(ValueError): task(toy()[1], name, dim=16)


# as the trainer's

@pytest.mark.parametrize("name", ["l1", "lds", "fds", "bmc", "irda", "lds_fds", "remse", "vir"])
def test_ten_steps_are_the_trainers_to_the_bit(name):
    x, y = toy(200)
    space, config = label_space(y), TrainConfig(batch_size=40, epochs=2, lr=1e-2, schedule="constant")
    class Rows:
        targets = y
        def __len__(self): return len(y)
        def __getitem__(self, i): return x[i], y[i], None
    rows = Rows()
    view = SimpleNamespace(train=rows, val=rows, grid=space.grid, regions=space.regions, counts=space.counts, many_shot=space.many_shot,
                           target_mean=space.target_mean, target_std=space.target_std)
    torch.manual_seed(0)
    model = MLP(4)
    model.init_head(space.target_mean, space.target_std)
    own = copy.deepcopy(model)
    torch.manual_seed(1)
    trainer = Trainer(model, build_method(method_entry(name)[1], view, model.feat_dim), view, config)
    torch.manual_seed(1)
    t = task(y, name, dim=model.feat_dim)
    loader = trainer.training_loader(trainer.phases[0])
    for epoch in range(2):
        loader.order.set_epoch(epoch)
        seed_epoch(0, epoch)
        train_epoch(trainer, loader, epoch)
    if t.method.owns_head: own.head.requires_grad_(False)
    optimizer = torch.optim.Adam([{"params": [p for p in own.parameters() if p.requires_grad]}, *t.param_groups(1e-2)], lr=1e-2, fused=True)
    own.train()
    for epoch in range(2):
        loader.order.set_epoch(epoch)
        seed_epoch(0, epoch)
        for xb, yb, _ in loader:
            optimizer.zero_grad()
            t.loss(own.encode(xb), yb, own.head).backward()
            optimizer.step()
        t.end_epoch()
    for (k, a), b in zip(trainer.method.state_dict().items(), t.method.state_dict().values()): assert torch.equal(a, b), k
    model.eval(), own.eval()
    with torch.no_grad(): assert torch.equal(trainer.method.predict(model, x)[:, 0], t.predict(own.encode(x), own.head))
    assert torch.equal(model.head.weight, own.head.weight) or t.method.owns_head


# nine lines

def cell(name):
    cells = json.loads((ROOT / "nbs/lib/front/90_tasks.ipynb").read_text())["cells"]
    return "".join(next(c for c in cells if c["id"] == name)["source"])


def test_a_loop_is_at_most_nine_lines_longer():
    lines = [[line for line in cell(n).splitlines() if line.strip()] for n in ("plain", "own")]
    assert 0 < len(lines[1]) - len(lines[0]) <= 9
    assert len(set(lines[1]) - set(lines[0])) <= 9


# scale and transforms

@pytest.mark.parametrize("name", ["l1", "lds_fds", "bmc", "irda", "irda_rank", "prime"])
@pytest.mark.parametrize("scale", [1e-5, 2e5])
def test_any_unit_learns_alike(name, scale):
    x, y = toy()
    def learnt(s):
        torch.manual_seed(0)
        net, t = Net(), task(y.double() * s, name, dim=16, n_bins=40)
        data = batches(x, y.double() * s)
        encoded = lambda: ((net.encode(xb), yb) for xb, yb in data)
        t.measure(encoded())
        for _ in range(2): train(net, t, data)
        t.fit_decoder(encoded())
        return float((t.predict(net.encode(x), net.head) / s - y).abs().mean())
    assert learnt(scale) == pytest.approx(learnt(1.0), rel=0.05)  # Adam makes steps of rounding errors where a sum of signs is zero


def test_a_head_in_target_units_keeps_what_it_says():
    x, y = toy()
    net, t = Net(), task(y * 1000, "l1", dim=16)
    solved = torch.linalg.lstsq(torch.cat([net.encode(x), torch.ones(400, 1)], 1), y[:, None] * 1000).solution.detach()
    with torch.no_grad(): net.head.weight.copy_(solved[:-1].T), net.head.bias.copy_(solved[-1])
    before = net.head(net.encode(x)).detach()
    t.loss(net.encode(x[:40]), y[:40] * 1000, net.head)
    assert torch.allclose(net.head(net.encode(x)), before, rtol=1e-4)


@pytest.mark.parametrize("init", ["default", "zero"])
def test_a_new_head_begins_around_the_mean(init):
    x, y = toy()
    net, t = Net(), task(y * 1e6, "l1", dim=16)
    if init == "zero": nn.init.zeros_(net.head.weight), nn.init.zeros_(net.head.bias)
    t.loss(net.encode(x[:40]), y[:40] * 1e6, net.head)
    z = (net.head(net.encode(x)) - t.space.target_mean) / t.space.target_std
    assert z.abs().mean() < 2


def test_targets_on_a_logarithmic_scale():
    x, _ = toy()
    y = torch.exp(3 + 2 * x[:, 0])
    torch.manual_seed(0)
    net, t = Net(), task(y, "lds", dim=16, transform="log")
    for _ in range(6): train(net, t, batches(x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = t.report(pred := t.predict(net.encode(x), net.head), y)
    assert (pred > 0).all() and rows["all"]["mae"] == pytest.approx(float((pred - y).abs().mean()), rel=1e-4)
    assert float((pred.log() - y.log()).abs().mean()) < 0.5 * float((y.log() - y.log().mean()).abs().mean())
    assert t.space.grid.high < 12 and "transformed (log)" in repr(t)


def test_a_transformer_of_scikit_learn():
    from sklearn.preprocessing import PowerTransformer
    x, y = toy()
    way = PowerTransformer().fit(y.reshape(-1, 1))
    net, t = Net(), task(y, "irda", dim=16, transform=way)
    train(net, t, batches(x, y))
    assert torch.allclose(t.transform.inverse(t.transform.forward(y)).float(), y, rtol=1e-4)
    assert t.predict(net.encode(x), net.head).isfinite().all()


# saved, moved, taken up again

@pytest.mark.parametrize("name", ["irda", "lds_fds", "bmc", "vir", "irda_rank", "srl", "remse"])
def test_a_training_is_taken_up_again_to_the_bit(name, tmp_path):
    x, y = toy()
    data = batches(x, y)
    def begun():
        torch.manual_seed(0)
        net, t = Net(), task(y, name, dim=16)
        t.measure((net.encode(xb), yb) for xb, yb in data)
        return net, t, torch.optim.Adam([*net.parameters(), *t.parameters()], lr=1e-2)
    def epoch(net, t, optimizer):
        torch.manual_seed(t.at["epochs"])
        for xb, yb in data:
            optimizer.zero_grad()
            t.loss(net.encode(xb), yb, net.head).backward()
            optimizer.step()
        t.end_epoch()
    run = begun()
    for _ in range(2): epoch(*run)
    torch.save([p.state_dict() for p in run] + [run[1].statistics()], tmp_path / "c.pt")
    *states, statistics = torch.load(tmp_path / "c.pt", weights_only=True)
    assert not [k for k in states[1] if ".stats." in k]
    epoch(*run)
    again = begun()
    for part, state in zip(again, states): part.load_state_dict(state)
    if statistics:
        with pytest.raises(RuntimeError, match="load_statistics"): epoch(*again)
        again[1].load_statistics(statistics)
    epoch(*again)
    for (k, a), b in zip(run[1].method.state_dict().items(), again[1].method.state_dict().values()): assert torch.equal(a, b), k
    for a, b in zip(run[0].parameters(), again[0].parameters()): assert torch.equal(a, b)


def test_a_net_is_saved_as_if_it_had_no_task():
    x, y = toy()
    net, t = Net(), task(y * 1e4, "irda", dim=16)
    train(net, t, batches(x, y * 1e4))
    plain = Net()
    plain.load_state_dict(net.state_dict())
    assert torch.allclose(plain.head(plain.encode(x)), net.head(net.encode(x)), rtol=1e-5)


def test_a_state_has_no_statistics_within_another_module():
    x, y = toy()
    whole = nn.Module()
    whole.net, whole.task = Net(), task(y, "irda", dim=16)
    train(whole.net, whole.task, batches(x, y))
    assert not [k for k in whole.state_dict() if ".stats." in k] and [k for k in whole.task.method.state_dict() if ".stats." in k]
    other = nn.Module()
    other.net, other.task = Net(), task(y, "irda", dim=16)
    other.load_state_dict(whole.state_dict())
    assert other.task.at["epochs"] == 1 and other.task.lacking
    pred = [m.task.predict(m.net.encode(x), m.net.head) for m in (whole, other)]
    assert torch.allclose(*pred, rtol=1e-4)


def test_a_copy_goes_its_own_way():
    x, y = toy()
    pair = Net(), task(y, "irda", dim=16)
    train(*pair, batches(x, y))
    other = copy.deepcopy(pair)
    train(*other, batches(x, y))
    assert pair[1].at["epochs"] == 1 and other[1].scale.head is other[0].head


def test_training_on_forgets_the_decoder():
    x, y = toy()
    net, t = Net(), task(y, "post_hoc", dim=16)
    data = batches(x, y)
    train(net, t, data)
    t.fit_decoder(((net.encode(xb), yb) for xb, yb in data), net.head)
    t.predict(net.encode(x), net.head)
    train(net, t, data)
    with pytest.raises(RuntimeError, match="fit_decoder"): t.predict(net.encode(x), net.head)
    assert torch.equal(t.predict(net.encode(x), net.head, unfitted=True), net.head(net.encode(x))[:, 0])


def test_a_decoder_of_a_head_that_says_one_thing_is_refused():
    x, y = toy()
    net, t = Net(), task(y, "irda_rank", dim=16)
    pairs = [(net.encode(x), y)]
    with pytest.raises(ValueError, match="train first"): t.measure(pairs).fit_decoder(pairs)
    with pytest.raises(RuntimeError, match="fit_decoder"): t.predict(net.encode(x))
    assert t.predict(net.encode(x), unfitted=True).isfinite().all()


@pytest.mark.parametrize("name", ["irda", "post_hoc", "lds_fds"])
def test_a_net_in_double_precision(name):
    x, y = toy()
    net, t = Net().double(), task(y, name, dim=16)
    data = batches(x.double(), y.double())
    train(net, t, data)
    t.fit_decoder(((net.encode(xb), yb) for xb, yb in data), net.head)
    assert t.predict(net.encode(x.double()), net.head).isfinite().all() and net.head.weight.dtype == torch.float64


# wrong use

@pytest.mark.parametrize("bad, told", [
    ([], "shape"), ([1.0], "all 1 targets"), ([2.0] * 9, "all 9 targets"), ([1.0, float("nan")], "NaN"), ([1.0, float("inf")], "NaN or infinite"),
    (["a"], "give numbers"), (pd.Series(["a", "b"]), "give numbers"), (torch.rand(5, 2), "several target dimensions"), (torch.rand(5, 2, 2), "y.isfinite"),
])
def test_training_targets_that_cannot_be(bad, told):
    with pytest.raises((ValueError, TypeError), match=told): task(bad, "l1", dim=4)


@pytest.mark.parametrize("options, told", [
    ({"method": "irdaa"}, "did you mean 'irda'"), ({"dim": 0}, "dim"), ({"dim": 2.5}, "dim"), ({"width": -1.0}, "width"), ({"n_bins": 3, "width": 1.0}, "give one of them"),
    ({"epochs": 0}, "epochs"), ({"transform": "logg"}, "did you mean 'log'"), ({"method": {"parts": {}}}, "no parts"), ({"method": [3]}, "is not a Part"),
    ({"method": {"parts": {"loss": {"class": "dir_nb.losses.irda.IRDAlos"}}}}, "IRDAlos"), ({"grid": BinGrid(0, 10, 1)}, "outside the grid"),
])
def test_settings_that_cannot_be(options, told):
    with pytest.raises((ValueError, TypeError), match=told): task(**{"y_train": toy()[1], "method": "l1", "dim": 4} | options)


def test_arrays_and_columns_are_taken():
    x, y = toy()
    net, t = Net(), task(pd.Series(y.numpy()), "lds", dim=16)
    x, y = x[:50], y[:50]
    found = [t.loss(net.encode(x), v, net.head).item() for v in (y, y[:, None], y.numpy(), pd.Series(y.numpy()), y.tolist(), y.double(), y.long())]
    assert len(set(found)) == 1


def test_a_label_space_is_taken_and_may_cover_more():
    x, y = toy()
    space = label_space(y).covering([100.0])
    net, t = Net(), task(space, "lds", dim=16)
    assert isinstance(t.space, LabelSpace) and t.loss(net.encode(x[:2]), [100.0, 20.0], net.head).isfinite()
    with pytest.raises(ValueError, match="covering"): task(y, "lds", dim=16).loss(net.encode(x[:2]), [100.0, 20.0], net.head)
    with pytest.raises(ValueError, match="leave width out"): task(space, "l1", dim=16, width=2.0)


def test_on_an_accelerator_targets_in_no_bin_are_told_at_the_epochs_end():
    t = task(toy()[1], "l1", dim=16)
    t.watch.see(torch.tensor([1e9, float("nan"), 30.0]))  # as a step there counts them
    with pytest.raises(ValueError, match="2 targets of the epoch"): t.end_epoch()


def test_ready_parts_are_taken():
    x, y = toy()
    for parts in ([L1Loss()], {"loss": L1Loss()}):
        net, t = Net(), task(y, parts, dim=16)
        train(net, t, batches(x, y))
    class Slow(L1Loss):
        def after_step(self, run, epoch): pass
    with pytest.raises(ValueError, match=r"\(Slow\) acts after every step"): task(y, [Slow()], dim=16)
    class Asks(L1Loss):
        def finish(self, run): run.config  # noqa: B018
    t = task(y, [Asks()], dim=16)
    with pytest.raises(AttributeError, match="asks its run for 'config'"): t.fit_decoder([(torch.zeros(2, 16), y[:2])])


def test_empty_batches():
    _, y = toy()
    net, t = Net(), task(y, "irda", dim=16)
    t.loss(net.encode(torch.zeros(0, 4)), y[:0], net.head).backward()
    with pytest.raises(ValueError, match="no batches"): task(y, "irda_rank", dim=16).measure([])


def test_dense_targets_are_the_pixels_that_have_one():
    x = torch.randn(6, 3, 3, 4)
    y = 20 + 5 * x[..., 0]
    y[:, 0] = torch.nan
    has = y.isfinite()
    torch.manual_seed(0)
    net, t = Net(), task(y[has], "irda", dim=16)
    other = copy.deepcopy((net, t))
    a = t.loss(net.encode(x), y, net.head)
    b = other[1].loss(other[0].encode(x)[has], y[has], other[0].head)
    assert torch.allclose(a, b, rtol=1e-5)
    t.end_epoch()
    assert t.predict(net.encode(x), net.head).shape == (6, 3, 3)
    assert torch.allclose(t.predict(net.encode(x), net.head)[has], t.predict(net.encode(x)[has], net.head), rtol=1e-4)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_features_work_and_half_heads_are_refused(precision):
    x, y = toy(80)
    net, t = Net(), task(y, "irda", dim=16)
    with torch.autocast("cpu", dtype=torch.bfloat16): t.loss(net.encode(x).to(precision), y, net.head).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    with pytest.raises(TypeError, match="single precision"): t.loss(net.encode(x), y, copy.deepcopy(Net().head).to(precision))


@pytest.mark.parametrize("kind, told", [
    (HardlyVaries, "deviation"), (WorseThanConstant, "mean training target"), (UntestedBins, "no test sample"), (ThinRegion, "few has 0")])
@pytest.mark.filterwarnings("ignore")
def test_a_report_warns_by_name(kind, told):
    _, y = toy()
    with pytest.warns(kind, match=told): task(y, "l1", dim=4).report(torch.full((LEAST_SAMPLES,), 90.0), y[:LEAST_SAMPLES])


def test_a_good_report_is_quiet():
    _, y = toy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert task(y, "l1", dim=4).report(y + 0.1, y)["all"]["mae"] == pytest.approx(0.1, rel=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_weights_that_differ_by_much_are_told():
    with pytest.warns(WideWeights, match="2.22e\\+03"): task([*range(9)] + [5.0] * 20_000, "inverse", dim=4, width=1)


def test_it_says_what_was_chosen_and_why():
    told = repr(task(toy()[1], "lds_fds", dim=16))
    for word in ("LDS + FDS", "2 times plain L1", "whole numbers", "many-shot above", "BinWeights", "weighs samples", "moves features", "end_epoch()"): assert word in told
    assert "fit_decoder" in repr(task(toy()[1], "irda_rank", dim=16)) and isinstance(task(toy()[1], dim=2), Task)


# several processes

def gathered(t, rank=0, world=1):
    "Statistics of an epoch of an untrained net, of which this process sees its share."
    x, y = toy()
    torch.manual_seed(0)
    net = Net()
    for xb, yb in batches(x, y): t.loss(net.encode(xb[rank::world]), yb[rank::world], net.head)
    t.end_epoch()
    return t


def process(rank, world, folder, name):
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world)
    torch.manual_seed(0)
    torch.save(gathered(task(toy()[1], name, dim=16), rank, world).method.state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["irda", "lds_fds"])
def test_statistics_are_those_of_all_processes(name, tmp_path):
    torch.multiprocessing.spawn(process, (2, str(tmp_path), name), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    torch.manual_seed(0)
    alone = gathered(task(toy()[1], name, dim=16)).method.state_dict()
    for k, v in alone.items():
        assert torch.equal(found[0][k], found[1][k]), k
        assert torch.allclose(found[0][k].double(), v.double(), rtol=1e-4, atol=1e-5), k


# Hugging Face's Trainer, without it; the notebooks run with it where it is installed

def test_hooks_for_a_trainer_of_another_library():
    x, y = toy()
    net, t = Net(), task(y, "irda", dim=16)
    hooks = TaskHooks(t, net.head)
    out = net.head(net.encode(x[:40]))
    whole = hooks.loss(out, y[:40])
    net.head(net.encode(x[:40]))
    assert hooks.loss(out, y[:40], num_items_in_batch=80).item() == pytest.approx(whole.item() / 2, rel=1e-6)
    assert torch.equal(hooks.decode(out, None), t.predict(net.encode(x[:40]), net.head))
    net.eval()
    seen = t.watch.seen
    with torch.no_grad(): net.head(net.encode(x)), hooks.loss(None, y)
    assert t.watch.seen == seen and not t.training
    rows = hooks.metrics(SimpleNamespace(predictions=y.numpy() + 1, label_ids=y.numpy()))
    assert rows["few_mae"] == pytest.approx(1) and rows["all_n"] == 400


# the installed package

def test_entries_come_with_the_package(tmp_path):
    """A build copies conf/methods into the package: an installation has no conf/ beside it."""
    code = f"import sys; sys.argv = ['setup.py', '-q', 'build_py', '--build-lib', {str(tmp_path / 'lib')!r}]; exec(open('setup.py').read(), {{'__file__': {str(ROOT / 'setup.py')!r}, '__name__': '__main__'}})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    shipped = tmp_path / "lib" / "dir_nb" / "entries"
    assert {p.stem for p in shipped.glob("*.yaml")} == set(FILES)
    code = "import dir_nb; from dir_nb.tasks import method_files; print(dir_nb.__file__, len(method_files()), repr(dir_nb.task(range(90), 'irda', dim=3))[:4])"
    (tmp_path / "empty").mkdir()
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path / "empty", env={"PYTHONPATH": str(tmp_path / "lib"), "PATH": ""}, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "lib" / "dir_nb" / "__init__.py"), str(len(FILES)), "irda"], done.stderr
