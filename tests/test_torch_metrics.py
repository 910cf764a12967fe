"""DIRMetric where torchmetrics is installed: over two processes, and logged by Lightning; where it is not, one line."""
import os
import subprocess
import sys

import pytest
import torch
from project import ROOT

from dir_nb.labels import label_space
from dir_nb.metrics import DIRMetrics
from dir_nb.torch_metrics import DIRMetric, Metric

TARGET = (20 + 15 * torch.randn(300, generator=torch.Generator().manual_seed(0)).abs()).round()
PRED = TARGET + 4 * torch.randn(300, generator=torch.Generator().manual_seed(1))
SPACE = label_space(TARGET)

TWO = """
import sys, torch
import torch.distributed as dist
from test_torch_metrics import PRED, SPACE, TARGET, DIRMetric
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
metric = DIRMetric(SPACE.grid, SPACE.regions, ranks=True)
part = slice(0, 90) if rank == 0 else slice(90, None)  # of different sizes
for p, t in zip(PRED[part].split(40), TARGET[part].split(40)): metric.update(p, t)
print({k: float(v) for k, v in metric.compute().items() if v == v})
dist.destroy_process_group()
"""


@pytest.mark.skipif(Metric is not None, reason="torchmetrics is installed")
def test_without_torchmetrics():
    with pytest.raises(ImportError, match=r"pip install 'dir-nb\[torchmetrics\]'"):
        DIRMetric(SPACE.grid, SPACE.regions)


def test_two_processes_see_what_one_sees(tmp_path):
    pytest.importorskip("torchmetrics")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]), "OMP_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([sys.executable, "-c", TWO, str(k), tmp_path / "meet"], stdout=subprocess.PIPE, text=True, env=env) for k in (0, 1)]
    found = [eval(p.communicate(timeout=120)[0]) for p in ranks]
    want = {f"{r}/{k}": v for r, row in DIRMetrics(SPACE.grid, SPACE.regions).update(PRED, TARGET).compute().items() for k, v in row.items() if v == v}
    for one in found: assert one == pytest.approx(want, rel=1e-5)


def test_lightning_logs_it():
    pytest.importorskip("torchmetrics")
    lightning = pytest.importorskip("lightning")

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.metric = torch.nn.Linear(1, 1), DIRMetric(SPACE.grid, SPACE.regions)
        def validation_step(self, batch, i): self.metric.update(batch[0] + 0 * self.layer(batch[0][:, None])[:, 0], batch[1])
        def on_validation_epoch_end(self):
            self.log_dict(self.metric.compute())
            self.metric.reset()

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(PRED, TARGET), batch_size=128)
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    logged, = lightning.Trainer(**quiet).validate(Net(), loader, verbose=False)
    few = SPACE.regions.mask("few")[SPACE.grid.index(TARGET)]
    assert logged["few/mae"] == pytest.approx(float((PRED - TARGET)[few].abs().mean()), rel=1e-4)
    assert {"all/mae", "many/gm", "medium/bmae", "few/ccc"} <= logged.keys()
