"""A network with one small head for each label, returning a dict: adopt, forget a label, load it again.

    python examples/many_heads.py

It needs no data and takes a quarter of a minute. Each command may also be typed after `unlabel` in a
terminal, in the folder of this file. docs/heads.md lists the layouts.
"""

import importlib
import sys
from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

import unlabel
from unlabel.cli.app import main as command

DATA = "faces:train=1500,probe=300,test=300,size=32"  # drawn; folder:PHOTOS for your own
LABELS = ["Male", "Young", "No_Beard"]
NETWORK = '''
from torch import nn


class Net(nn.Module):
    """Your own class, as it is in your own file."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(4), nn.Flatten()),
        )
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(512, 16), nn.ReLU(), nn.Linear(16, 1)) for _ in range(labels)
        )

    def forward(self, images):
        features = self.trunk(images)
        return {f"label{number}": head(features) for number, head in enumerate(self.heads)}


def make(num_classes):
    return Net(num_classes)
'''
Path("my_nets.py").write_text(NETWORK, encoding="utf-8")

source = unlabel.load(DATA, labels=LABELS)
pixels = torch.from_numpy(source.train.images(slice(None))).permute(0, 3, 1, 2)
x, y = (pixels / 255 - 0.5) / 0.25, torch.from_numpy(source.train.target).float()

sys.path.insert(0, "")  # the folder that you are in
Net = importlib.import_module("my_nets").Net
torch.manual_seed(0)
model = Net(len(LABELS))
adam = torch.optim.Adam(model.parameters(), 2e-3)
for _ in range(8):  # your own training
    for rows in torch.randperm(len(x)).split(64):
        adam.zero_grad()
        bce(torch.cat(list(model(x[rows]).values()), 1), y[rows]).backward()
        adam.step()
torch.save(model.state_dict(), "net.pt")
Path("labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")

files = ["--weights", "net.pt", "--labels", "labels.txt", "--image-size", "32"]
command(["inspect", "my_nets:make", *files])
command(["adopt", "my_nets:make", *files, "--mean", "0.5", "--std", "0.25", "--data", DATA, "--out", "own"])
command(["forget", "auto", "own", "--labels", LABELS[0], "--out", "less"])
command(["export", "less", "--to", "state-dict", "--out", "less.pt"])

again = Net(len(LABELS)).eval()
again.load_state_dict(torch.load("less.pt", weights_only=True))
with torch.no_grad():
    said = again(x[:64])["label0"]
print(
    f"your own class has it again; {LABELS[0]} is the same for every image: {said.min():.3f} {said.max():.3f}"
)
