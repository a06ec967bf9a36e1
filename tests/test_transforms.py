import numpy as np
import pytest
import torch
from helpers.datasets import views_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2.functional import center_crop

from ops.data import transforms
from ops.data.transforms import (
    RGB_SCALES,
    TRAIN_SCALES,
    TestTransform,
    TrainTransform,
    crop_offsets,
    crop_offsets_test,
    draw_crop,
    mirror,
    multi_scale_crop_sizes,
    resize,
    scaled_size,
    to_frames,
)
from ops.utils.errors import UserError

SIDE = st.integers(1, 900)


def pictures(n, height, width, channels=3, seed=0):
    """Smooth gradients plus noise, so that both resampling and sharp detail are seen."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = 127 + 80 * np.sin(x / 9.0)[None, ..., None] * np.cos(y / 7.0)[None, ..., None]
    return np.clip(base + rng.normal(0, 40, (n, height, width, channels)), 0, 255).astype(np.uint8)


def places(T, L):
    return np.arange(T * L).reshape(T, L)


# Values that the original TSM code gave for a 340x256 picture.
def test_crop_sizes_golden():
    assert multi_scale_crop_sizes(340, 256, 224) == [
        (256, 256),
        (224, 256),
        (256, 224),
        (224, 224),
        (192, 224),
        (224, 192),
        (192, 192),
        (168, 192),
        (192, 168),
        (168, 168),
    ]


def test_crop_offsets_golden():
    assert crop_offsets(340, 256, 224, 224) == [
        (0, 0),
        (116, 0),
        (0, 32),
        (116, 32),
        (58, 16),
        (0, 16),
        (116, 16),
        (58, 32),
        (58, 0),
        (29, 8),
        (87, 8),
        (29, 24),
        (87, 24),
    ]


def test_crop_sizes_near_the_wanted_one_become_it():
    assert multi_scale_crop_sizes(400, 226, 224, (1.0,)) == [(224, 224)]
    assert multi_scale_crop_sizes(400, 227, 224, (1.0,)) == [(227, 227)]
    assert multi_scale_crop_sizes(400, 222, 224, (1.0,)) == [(224, 222)]
    assert [
        len(multi_scale_crop_sizes(340, 256, 224, TRAIN_SCALES[m]))
        for m in ("RGB", "Flow", "RGBDiff")
    ] == [10, 7, 7]
    assert len(multi_scale_crop_sizes(340, 256, 224, max_distort=0)) == 4


@given(width=SIDE, height=SIDE, crop=st.integers(1, 300), seed=st.integers(0, 99))
def test_every_crop_is_inside(width, height, crop, seed):
    for w, h in multi_scale_crop_sizes(width, height, crop):
        for x, y in crop_offsets(width, height, w, h):
            assert 0 <= x <= width - w and 0 <= y <= height - h and w > 0 and h > 0
    x, y, w, h = draw_crop(width, height, crop, RGB_SCALES, np.random.default_rng(seed))
    assert (w, h) in multi_scale_crop_sizes(width, height, crop) and (x, y) in crop_offsets(
        width, height, w, h
    )


def test_draw_is_even_and_complete():
    rng = np.random.default_rng(0)
    drawn = [draw_crop(340, 256, 224, RGB_SCALES, rng) for _ in range(6000)]
    counts = np.unique([d[2] * 1000 + d[3] for d in drawn], return_counts=True)[1]
    assert len(counts) == 10 and counts.min() > 480 and counts.max() < 720
    at = [d[:2] for d in drawn if d[2:] == (224, 224)]
    assert set(at) == set(crop_offsets(340, 256, 224, 224))


def test_scaled_size():
    assert scaled_size(320, 240, 256) == (341, 256)
    assert scaled_size(240, 320, 256) == (256, 341)
    assert scaled_size(426, 240, 256) == (454, 256)
    assert scaled_size(300, 300, 256) == (256, 256)
    assert scaled_size(340, 256, 256) == (340, 256)
    assert scaled_size(123, 77, 0) == (123, 77)


def test_test_crops():
    assert crop_offsets_test(340, 256, 224, 1) == [(58, 16, False)]
    assert crop_offsets_test(341, 256, 224, 1) == [
        (58, 16, False)
    ]  # 58.5 rounds to even, as in torchvision
    assert crop_offsets_test(341, 256, 256, 3) == [(0, 0, False), (84, 0, False), (42, 0, False)]
    assert crop_offsets_test(340, 256, 224, 3) == [
        (0, 16, False),
        (116, 16, False),
        (58, 16, False),
    ]
    five = [(0, 0, False), (116, 0, False), (0, 32, False), (116, 32, False), (58, 16, False)]
    assert crop_offsets_test(340, 256, 224, 5) == five
    assert crop_offsets_test(340, 256, 224, 10) == [
        (x, y, m) for x, y, _ in five for m in (False, True)
    ]
    with pytest.raises(ValueError, match="crops is 4"):
        crop_offsets_test(340, 256, 224, 4)
    with pytest.raises(UserError, match=r"256x256 crop .* 340x255"):
        crop_offsets_test(340, 255, 256, 3)


@given(width=SIDE, height=SIDE, crop=st.integers(1, 300))
def test_center_crop_is_torchvisions(width, height, crop):
    if crop <= min(width, height):
        ((x, y, _),) = crop_offsets_test(width, height, crop, 1)
        rows = torch.arange(height)[None, :, None].expand(1, height, width)
        columns = torch.arange(width).expand(1, height, width)
        assert (y, x) == (
            center_crop(rows, [crop, crop])[0, 0, 0],
            center_crop(columns, [crop, crop])[0, 0, 0],
        )


@settings(deadline=None, max_examples=25)
@given(
    width=st.integers(8, 300),
    height=st.integers(8, 300),
    to=st.tuples(st.integers(8, 250), st.integers(8, 250)),
)
@example(width=52, height=52, to=(198, 198))  # a few values differ by 2
def test_resize_is_pils(width, height, to):
    frames = pictures(2, height, width)
    ours = resize(to_frames(frames), *to)
    for frame, other in zip(ours.permute(0, 2, 3, 1).numpy(), frames, strict=True):
        pil = np.asarray(Image.fromarray(other).resize(to, Image.Resampling.BILINEAR))
        difference = np.abs(frame.astype(int) - pil)
        assert difference.max() <= 2 and np.mean(difference == 2) < 1e-3


def test_resize_to_the_same_size_does_nothing():
    frames = to_frames(pictures(2, 20, 30))
    assert resize(frames, 30, 20) is frames


@pytest.mark.parametrize(("flip", "L"), [(False, 1), (True, 1), (True, 5)])
def test_train_clip_is_crop_resize_flip_of_pil(flip, L):
    frames = pictures(8 * L, 120, 160)
    clip = TrainTransform(112)(frames, places(8, L), np.random.default_rng(4), flip)
    assert clip.shape == (8, 3 * L, 112, 112) and clip.dtype == torch.uint8 and clip.is_contiguous()
    x, y, w, h = draw_crop(160, 120, 112, RGB_SCALES, np.random.default_rng(4))
    for i, frame in enumerate(frames):
        pil = (
            Image.fromarray(frame)
            .crop((x, y, x + w, y + h))
            .resize((112, 112), Image.Resampling.BILINEAR)
        )
        if flip:
            pil = pil.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        ours = clip[i // L, 3 * (i % L) : 3 * (i % L) + 3].permute(1, 2, 0).numpy()
        assert np.abs(ours.astype(int) - np.asarray(pil)).max() <= 1


def test_repeated_and_unordered_frames():
    frames = pictures(3, 64, 64)
    picks = np.array([[2, 0], [0, 1], [1, 1]])
    clip = views_of(TestTransform(0, 64, 1), frames, picks[None])[0].unflatten(1, (2, 3))
    for segment in range(3):
        for step in range(2):
            assert (
                clip[segment, step].permute(1, 2, 0).numpy() == frames[picks[segment, step]]
            ).all()


@pytest.mark.parametrize("crops", [1, 3, 5, 10])
def test_views_are_scale_and_crop_of_pil(crops):
    frames = pictures(4, 100, 150)
    views = views_of(TestTransform(64, 56, crops), frames, places(2, 2)[None])
    assert views.shape == (crops, 2, 6, 56, 56) and views.dtype == torch.uint8
    width, height = scaled_size(150, 100, 64)
    for view, (x, y, mirrored) in zip(
        views, crop_offsets_test(width, height, 56, crops), strict=True
    ):
        for i, frame in enumerate(frames):
            pil = (
                Image.fromarray(frame)
                .resize((width, height), Image.Resampling.BILINEAR)
                .crop((x, y, x + 56, y + 56))
            )
            expected = np.asarray(pil)[:, ::-1] if mirrored else np.asarray(pil)
            ours = view[i // 2, 3 * (i % 2) : 3 * (i % 2) + 3].permute(1, 2, 0).numpy()
            assert np.abs(ours.astype(int) - expected).max() <= 1


def test_views_of_several_clips_are_clip_major_and_scaled_once(monkeypatch):
    frames, scaled = pictures(6, 100, 150), []
    monkeypatch.setattr(
        transforms,
        "resize",
        lambda frames, *size: scaled.append(len(frames)) or resize(frames, *size),
    )
    picks = np.array([[[0, 1], [2, 3]], [[4, 5], [5, 5]], [[1, 0], [3, 2]]])
    views = views_of(TestTransform(64, 56, 10), frames, picks)
    assert scaled == [6]
    assert views.shape == (30, 2, 6, 56, 56)
    for clip in range(3):
        alone = views_of(TestTransform(64, 56, 10), frames, picks[clip : clip + 1])
        assert torch.equal(views[10 * clip : 10 * clip + 10], alone)


def test_mirrored_flow_turns_the_sign_of_x():
    frames = np.array([[[[0, 10], [128, 20], [255, 30]]]], np.uint8)  # one frame of 1 x 3
    flow, plain = (
        mirror(to_frames(frames), flow).permute(0, 2, 3, 1).tolist() for flow in (True, False)
    )
    assert flow == [[[[0, 30], [127, 20], [255, 10]]]]
    assert plain == [[[[255, 30], [128, 20], [0, 10]]]]
    assert frames[0, 0, 0, 0] == 0


@pytest.mark.parametrize("L", [1, 5])
def test_flow_clips(L):
    """The flip of x, y, x, y, ... mirrors all channels and inverts the even ones (x)."""
    frames = pictures(3 * L, 80, 100, channels=2)

    def mirrored(clip):
        other = clip.flip(-1)
        other[..., 0::2, :, :] = 255 - other[..., 0::2, :, :]
        return other

    train = TrainTransform(32, TRAIN_SCALES["Flow"], flow=True)
    straight, flipped = (
        train(frames, places(3, L), np.random.default_rng(1), flip) for flip in (False, True)
    )
    assert straight.shape == (3, 2 * L, 32, 32) and torch.equal(flipped, mirrored(straight))
    views = views_of(TestTransform(48, 40, 10, flow=True), frames, places(3, L)[None])
    assert torch.equal(views[1::2], mirrored(views[::2]))


def test_other_numbers_of_channels():
    frames = pictures(4, 40, 60, channels=2)
    assert views_of(TestTransform(32, 32, 3), frames, places(2, 2)[None]).shape == (3, 2, 4, 32, 32)
    assert TrainTransform(32)(frames, places(2, 2), np.random.default_rng(0), True).shape == (
        2,
        4,
        32,
        32,
    )


def test_crops_that_do_not_fit():
    with pytest.raises(UserError, match=r"crop of 256 .* scaled to 224"):
        TestTransform(224, 256, 1)
    with pytest.raises(UserError, match="test_crops 2"):
        TestTransform(256, 224, 2)
    with pytest.raises(UserError, match=r"64x64 crop .* 60x50"):
        views_of(TestTransform(0, 64, 1), pictures(1, 50, 60), places(1, 1)[None])


def test_tiny_frames_can_be_trained_on():
    assert TrainTransform(16)(
        pictures(1, 1, 3), places(1, 1), np.random.default_rng(0), True
    ).shape == (1, 3, 16, 16)
