import pytest
import torch

from ops.backbones import BACKBONES
from ops.backbones.layers import module_places
from ops.models import TSN


def places_of_parameters(arch, **options):
    """Name of each parameter of a backbone -> its place."""
    with torch.device("meta"):
        backbone = TSN(5, 4, arch=arch, **options).backbone
    found = {}
    places = module_places(backbone)
    assert places.keys() == set(backbone.modules())
    for name, _ in backbone.named_parameters():
        found[name] = places[backbone.get_submodule(name.rpartition(".")[0])]
    return found


STEMS = {"mobilenetv2": ("features.0.", "features.1."), "BNInception": ("conv1_7x7_s2",)}


@pytest.mark.parametrize("arch", BACKBONES)
def test_only_the_first_layers_are_the_stem(arch):
    found = places_of_parameters(arch)
    stem = STEMS.get(arch, ("conv1.", "bn1."))
    for name, place in found.items():
        assert (place == (0, 0)) == name.startswith(stem), name


# Name of a parameter -> its stage and its layer.
@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        (
            "resnet50",
            {
                "layer1.0.conv1.weight": (1, 1),
                "layer2.0.downsample.1.bias": (2, 4),
                "layer4.2.bn3.weight": (4, 16),
            },
        ),
        (
            "mobilenetv2",
            {
                "features.2.conv.0.0.weight": (1, 1),
                "features.3.conv.0.0.weight": (1, 2),
                "features.7.conv.0.0.weight": (3, 6),
                "features.18.1.bias": (5, 17),
            },
        ),
        (
            "BNInception",
            {
                "conv2_3x3.weight": (1, 1),
                "inception_3a_1x1_bn.bias": (2, 2),
                "inception_4e_3x3.weight": (3, 9),
                "inception_5b_pool_proj.weight": (4, 11),
            },
        ),
    ],
)
def test_layers_follow_the_depth(arch, expected):
    found = places_of_parameters(arch)
    assert {name: tuple(found[name]) for name in expected} == expected
    numbers = {place.layer for place in found.values()}
    assert numbers == set(range(max(numbers) + 1))


def test_temporal_modules_belong_to_the_layer_they_are_inserted_into():
    found = places_of_parameters("resnet18", module="tdn")
    assert found["layer3.1.before_conv2.squeeze.weight"] == (3, 6)
    assert found["stem.conv.weight"] == found["stem.stage.1.conv1.weight"] == (0, 0)
