from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from unlabel.audit.attacks.stitching import rows_of, shaped_like
from unlabel.core.errors import NoLinearHead
from unlabel.models.axes import Picture, channels_last
from unlabel.models.build import build, small
from unlabel.models.sites import find_sites, find_stages, pooled, positions, reading
from unlabel.testing import tiny_network, tiny_world

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def found(model: nn.Module, images: torch.Tensor = IMAGES) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(site.name, site.module, site.size) for site in find_sites(model, 3, images)]


def test_a_plain_convolutional_network_is_read_at_the_end_of_every_stage() -> None:
    assert found(small(3)) == [
        ("stage1", "0", (32, 32)),
        ("stage2", "2", (16, 16)),
        ("stage3", "4", (8, 8)),
        ("grid2", "2", (16, 16)),
        ("grid3", "4", (8, 8)),
        ("grid4", "5", (4, 4)),
        ("features", "8", ()),
        ("outputs", "8", ()),
    ]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnet_is_read_after_its_layers_and_not_inside_a_block(name: str) -> None:
    stages = {module for _, module, size in found(build(name, 3)) if size}
    assert stages == {"layer1", "layer2", "layer3", "layer4"}


def test_a_transformer_is_read_between_its_blocks() -> None:
    from torchvision.models import vision_transformer

    model = vision_transformer.VisionTransformer(
        image_size=64, patch_size=16, num_layers=8, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3
    )
    modules = [module for name, module, _ in found(model) if name.startswith("stage")]
    blocks = [f"encoder.layers.encoder_layer_{at}" for at in (1, 3, 5)]
    assert modules == [*blocks, "encoder"]


def test_a_window_transformer_whose_channels_stand_last_is_read_after_its_stages() -> None:
    from torchvision.models import swin_transformer

    model = swin_transformer.SwinTransformer(
        [4, 4], 24, [1, 1, 1], [1, 2, 4], [2, 2], num_classes=3, stochastic_depth_prob=0.0
    )
    sites = find_sites(model, 3, IMAGES)
    widths = [site.width for site in sites if site.kind == "stage"]
    assert widths == [24, 24, 48]  # one block besides; the mean over the last is what the head reads


def window_transformer() -> nn.Module:
    """At 96 x 96 pixels, its first stage has as many channels as rows and columns: 24."""
    from torchvision.models import swin_transformer

    return swin_transformer.SwinTransformer(
        [4, 4], 24, [1, 1, 1], [1, 2, 4], [3, 3], num_classes=3, stochastic_depth_prob=0.0
    ).eval()


class ChannelsFirst(nn.Module):
    """Two blocks of a ConvNeXt, whose layers inside have their channels last."""

    def __init__(self) -> None:
        from torchvision.models.convnext import CNBlock

        super().__init__()
        self.stages = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 24, 4, 4), CNBlock(24, 1e-6, 0.0)),
            nn.Sequential(nn.Conv2d(24, 48, 2, 2), CNBlock(48, 1e-6, 0.0)),
        )
        self.head = nn.Linear(48, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.stages(images).mean((2, 3)) ** 2)


@pytest.mark.parametrize(("build", "axes"), [(window_transformer, (1, 2)), (ChannelsFirst, (2, 3))])
def test_as_many_channels_as_rows_are_told_from_the_other_stages(build, axes) -> None:
    model, images = build().eval(), torch.randn(2, 3, 96, 96)
    site = next(site for site in find_stages(model, 3, images) if site.size == (24, 24))
    assert site.width == 24
    kept = []
    model.get_submodule(site.module).register_forward_hook(lambda _m, _i, output: kept.append(output))
    with torch.no_grad(), reading(model, [site]) as rows:
        model(images)
    assert kept[0].shape == (2, 24, 24, 24)
    assert torch.allclose(rows[site.name], kept[0].mean(axes))
    again = rows_of(kept[0], site)  # as the audit's stitching reads it
    assert torch.allclose(again.view(2, -1, 24).mean(1), kept[0].mean(axes), atol=1e-6)
    assert torch.equal(shaped_like(again, kept[0], site, 2), kept[0])


def test_without_other_stages_the_layers_inside_a_module_tell_its_axes() -> None:
    block = nn.Sequential(nn.LayerNorm(8), nn.Dropout(), nn.Linear(8, 8))
    shapes = {"block": (8, 8, 8), "block.0": (8, 8, 8), "block.1": (8, 8, 8)}
    modules = {"block": block, "block.0": block[0], "block.1": block[1]}
    pictures = {name: Picture(modules[name], shape) for name, shape in shapes.items()}
    assert channels_last(pictures, (64, 64)) == {"block": True, "block.0": True, "block.1": False}
    mixed = {**pictures, "block.3": Picture(nn.Conv2d(8, 8, 1), (8, 8, 8))}
    assert channels_last(mixed, (64, 64))["block"] is False


class Mixed(nn.Module):
    """A block with an attention over channels, and a layer that reads tokens for channels, as in a mixer."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Sequential(nn.Identity())
        self.tokens = nn.Sequential(nn.Linear(16, 16))
        self.norm = nn.LayerNorm(32)
        self.channels = nn.Sequential(nn.Linear(32, 32))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        attended = self.weights((tokens.transpose(1, 2) @ tokens)[:, None].softmax(-1))
        tokens = tokens @ attended[:, 0] + self.tokens(tokens.transpose(1, 2)).transpose(1, 2)
        return self.channels(self.norm(tokens))


class Mixer(nn.Module):
    """Eight such blocks on 16 tokens, and a second head that reads each token."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 32, 16, 16)
        self.blocks = nn.Sequential(*(Mixed() for _ in range(8)))
        self.norm = nn.LayerNorm(32)
        self.beside = nn.Linear(32, 3)
        self.head = nn.Linear(32, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(self.blocks(self.cut(images).flatten(2).transpose(1, 2)))
        return self.head(tokens[:, 0]) + 0 * self.beside(tokens).mean(1)


def test_what_lies_inside_a_block_and_a_second_head_are_no_stages() -> None:
    torch.manual_seed(0)
    stages = [(module, size) for name, module, size in found(Mixer()) if name.startswith("stage")]
    assert stages == [*((f"blocks.{at}", (16,)) for at in (1, 3, 5)), ("norm", (16,))]


def test_a_network_without_positions_is_read_at_its_features_and_outputs() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 8), nn.ReLU(), nn.Linear(8, 3))
    assert [name for name, *_ in found(model)] == ["features", "outputs"]


def test_without_a_head_there_is_no_site() -> None:
    with pytest.raises(NoLinearHead):
        find_sites(nn.Sequential(nn.Flatten(), nn.Linear(12288, 4)), 3, IMAGES)


def test_rows_are_means_over_positions_and_quarters() -> None:
    picture = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4)
    assert torch.equal(pooled(picture, "stage"), picture.mean((2, 3)))
    grid = pooled(picture, "grid")
    assert grid.shape == (2, 4 * (3 + 64))
    upper_left = picture[:, :, :2, :2].mean((2, 3))
    assert torch.allclose(grid[:, 0:12:4], upper_left)
    last = picture.permute(0, 2, 3, 1).contiguous()
    assert positions(last) == (4, 4)
    assert torch.equal(pooled(last, "stage"), pooled(picture, "stage"))
    assert torch.allclose(pooled(last, "grid"), grid)
    tokens = picture.flatten(2).transpose(1, 2)
    assert torch.allclose(pooled(tokens, "stage"), picture.mean((2, 3)))
    assert torch.allclose(pooled(tokens, "grid")[:, :12:4], picture[:, :, 0].mean(2))


def test_a_pass_leaves_rows_with_a_gradient_and_no_hook() -> None:
    model = tiny_network(3, batchnorm=True)
    images = torch.randn(4, 3, 16, 16)
    sites = find_sites(model, 3, images)
    with reading(model, sites) as rows:
        model(images)
    assert {site.name: site.width for site in sites if site.kind != "outputs"} == {
        name: row.shape[1] for name, row in rows.items()
    }
    rows["stage1"].sum().backward()
    assert next(model.parameters()).grad is not None
    before = dict(rows)
    model(images)
    assert rows == before
    assert not any(module._forward_hooks for module in model.modules())


def test_finding_changes_neither_mode_nor_statistics() -> None:
    model = tiny_world(batchnorm=True).model.train()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    find_sites(model, 3, torch.randn(4, 3, 16, 16))
    assert model.training
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


class Sequences(nn.Module):
    """A transformer whose tokens stand first, or its images."""

    def __init__(self, *, tokens_first: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=not tokens_first)
        self.cut = nn.Conv2d(3, 16, 8, 8)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        order = (2, 0, 1) if self.encoder.layers[0].self_attn.batch_first is False else (0, 2, 1)
        tokens = self.encoder(self.cut(images).flatten(2).permute(order))
        return self.head(tokens.mean(order.index(2)))


@pytest.mark.parametrize("side", [32, 16])
def test_tokens_that_stand_first_are_read_as_those_of_each_image(side: int) -> None:
    """Of pictures of 16 pixels there are as many tokens as images, so their numbers tell nothing."""
    images = torch.randn(4, 3, side, side)
    first, last = (Sequences(tokens_first=tokens_first).eval() for tokens_first in (True, False))
    last.load_state_dict(first.state_dict())
    rows = []
    for model in (first, last):
        with torch.no_grad(), reading(model, find_sites(model, 3, images)) as read:
            model(images)
        rows.append(read)
    assert list(rows[0]) == list(rows[1])
    assert {"stage1", "stage2", "grid3", "features"} <= set(rows[0])
    for name, row in rows[0].items():
        torch.testing.assert_close(row, rows[1][name], atol=1e-5, rtol=0)
    assert [site.tokens_first for site in find_sites(last, 3, images)] == [False] * (len(rows[1]) + 1)


def test_a_network_without_positions_is_read_behind_its_hidden_layers() -> None:
    sizes = (48, 32, 24, 16)
    hidden = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    model = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(16, 3))
    images = torch.randn(5, 3, 4, 4)
    sites = find_sites(model, 3, images)
    assert [(site.name, site.module) for site in sites[:2]] == [("stage1", "1"), ("stage2", "3")]
    assert [site.name for site in sites[2:]] == ["features", "outputs"]
    with torch.no_grad(), reading(model, sites) as rows:
        model(images)
        assert torch.equal(rows["stage2"], model[:4](images))


class Shared(nn.Module):
    """A trunk for both halves of a picture, with an activation that it uses twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.deep, self.act = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1), nn.ReLU()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.act(self.deep(self.act(self.conv(images))))


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.head = Shared(), nn.Linear(8, 3)

    def halves(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.trunk(half) for half in images.chunk(2, 2)]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([half.amax((2, 3)) for half in self.halves(images)], 1))


@pytest.mark.parametrize("module", ["trunk", "trunk.act"])
def test_a_module_that_two_pictures_share_is_read_at_both(module: str) -> None:
    """And an activation at its last use in each: what it makes between is no end of a stage."""
    model, images = Halves().eval(), torch.randn(2, 3, 32, 16)
    site = next(site for site in find_sites(model, 3, images) if site.kind == "stage")
    assert site.module == "trunk"
    every = {"trunk": 1, "trunk.act": 2}[module]
    assert site.every == 1
    with torch.no_grad(), reading(model, [replace(site, module=module, every=every)]) as rows:
        model(images)
    with torch.no_grad():
        means = [half.mean((2, 3)) for half in model.halves(images)]
    torch.testing.assert_close(rows["stage1"], (means[0] + means[1]) / 2)
