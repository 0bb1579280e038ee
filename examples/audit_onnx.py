"""Audit two deployed models: the one that was in use, and one that is said to have forgotten a label.

    python examples/audit_onnx.py

It needs no data and takes some seconds. From a terminal, the last step is

    unlabel audit "onnx:after.onnx?features=FEATURES" --before "onnx:before.onnx?features=FEATURES" \\
        --data SOURCE --labels Male --labels-file labels.txt --mean 0.5,0.5,0.5 --std 0.25,0.25,0.25
"""

import copy
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

import unlabel
from unlabel.audit.read_only.outputs_audit import Named, audit_deployed, write
from unlabel.exchange.onnx_file import OnnxSettings
from unlabel.report.terminal import lines

DATA = "faces:train=1500,probe=300,test=300,size=32"  # drawn; folder:PHOTOS for your own
LABELS = ["Male", "Young", "No_Beard"]

source = unlabel.load(DATA, labels=LABELS)
pixels = torch.from_numpy(source.train.images(slice(None))).permute(0, 3, 1, 2)
x, y = (pixels / 255 - 0.5) / 0.25, torch.from_numpy(source.train.target).float()


def block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU())


torch.manual_seed(0)
before = nn.Sequential(block(3, 16), block(16, 32), block(32, 32), nn.Flatten(), nn.Linear(512, len(LABELS)))
adam = torch.optim.Adam(before.parameters(), 2e-3)
for _ in range(6):
    for rows in torch.randperm(len(x)).split(64):
        adam.zero_grad()
        bce(before(x[rows]), y[rows]).backward()
        adam.step()

after = copy.deepcopy(before)  # what many call unlearning: the output for Male is gone, and nothing else
with torch.no_grad():
    after[-1].weight[0] = 0
    after[-1].bias[0] = -20

# Two files as they are deployed: nothing in them names a label or says how pixels are scaled.
features = ""
for name, model in (("before", before), ("after", after)):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter
        program = torch.onnx.export(
            model.eval(),
            (torch.zeros(2, 3, 32, 32),),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    Path(f"{name}.onnx").write_bytes(program.model_proto.SerializeToString())
    features = program.model_proto.graph.node[-1].input[0]  # the input of the last linear layer

Path("labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
models = Named(
    f"onnx:after.onnx?features={features}",
    f"onnx:before.onnx?features={features}",
    references=[],  # ONNX files of models that were retrained without the label
    onnx=OnnxSettings(Path("labels.txt"), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
)
audit = audit_deployed(
    models,
    data=DATA,
    labels=["Male"],
    where=unlabel.start(),
    settings=unlabel.AuditOptions(probe_seeds=2),
)
write(audit, Path("audited"), force=True)  # `unlabel report audited` makes the page
print("\n".join(lines(audit)))
