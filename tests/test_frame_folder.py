"""Folders of images and of flow against PIL, and against damaged files."""

import os

import numpy as np
import pytest
from helpers.videos import check, standard_samples, textured_frames
from PIL import Image

from ops.data.readers.base import UnreadableVideo
from ops.data.readers.frame_folder import (
    FlowFolder,
    FrameFolder,
    count_frames,
)
from ops.data.readers.open import open_reader
from ops.data.readers.templates import file_namer
from ops.utils.errors import UserError

TMPL = "img_{:05d}.jpg"


def write_images(folder, n, tmpl=TMPL, **options):
    folder.mkdir()
    images = textured_frames(n, 48, 80)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / tmpl.format(i + 1), **options)
    return images


@pytest.mark.parametrize(
    "tmpl", [TMPL, "{:06d}.jpg", "{:d}.jpeg", "image{:04d}.png", "frame{:03d}.webp"]
)
def test_a_folder_of_images(tmp_path, tmpl):
    folder = tmp_path / "video"
    images = write_images(folder, 12, tmpl)
    truth = np.stack(
        [np.asarray(Image.open(folder / tmpl.format(i + 1)).convert("RGB")) for i in range(12)]
    )
    if tmpl.endswith("png"):
        np.testing.assert_array_equal(truth, images)
    with open_reader(folder, image_tmpl=tmpl) as reader:
        assert isinstance(reader, FrameFolder)
    check(lambda path: open_reader(path, image_tmpl=tmpl), folder, truth, standard_samples(12))
    check(
        lambda path: open_reader(path, image_tmpl=tmpl, num_frames=9),
        folder,
        truth[:9],
        standard_samples(9),
    )


def test_gray_and_cmyk_jpeg_become_rgb(tmp_path):
    for i, mode in enumerate(("RGB", "L", "CMYK"), 1):
        Image.fromarray(textured_frames(1)[0]).convert(mode).save(tmp_path / TMPL.format(i))
    truth = np.stack(
        [np.asarray(Image.open(tmp_path / TMPL.format(i)).convert("RGB")) for i in (1, 2, 3)]
    )
    frames = FrameFolder(tmp_path, TMPL, 3).get([0, 1, 2])
    np.testing.assert_array_equal(frames[:2], truth[:2])
    np.testing.assert_allclose(
        frames[2].astype(int), truth[2], atol=1
    )  # PIL rounds CMYK in its own way


def test_frames_of_16_bits_through_a_reader(tmp_path):
    levels = np.linspace(0, 65535, 48 * 80).astype(np.uint16).reshape(48, 80)
    for number in range(1, 4):
        Image.fromarray(levels // number).save(tmp_path / f"img_{number:05d}.png")
    frames = FrameFolder(tmp_path, "img_{:05d}.png", 3).get([0, 1, 2])
    for index in range(3):
        np.testing.assert_array_equal(frames[index, ..., 0], (levels // (index + 1)) >> 8)


@pytest.mark.parametrize("kind", ["fifo", "zeros", "folder"])
def test_frame_that_is_not_a_regular_file(tmp_path, kind):
    write_images(tmp_path / "video", 3)
    path = tmp_path / "video" / TMPL.format(2)
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "zeros":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(UnreadableVideo, match=r"img_00002\.jpg: "):
        FrameFolder(tmp_path / "video", TMPL, 3).get([0, 1, 2])


@pytest.mark.parametrize(
    "damage", ["missing", "empty", "text", "truncated", "truncated_png", "other_size"]
)
def test_a_bad_image_is_named(tmp_path, damage):
    folder = tmp_path / "video"
    images = write_images(folder, 5)
    name = folder / TMPL.format(4)
    data = name.read_bytes()
    if damage == "missing":
        name.unlink()
    elif damage == "truncated_png":
        Image.fromarray(images[3]).save(name, "PNG")
        name.write_bytes(name.read_bytes()[:-100])
    elif damage == "other_size":
        Image.fromarray(images[3][:40]).save(name)
    else:
        name.write_bytes(
            {"empty": b"", "text": b"no image\n" * 99, "truncated": data[: len(data) // 2]}[damage]
        )
    with open_reader(folder, image_tmpl=TMPL, num_frames=5) as reader:
        assert len(reader.get([0, 1, 2, 4])) == 4
        with pytest.raises(UnreadableVideo, match=r"video: img_00004\.jpg") as caught:
            reader.get([0, 3])
    assert "\n" not in str(caught.value) and caught.value.path == str(folder)


def test_count_frames_with_very_long_names():
    """In the table of a shard set."""
    names = {"img_00001.jpg", f"img_{'9' * 5000}.jpg"}
    assert count_frames("folder", "img_{:05d}.jpg", names=names) == 1


def test_count_frames(tmp_path):
    folder = tmp_path / "video"
    write_images(folder, 12)
    for other in (
        "img_13.jpg",
        "flow_x_00013.jpg",
        "img_00013.jpg.part",
        "img_00013.png",
        "a.txt",
    ):
        (folder / other).touch()
    assert count_frames(folder, TMPL) == 12
    assert count_frames(tmp_path, "video/" + TMPL) == 12
    (folder / TMPL.format(7)).unlink()
    with pytest.raises(UnreadableVideo, match=r"img_00007\.jpg .*img_00008\.jpg"):
        count_frames(folder, TMPL)
    with pytest.raises(UnreadableVideo, match="No such file"):
        count_frames(tmp_path / "gone", TMPL)
    for bad in ("img_%05d.jpg", "img.jpg"):
        with pytest.raises(UserError, match="--image_tmpl"):
            count_frames(folder, bad)


def test_names_that_count_from_0(tmp_path):
    folder, flow = tmp_path / "video", tmp_path / "flow"
    images = write_images(folder, 12, "{:03d}.png")
    tmpl = "{zero:03d}.png"
    with pytest.raises(UnreadableVideo, match=r" 000\.png .*001\.png"):
        count_frames(folder, tmpl)
    (folder / "012.png").rename(folder / "000.png")
    assert count_frames(folder, tmpl) == 12
    with open_reader(folder, image_tmpl=tmpl) as reader:
        np.testing.assert_array_equal(reader.get([0, 1, 11]), images[[11, 0, 10]])
    (folder / "007.png").unlink()
    with pytest.raises(UnreadableVideo, match=r" 007\.png .*008\.png"):
        count_frames(folder, tmpl)
    write_flow(flow, 6, PAIR)
    for axis in "xy":
        (flow / PAIR.format(axis, 6)).rename(flow / PAIR.format(axis, 0))
    zero = PAIR.replace("{:", "{zero:")
    assert count_frames(flow, zero, "Flow") == 6
    (flow / PAIR.format("y", 5)).unlink()
    with pytest.raises(UnreadableVideo, match=r"_y_00005\.jpg .*_x_00005\.jpg"):
        count_frames(flow, zero, "Flow")


def test_an_empty_folder_is_unreadable(tmp_path):
    with pytest.raises(UnreadableVideo, match="no frames named"):
        open_reader(tmp_path, image_tmpl=TMPL)


# Flow

PAIR, NUMBERED, SINGLE = "flow_{}_{:05d}.jpg", "{:06d}-{}_{:05d}.jpg", "{:06d}.jpg"


def write_flow(folder, n, tmpl):
    """`n` frames in the form of `tmpl`; returns what PIL reads of them, uint8 ``[n, H, W, 2]``."""
    folder.mkdir(parents=True)
    flow = textured_frames(n, 48, 80)
    truth = np.empty((n, 48, 80, 2), np.uint8)
    for i, frame in enumerate(flow):
        if tmpl == SINGLE:
            frame[..., 2] = 0
            path = folder / tmpl.format(i + 1)
            Image.fromarray(frame).save(path, quality=95)
            x, y, _ = Image.open(path).convert("RGB").split()
            truth[i] = np.stack([x, y], -1)
        else:
            for axis in (0, 1):
                path = folder / tmpl.format(
                    *([int(folder.name)] if tmpl == NUMBERED else []), "xy"[axis], i + 1
                )
                Image.fromarray(frame[..., axis]).save(path, quality=95)
                truth[i, ..., axis] = Image.open(path).convert("L")
    return truth


@pytest.mark.parametrize("tmpl", [PAIR, NUMBERED, SINGLE, "{}/{:04d}.png"])
@pytest.mark.parametrize("name", ["000123", "123"])
def test_flow(tmp_path, name, tmpl):
    folder = tmp_path / name
    if tmpl.startswith("{}/"):
        for axis in "xy":
            (folder / axis).mkdir(parents=True)
        tmp_path = tmp_path / "images"
        truth = write_flow(tmp_path, 12, PAIR)
        for i in range(12):
            for axis in "xy":
                Image.open(tmp_path / PAIR.format(axis, i + 1)).save(
                    folder / tmpl.format(axis, i + 1)
                )
    else:
        truth = write_flow(folder, 12, tmpl)
    with open_reader(folder, image_tmpl=tmpl, modality="Flow") as reader:
        assert isinstance(reader, FlowFolder)
        assert not np.array_equal(truth[..., 0], truth[..., 1])
    check(
        lambda path: open_reader(path, image_tmpl=tmpl, modality="Flow"),
        folder,
        truth,
        standard_samples(12),
    )
    listed = 18 if tmpl == NUMBERED else 9  # lists of that form count the files of both axes
    check(
        lambda path: open_reader(path, image_tmpl=tmpl, num_frames=listed, modality="Flow"),
        folder,
        truth[:9],
        standard_samples(9),
    )


def test_flow_in_color_jpegs_is_pils_luma(tmp_path):
    for axis, image in zip("xy", textured_frames(2, 48, 80), strict=True):
        Image.fromarray(image).save(tmp_path / PAIR.format(axis, 1), quality=95)
    truth = np.stack(
        [np.asarray(Image.open(tmp_path / PAIR.format(axis, 1)).convert("L")) for axis in "xy"], -1
    )
    np.testing.assert_array_equal(FlowFolder(tmp_path, PAIR, 1).get([0])[0], truth)


@pytest.mark.parametrize("tmpl", [PAIR, NUMBERED])
@pytest.mark.parametrize("damage", ["missing", "text", "truncated", "other_size"])
def test_a_bad_flow_image_is_named(tmp_path, damage, tmpl):
    folder = tmp_path / "000123"
    write_flow(folder, 5, tmpl)
    name = folder / tmpl.format(*([123] if tmpl == NUMBERED else []), "y", 4)
    data = name.read_bytes()
    if damage == "missing":
        name.unlink()
    elif damage == "other_size":
        Image.open(name).crop((0, 0, 80, 40)).save(name)
    else:
        name.write_bytes({"text": b"no image\n" * 99, "truncated": data[: len(data) // 2]}[damage])
    with open_reader(folder, image_tmpl=tmpl, num_frames=10, modality="Flow") as reader:
        assert len(reader.get([0, 1, 2, 4])) == 4
        with pytest.raises(UnreadableVideo) as caught:
            reader.get([0, 3])
    assert caught.value.reason.startswith(name.name) and "\n" not in str(caught.value)
    if damage == "other_size":
        assert (
            caught.value.reason == f"{name.name} is 80x40, {name.name.replace('y', 'x')} is 80x48"
        )


def test_frames_of_flow_are_counted_on_both_axes(tmp_path):
    folder = tmp_path / "7"
    write_flow(folder, 6, NUMBERED)
    assert count_frames(folder, NUMBERED, "Flow") == 6
    (folder / "000007-y_00006.jpg").unlink()
    with pytest.raises(
        UnreadableVideo,
        match=r"7: 000007-y_00006\.jpg .*000007-x_00006\.jpg",
    ):
        count_frames(folder, NUMBERED, "Flow")
    (folder / "000007-x_00003.jpg").unlink()
    with pytest.raises(UnreadableVideo, match=r"000007-x_00003\.jpg .*000007-x_00004\.jpg"):
        open_reader(folder, image_tmpl=NUMBERED, modality="Flow")
    with pytest.raises(UnreadableVideo, match="no frames named flow"):
        open_reader(folder, image_tmpl=PAIR, modality="Flow")


def test_flow_that_cannot_be_flow(tmp_path):
    folder = tmp_path / "video"
    write_flow(folder, 2, PAIR)
    with pytest.raises(UserError, match=r"flow_x_00001.jpg is a .*--image_tmpl"):
        FlowFolder(folder, "flow_x_{:05d}.jpg", 2).get([0])
    with pytest.raises(UserError, match=r"folder.* 'video'"):
        open_reader(folder, image_tmpl=NUMBERED, num_frames=4, modality="Flow")
    with pytest.raises(UserError, match="extract it to a folder"):
        open_reader(folder / PAIR.format("x", 1), image_tmpl=PAIR, modality="Flow")
    with pytest.raises(UnreadableVideo, match="gone: No such file"):
        open_reader(tmp_path / "gone", image_tmpl=PAIR, modality="Flow")


@pytest.mark.parametrize(
    ("template", "modality", "fix"),
    [
        ("img_{:05d}.jpg", "RGB", "img_{zero:05d}.jpg"),
        ("flow_{}_{:05d}.jpg", "Flow", "flow_{}_{zero:05d}.jpg"),
    ],
)
def test_frames_that_count_from_zero_are_not_lost(tmp_path, template, modality, fix):
    for number in range(4):
        for name in file_namer(template, "", modality)(number):
            (tmp_path / name).touch()
    with pytest.raises(UnreadableVideo) as error:
        count_frames(tmp_path, template, modality)
    assert error.value.reason.endswith(fix)
    assert count_frames(tmp_path, fix, modality) == 4
