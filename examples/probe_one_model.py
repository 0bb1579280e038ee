"""How much does one model tell of a label that it has no output for?

    python examples/probe_one_model.py

It needs no data and takes some seconds. The model may be any network: its outputs and features are saved as
plain arrays, and the label's annotations beside them. From a terminal, the same question is

    unlabel probe outputs.npz --label Male
"""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

import unlabel
from unlabel.audit.probe.findings import lines

ANSWERED = ["Young", "Bald", "No_Beard"]  # what the network is made for
ASKED = "Male"  # what it is not made for

source = unlabel.load("faces:train=2000,probe=300,test=300,size=32")  # drawn; put your own images here


def images(part: unlabel.Dataset) -> torch.Tensor:
    """Normalised pixels, as the network wants them."""
    pixels = torch.from_numpy(part.images(slice(None))).permute(0, 3, 1, 2)
    return (pixels / 255 - 0.5) / 0.25


def block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU())


torch.manual_seed(0)
trunk = nn.Sequential(block(3, 16), block(16, 32), block(32, 32), nn.Flatten())
head = nn.Linear(512, len(ANSWERED))
network = nn.Sequential(trunk, head)
x, y = images(source.train), torch.from_numpy(source.train.with_labels(ANSWERED).target).float()
adam = torch.optim.Adam(network.parameters(), 2e-3)
for _ in range(6):
    for rows in torch.randperm(len(x)).split(64):
        adam.zero_grad()
        bce(network(x[rows]), y[rows]).backward()
        adam.step()
network.eval()

parts = (source.probe, source.test)  # attacks are fitted on the first, split 0, and measured on the second, 1
with torch.inference_mode():
    features = torch.cat([trunk(images(part)) for part in parts])
    logits = head(features)
np.savez(
    "outputs.npz",
    logits=logits.numpy(),
    features=features.numpy(),
    targets=np.concatenate([part.with_labels(ASKED).target for part in parts]),
    split=np.repeat([0, 1], [len(part) for part in parts]),
    labels=np.array(ANSWERED),
    target_labels=np.array([ASKED]),
)
print("\n".join(lines(unlabel.probe_model("outputs.npz", ASKED))))
