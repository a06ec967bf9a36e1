"""ops/data/readers/base.py: what all readers refuse."""

import os
import time

import numpy as np
import pytest
from helpers.decoders import every_decoder
from helpers.videos import encode, textured_frames

from ops.data.readers.base import Reader, UnreadableVideo, check_file
from ops.data.readers.open import DECODERS


class Blank(Reader):
    """Three black frames of a size."""

    def __init__(self, width, height):
        super().__init__("blank.mp4")
        self.shape = (height, width, 3)

    def close(self):
        pass

    def __len__(self):
        return 3

    def decode(self, wanted):
        return np.zeros((len(wanted), *self.shape), np.uint8)


@pytest.mark.parametrize("size", [(2**20, 1), (1, 2**20), (202, 2)])
def test_frames_of_extreme_shape_are_refused(size):
    with pytest.raises(UnreadableVideo, match=rf"blank\.mp4: .*{size[0]}x{size[1]}"):
        Blank(*size).get([0, 1])


@pytest.mark.parametrize("size", [(3200, 32), (32, 3200), (1, 1)])
def test_frames_of_other_shapes_are_read(size):
    assert Blank(*size).get([2, 0]).shape == (2, size[1], size[0], 3)


@every_decoder
def test_a_video_of_extreme_shape_is_refused(tmp_path, decoder):
    path = encode(tmp_path / "wide.mp4", textured_frames(2, 16, 4096), codec="mpeg4")
    with (
        DECODERS[decoder](path) as reader,
        pytest.raises(UnreadableVideo, match=r"wide\.mp4: .*4096x16"),
    ):
        reader.get([0])


@every_decoder
@pytest.mark.parametrize("kind", ["fifo", "zeros", "folder"])
def test_video_that_is_not_a_regular_file(tmp_path, kind, decoder):
    path = tmp_path / "v.mp4"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "zeros":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    start = time.perf_counter()
    for read in (check_file, DECODERS[decoder]):
        with pytest.raises(UnreadableVideo, match=r"v\.mp4: "):
            read(str(path))
    assert time.perf_counter() - start < 1
