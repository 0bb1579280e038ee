"""Your own network and your own DataLoaders: forget a label, then audit how far that went.

    python examples/own_model.py

It needs no data and takes a minute. The page own_model.html shows the result.
"""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.utils.data import DataLoader, TensorDataset

import unlabel

LABELS = ["Disc", "Bar", "Cross"]
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def loader(images: int, seed: int) -> DataLoader:
    """Pictures with none, some or all of three figures in them, and what is in each. Put your own here."""
    random = np.random.default_rng(seed)
    pixels, targets = random.normal(0.4, 0.12, (images, 32, 32, 3)), random.integers(0, 2, (images, 3))
    y, x = np.mgrid[-6:7, -6:7]
    figures = [x**2 + y**2 < 30, abs(x) < 2, abs(abs(x) - abs(y)) < 1.5]
    for picture, target in zip(pixels, targets, strict=True):
        for figure, present in zip(figures, target, strict=True):
            row, column = random.integers(0, 19, 2)
            picture[row : row + 13, column : column + 13][figure] += 0.35 * present
    normalised = (torch.from_numpy(pixels.clip(0, 1)).float() - torch.tensor(MEAN)) / torch.tensor(STD)
    data = TensorDataset(normalised.permute(0, 3, 1, 2), torch.from_numpy(targets))
    return DataLoader(data, batch_size=32, shuffle=True)


def network(labels: int) -> nn.Module:
    """A small network. Any network will do whose last layer is linear, with one output for each label."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, labels)),
    )


def train(data: DataLoader, columns: list[int], seed: int) -> nn.Module:
    """Trains the network on some columns of the targets, as you would."""
    torch.manual_seed(seed)
    model = network(len(LABELS))
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.003)
    for _ in range(8):
        for images, targets in data:
            loss = bce(model(images)[:, columns], targets[:, columns].float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def main() -> None:
    """Trains, forgets, audits."""
    train_loader, probe_loader, test_loader = loader(500, 1), loader(800, 2), loader(2000, 3)
    original = train(train_loader, [0, 1, 2], seed=0)
    retrained = [
        train(train_loader, [1, 2], seed) for seed in (1, 2, 3)
    ]  # they never saw Disc: the references

    source = unlabel.load(
        train=train_loader,
        probe=probe_loader,
        test=test_loader,
        labels=LABELS,
        mean=MEAN,
        std=STD,
        normalised=True,
    )
    outcome = unlabel.forget_labels(original, "Disc", source.train)
    audit = unlabel.audit_model(original, outcome.model, retrained, source, "Disc", start="random")
    print(audit)
    print(audit.report("own_model.html", force=True))


if __name__ == "__main__":
    main()
