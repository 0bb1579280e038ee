"""A ResNet and a ViT of Hugging Face, there and back: from a folder of save_pretrained to another one.

    python examples/hugging_face.py    (needs the extra: pip install 'unlabel[hf]')

It needs no data and no network, and takes some seconds. Each command may also be typed after `unlabel`.
"""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from transformers import (
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

import unlabel
from unlabel.cli.app import main as command

DATA = "faces:train=1500,probe=300,test=300,size=32"  # drawn; folder:PHOTOS for your own
LABELS = ["Male", "Young", "No_Beard"]

source = unlabel.load(DATA, labels=LABELS)
pixels = torch.from_numpy(source.train.images(slice(None))).permute(0, 3, 1, 2)
x, y = (pixels / 255 - 0.5) / 0.5, torch.from_numpy(source.train.target).float()
names = {"id2label": dict(enumerate(LABELS)), "problem_type": "multi_label_classification"}

torch.manual_seed(0)
vit = ViTForImageClassification(
    ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        **names,
    )
)
resnet = ResNetForImageClassification(
    ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", **names)
)
for name, model in (("vit", vit), ("resnet", resnet)):
    adam = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(20):  # your own training
        for rows in torch.randperm(len(x)).split(64):
            adam.zero_grad()
            bce(model(x[rows]).logits, y[rows]).backward()
            adam.step()
    model.eval().save_pretrained(name)
    size = {"height": 32, "width": 32}
    ViTImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(name)

    command(["adopt", f"hf:{name}", "--data", DATA, "--out", f"own-{name}"])
    command(["forget", "erasure", f"own-{name}", "--labels", LABELS[0], "--out", f"less-{name}"])
    command(["export", f"less-{name}", "--to", "hf", "--drop-output", "--out", f"{name}-without"])

    again = AutoModelForImageClassification.from_pretrained(f"{name}-without", local_files_only=True)
    print(f"{name}: transformers has it again, with {', '.join(again.config.id2label.values())}")
