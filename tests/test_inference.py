import numpy as np
import pytest
import torch
from helpers.datasets import TEST, make_root, test_views, videos_of
from helpers.launch import launch
from helpers.models import small_model

from ops.data.clips import Failure, TestDataset
from ops.data.loader import ShardSampler, make_loader
from ops.distributed import World
from ops.inference import Pace, score_videos, score_views
from ops.utils.errors import UserError

WORLD = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model():
    model = small_model("tsm", num_class=3, input_size=32)
    torch.nn.init.normal_(model.head.weight)
    return model


def dataset_of(root, tmp_path, *lines, clips=4):
    sizes = {**TEST, "frames_per_segment": 1}
    return TestDataset(
        videos_of(root, tmp_path, *lines),
        **sizes,
        crops=3,
        sampling="dense",
        clips=range(clips),
        num_clips=4,
    )


def scores_of(model, dataset, **options):
    """{index: logits} as they come, the failures, and the pace."""
    done, failures = {}, []
    loader = make_loader(dataset, ShardSampler(len(dataset)), None, workers=0)
    pace = score_views(model, loader, WORLD, done.__setitem__, failures.append, **options)
    return done, failures, pace


def test_views_are_scored_as_they_are_alone(root, tmp_path, model):
    dataset = dataset_of(root, tmp_path)
    done, failures, pace = scores_of(model, dataset)
    assert (
        sorted(done) == list(range(7))
        and not failures
        and pace.videos == 7
        and pace.seconds > pace.waited > 0
    )
    for index in range(7):
        with torch.inference_mode():
            alone = torch.cat([model(views) for views in test_views(dataset, index).split(3)])
        assert done[index].dtype == np.float32 and np.array_equal(done[index], alone.numpy())


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 2}, {"batch_size": 5, "view_batch": 4}, {"batch_size": 100}, {"view_batch": 1}],
)
def test_larger_batches_change_the_rounding_only(root, tmp_path, model, options):
    dataset = dataset_of(root, tmp_path)
    one, batched = scores_of(model, dataset)[0], scores_of(model, dataset, **options)[0]
    for index in range(7):
        np.testing.assert_allclose(batched[index], one[index], atol=1e-4)


class Small(torch.nn.Module):
    """A model on a device that holds so many views."""

    def __init__(self, model, room, error=torch.OutOfMemoryError):
        super().__init__()
        self.model, self.room, self.error, self.sizes = model, room, error, []

    def forward(self, views):
        self.sizes.append(len(views))
        if len(views) > self.room:
            raise self.error(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes"
            )
        return self.model(views)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_too_many_views_are_halved_and_none_is_lost(root, tmp_path, model, capsys, error):
    dataset = dataset_of(root, tmp_path)
    expected, narrow = scores_of(model, dataset)[0], Small(model, 5, error)
    done = scores_of(narrow, dataset, batch_size=4)[0]
    assert (
        sorted(done) == list(range(7))
        and narrow.sizes[:3] == [12, 6, 3]
        and max(narrow.sizes[2:]) == 3
    )
    for index in range(7):
        np.testing.assert_allclose(done[index], expected[index], atol=1e-4)
    assert capsys.readouterr().out.count("do not fit into the memory") == 2
    with pytest.raises(UserError, match="too little memory for a single view"):
        scores_of(Small(model, 0, error), dataset)
    with pytest.raises(RuntimeError, match="another"):
        scores_of(Small(model, 0, lambda _: RuntimeError("another")), dataset)


def test_unreadable_videos_are_handed_over(root, tmp_path, model):
    dataset = dataset_of(root, tmp_path, "v0.mp4 0", "gone.mp4 1", "v1.mp4 2")
    done, failures, pace = scores_of(model, dataset, batch_size=3)
    assert sorted(done) == [0, 2] and pace.videos == 2
    assert [(failure.index, failure.id) for failure in failures] == [
        (1, "gone.mp4")
    ] and isinstance(failures[0], Failure)


def test_scores_in_list_order(root, tmp_path, model):
    dataset = dataset_of(root, tmp_path, "v0.mp4 0", "gone.mp4 1", "v1.mp4 2")
    loader = make_loader(dataset, ShardSampler(3), None, workers=2, in_order=False)
    scored = score_videos(model, loader, WORLD)
    done = scores_of(model, dataset)[0]
    assert (
        scored.logits.shape == (3, 12, 3)
        and scored.labels.tolist() == [0, 1, 2]
        and scored.failures[0].index == 1
    )
    assert np.array_equal(scored.logits[0], done[0]) and np.array_equal(scored.logits[2], done[2])
    assert (scored.logits[1] == [0, -1, 0]).all()
    nothing = dataset_of(root, tmp_path, "gone.mp4 1")
    with pytest.raises(
        UserError, match=r"none of 1 videos could be read; the first: gone.mp4: No such file"
    ):
        score_videos(model, make_loader(nothing, ShardSampler(1), None, workers=0), WORLD)


def test_pace_names_what_to_do():
    assert "83% of it waiting for data, bound by data: more -j" in Pace(20, 10.0, 8.3).text
    assert (
        Pace(20, 10.0, 1.0).text
        == "20 videos in 10.0 s, 2.00 videos/s; 10% of it waiting for data, bound by the model"
    )


PEAK = """
import resource, sys, torch
sys.path[:0] = [".", "tests"]
import numpy as np
from pathlib import Path
from helpers.videos import encode, textured_frames
from ops.data.clips import TestDataset
from ops.data.lists import read_list
from ops.data.loader import ShardSampler, make_loader
from ops.distributed import World
from ops.models import TSN
from ops.inference import score_views
folder, videos = Path(sys.argv[1]), int(sys.argv[2])
if not (folder / "v.mp4").exists():
    encode(folder / "v.mp4", textured_frames(60, 64, 640))
(folder / "list.txt").write_text("v.mp4 0\\n" * videos)
dataset = TestDataset(
    read_list(str(folder / "list.txt"), root_path=str(folder), num_class=3),
    num_segments=4,
    frames_per_segment=1,
    image_tmpl="",
    scale_size=64,
    crop_size=64,
    crops=3,
    sampling="dense",
    clips=range(10),
)
loader = make_loader(dataset, ShardSampler(videos), None, workers=0)
model = TSN(3, 4, arch="resnet18", input_size=64).eval()
score_views(model, loader, World(0, 1, torch.device("cpu")), lambda *_: None, print)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_videos(tmp_path):
    few, many = (int(launch("-c", PEAK, tmp_path, videos).stdout) for videos in (2, 8))
    assert many - few < 25, (few, many)  # MiB; a video has 5 MiB of frames
