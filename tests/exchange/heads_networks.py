"""Networks with heads of every layout; a test copies this file into a user's folder.

All have one trunk. ``fill`` gives each head the rows of one linear layer, so that every layout says the same.
"""

import torch
from torch import Tensor, nn

FEATURES = 16


class Trunk(nn.Module):
    """A convolution and a linear layer, which the heads read; each head is a class below."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.labels = labels
        self.conv = nn.Conv2d(3, 8, 4, stride=4)
        self.hidden = nn.Linear(128, FEATURES)
        self.build(labels)

    def build(self, labels: int) -> None:
        self.fc = nn.Linear(FEATURES, labels)

    def embed(self, images: Tensor) -> Tensor:
        return self.hidden(self.conv(images).relu().flatten(1)).relu()

    def forward(self, images: Tensor):
        return self.fc(self.embed(images))

    def fill_trunk(self, conv: nn.Conv2d, hidden: nn.Linear) -> None:
        self.conv.load_state_dict(conv.state_dict())
        self.hidden.load_state_dict(hidden.state_dict())

    def fill(self, weight: Tensor, bias: Tensor) -> None:
        self.fc.weight.copy_(weight.view_as(self.fc.weight))
        if self.fc.bias is not None:
            self.fc.bias.copy_(bias)

    def logits(self, returned) -> Tensor:
        """Logits by hand of what `forward` returned, in the labels' order."""
        return returned


class OneLinear(Trunk):
    pass


class List(Trunk):
    def build(self, labels):
        self.heads = nn.ModuleList(nn.Linear(FEATURES, 1) for _ in range(labels))

    def forward(self, images):
        embedding = self.embed(images)
        return torch.cat([head(embedding) for head in self.heads], 1)

    def fill(self, weight, bias):
        for number, head in enumerate(self.heads):
            head.weight.copy_(weight[number : number + 1])
            head.bias.copy_(bias[number : number + 1])


class ListReturned(List):
    def forward(self, images):
        embedding = self.embed(images)
        return [head(embedding) for head in self.heads]

    def logits(self, returned):
        return torch.cat(returned, 1)


NAMES = ("top", "middle", "bottom")


class DictReturned(Trunk):
    def build(self, labels):
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, 1) for name in reversed(NAMES)})

    def forward(self, images):
        embedding = self.embed(images)
        return {name: head(embedding)[:, 0] for name, head in self.heads.items()}

    def fill(self, weight, bias):
        for number, name in enumerate(NAMES):
            self.heads[name].weight.copy_(weight[number : number + 1])
            self.heads[name].bias.copy_(bias[number : number + 1])

    def logits(self, returned):
        return torch.stack([returned[name] for name in NAMES], 1)


class Mlps(List):
    def build(self, labels):
        self.heads = nn.ModuleList(self.mlp() for _ in range(labels))

    def mlp(self):
        return nn.Sequential(
            nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Dropout(0.1), nn.Linear(FEATURES, 1)
        )

    def fill(self, weight, bias):
        for number, head in enumerate(self.heads):
            head[0].weight.copy_(torch.eye(FEATURES))
            head[0].bias.zero_()
            head[3].weight.copy_(weight[number : number + 1])
            head[3].bias.copy_(bias[number : number + 1])


class Mlp(Trunk):
    def build(self, labels):
        self.fc = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Linear(FEATURES, labels))

    def fill(self, weight, bias):
        self.fc[0].weight.copy_(torch.eye(FEATURES))
        self.fc[0].bias.zero_()
        self.fc[2].weight.copy_(weight)
        self.fc[2].bias.copy_(bias)


class Pairs(Trunk):
    def build(self, labels):
        self.fc = nn.Linear(FEATURES, 2 * labels)

    def forward(self, images):
        return self.fc(self.embed(images)).view(-1, self.labels, 2)

    def fill(self, weight, bias):
        self.fc.weight[0::2] = 0.3
        self.fc.weight[1::2] = weight + 0.3
        self.fc.bias[0::2] = -0.5 * bias
        self.fc.bias[1::2] = 0.5 * bias

    def logits(self, returned):
        return returned[..., 1] - returned[..., 0]


class PairsOfClasses(Pairs):
    def forward(self, images):
        return super().forward(images).transpose(1, 2)

    def logits(self, returned):
        return returned[:, 1] - returned[:, 0]


class PairsInSoftmax(Pairs):
    def forward(self, images):
        return super().forward(images).softmax(-1)

    def logits(self, returned):
        return returned[..., 1].logit()


class PairHeads(Trunk):
    def build(self, labels):
        self.heads = nn.ModuleList(nn.Linear(FEATURES, 2) for _ in range(labels))

    def forward(self, images):
        embedding = self.embed(images)
        return tuple(head(embedding) for head in self.heads)

    def fill(self, weight, bias):
        for number, head in enumerate(self.heads):
            head.weight.copy_(torch.stack([-weight[number], weight[number]]) / 2)
            head.bias.copy_(torch.stack([-bias[number], bias[number]]) / 2)

    def logits(self, returned):
        return torch.stack([pair[:, 1] - pair[:, 0] for pair in returned], 1)


class DictWithFeatures(Trunk):
    def forward(self, images):
        embedding = self.embed(images)
        return {"features": embedding, "logits": self.fc(embedding)}

    def logits(self, returned):
        return returned["logits"]


class TupleWithFeatures(Trunk):
    def forward(self, images):
        embedding = self.embed(images)
        return self.fc(embedding), embedding

    def logits(self, returned):
        return returned[0]


class Sigmoid(Trunk):
    def forward(self, images):
        return super().forward(images).sigmoid()

    def logits(self, returned):
        return returned.logit()


class Softmax(Trunk):
    def forward(self, images):
        return super().forward(images).softmax(-1)

    def logits(self, returned):
        return returned.log()


class NoBias(Trunk):
    def build(self, labels):
        self.fc = nn.Linear(FEATURES, labels, bias=False)


class ConvolutionAfterPooling(Trunk):
    def build(self, labels):
        self.fc = nn.Conv2d(FEATURES, labels, 1)

    def forward(self, images):
        return self.fc(self.embed(images)[:, :, None, None]).flatten(1)


class ConvolutionBeforePooling(Trunk):
    def build(self, labels):
        self.mix = nn.Conv2d(128, FEATURES, 1)
        self.fc = nn.Conv2d(FEATURES, labels, 1)
        del self.hidden

    def forward(self, images):
        patches = self.conv(images).relu()
        where = torch.eye(16, device=images.device).view(1, 16, 1, 4, 4)
        placed = (patches[:, None] * where).flatten(1, 2)  # each position in channels of its own
        return nn.functional.adaptive_avg_pool2d(self.fc(self.mix(placed)), 1).flatten(1)

    def fill_trunk(self, conv, hidden):
        self.conv.load_state_dict(conv.state_dict())
        by_position = hidden.weight.view(FEATURES, 8, 16).transpose(1, 2).flatten(1)
        self.mix.weight.copy_(16 * by_position[:, :, None, None])
        self.mix.bias.copy_(hidden.bias)


class TwoCandidates(Trunk):
    """Another part of what is returned could be the logits, too."""

    def build(self, labels):
        super().build(labels)
        self.other = nn.Linear(FEATURES, labels)

    def forward(self, images):
        embedding = self.embed(images)
        return {"old": self.other(embedding), "new": self.fc(embedding)}

    def logits(self, returned):
        return returned["new"]


class Scaled(Trunk):
    """No layout that is found: the user writes a wrapper, as in `unscaled`."""

    def forward(self, images):
        return super().forward(images) * 4


class FlatPairs(Pairs):
    """Two logits a label in one row: which belong together is not said."""

    def forward(self, images):
        return super().forward(images).flatten(1)


class LargestPosition(ConvolutionBeforePooling):
    """The largest position counts, which no linear layer on a mean can say."""

    def forward(self, images):
        return self.fc(self.conv(images).relu().repeat(1, 2, 1, 1)).amax((2, 3))


def unscaled(labels):
    """Scaled, wrapped."""
    network = Scaled(labels)
    own = type(network)
    network.__class__ = type(
        "Logits", (own,), {"forward": lambda self, images: own.forward(self, images) / 4}
    )
    return network
