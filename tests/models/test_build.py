import pytest
import torch

from unlabel.core.errors import OptionError
from unlabel.models.build import build
from unlabel.testing import differing


def test_the_same_seed_gives_the_same_bits_and_another_others() -> None:
    assert differing(build("small", 3, seed=4), build("small", 3, seed=4)) == []
    assert "0.0.weight" in differing(build("small", 3, seed=4), build("small", 3, seed=5))


def test_building_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    build("small", 3, seed=9)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("stem", ["imagenet", "small"])
@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_a_network_has_one_output_a_label(name: str, stem: str) -> None:
    model = build(name, 7, stem=stem).eval()
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_the_small_stem_keeps_the_resolution_of_small_images() -> None:
    sizes = {}
    for stem in ("imagenet", "small"):
        model = build("resnet18", 3, stem=stem).eval()
        model.layer1.register_forward_pre_hook(lambda _, x, stem=stem: sizes.update({stem: x[0].shape[-1]}))
        model(torch.zeros(1, 3, 32, 32))
    assert sizes == {"imagenet": 8, "small": 32}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "smal"}, "no network 'smal'.*Close: small"),
        ({"name": "small", "stem": "big"}, "no stem 'big'"),
    ],
)
def test_an_unknown_network_is_refused(arguments, says) -> None:
    with pytest.raises(OptionError, match=says):
        build(**arguments, outputs=3)
