"""ops/scores/protocol.py: which views of a video are scored."""

from types import SimpleNamespace

import pytest

from ops.checkpoints.manifest import read_manifest
from ops.scores.protocol import (
    choose_protocol,
    default_average,
    default_sampling,
    published_result,
)
from ops.utils.errors import UserError


def network(module="tsn", published=None, average=None):
    return SimpleNamespace(
        published=published,
        average=average,
        spec={"module": module},
        scale_size=256,
        input_size=224,
        num_segments=8,
    )


@pytest.fixture(scope="module")
def entries():
    return {entry["id"]: entry for entry in read_manifest()}


def test_default_sampling(entries):
    assert default_sampling(network(), "kinetics", "random") == "center"
    assert default_sampling(network("tdn"), "kinetics", "random") == "random"
    assert default_sampling(network("tdn"), "something", "center") == "center"
    published = network(published=entries["tsm_r50_8f_k400_dense"])
    assert default_sampling(published, "kinetics", "random") == "dense"
    assert default_sampling(published, "other", "random") == "center"


def test_default_average():
    assert default_average(network("tdn"), multi_label=False) == "softmax"
    assert default_average(network("tsm"), multi_label=False) == "logits"
    assert default_average(network("tsm", average="softmax"), multi_label=False) == "softmax"
    assert default_average(network("tdn"), multi_label=True) == "logits"


def test_sizes_and_clips():
    protocol = choose_protocol(network(), sampling="dense", average="logits", crops=3)
    assert (protocol.scale_size, protocol.crop_size, protocol.clips) == (256, 224, tuple(range(10)))
    assert protocol.describe(network()).startswith("8 frames x 3 crops x 10 clips, 224")
    protocol = choose_protocol(
        network(), sampling="random", average="softmax", clip_index=4, full_res=True
    )
    assert (protocol.crop_size, protocol.clips) == (256, (4,))
    protocol = choose_protocol(network(), sampling="uniform", average="logits", clips=3)
    assert protocol.clips == (0, 1, 2)
    with pytest.raises(UserError, match=r"--crop_size 300: .*--scale_size 300"):
        choose_protocol(network(), sampling="center", average="logits", crop_size=300)


def test_published_result_with_the_fewest_views(entries):
    assert published_result(None, 8) is None
    result = published_result(entries["tsm_r50_8f_k400"], 8)
    assert (result["clips"], result["crops"]) == (1, 1)
