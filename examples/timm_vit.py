"""A vision transformer of timm, there and back: adopt its weights, forget a label, load them in timm again.

    python examples/timm_vit.py        (needs the extra: pip install 'unlabel[timm]')

It needs no data and takes some seconds. Each command may also be typed after `unlabel` in a terminal.
"""

from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch.nn.functional import binary_cross_entropy_with_logits as bce

import unlabel
from unlabel.cli.app import main as command

DATA = "faces:train=1500,probe=300,test=300,size=32"  # drawn; folder:PHOTOS for your own
LABELS = ["Male", "Young", "No_Beard"]
NETWORK = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2}
NAME = "timm:test_vit," + ",".join(f"{key}={value}" for key, value in NETWORK.items())

source = unlabel.load(DATA, labels=LABELS)
pixels = torch.from_numpy(source.train.images(slice(None))).permute(0, 3, 1, 2)
x, y = (pixels / 255 - 0.5) / 0.5, torch.from_numpy(source.train.target).float()

torch.manual_seed(0)
model = timm.create_model("test_vit", num_classes=len(LABELS), **NETWORK)
adam = torch.optim.AdamW(model.parameters(), 2e-3)
for _ in range(12):  # your own training
    for rows in torch.randperm(len(x)).split(64):
        adam.zero_grad()
        bce(model(x[rows]), y[rows]).backward()
        adam.step()
torch.save(model.state_dict(), "vit.pt")
Path("labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")

files = ["--weights", "vit.pt", "--labels", "labels.txt", "--mean", "0.5", "--std", "0.5"]
command(["adopt", NAME, *files, "--data", DATA, "--image-size", "32", "--out", "own"])
command(["inspect", "own"])
command(["forget", "erasure", "own", "--labels", LABELS[0], "--out", "less"])  # `auto` goes to every depth
command(["export", "less", "--to", "state-dict", "--drop-output", "--out", "less.safetensors"])

again = timm.create_model("test_vit", num_classes=len(LABELS) - 1, **NETWORK)
again.load_state_dict(load_file("less.safetensors"))
print(f"timm has it again, with {again.num_classes} of {len(LABELS)} labels: {LABELS[0]} is gone")
