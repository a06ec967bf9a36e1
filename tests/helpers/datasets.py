"""Small datasets: short videos, frame folders, flow, generated motions, and lists of them."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.launch import launch
from helpers.videos import encode, textured_frames
from ops.data.lists import read_list

FRAMES = {"num_segments": 4, "frames_per_segment": 2, "image_tmpl": "img_{:05d}.jpg"}
TRAIN = {**FRAMES, "crop_size": 32, "flip_map": np.array([1, 0, -1])}
TEST = {**FRAMES, "scale_size": 40, "crop_size": 32}


def make_root(root):
    """Make videos v0.mp4 .. v5.mp4 and a folder of 14 frames, of which lists contain 12."""
    for i in range(6):
        encode(root / f"v{i}.mp4", textured_frames(10 + 3 * i, 48, 64, seed=i))
    (root / "frames").mkdir()
    for i, frame in enumerate(textured_frames(14, 48, 64, seed=9)):
        Image.fromarray(frame).save(root / "frames" / f"img_{i + 1:05d}.jpg", quality=95)
    return root


def views_of(transform, frames, picks):
    """All views ``[clips*crops, T, L*C, H, W]`` of some frames and picks.

    Args:
        transform: a TestTransform.
        frames: uint8 ``[n, H, W, C]``.
        picks: int64 ``[clips, T, L]``.
    """
    scaled = transform.scale(frames)
    return torch.cat([transform.crops(scaled, torch.as_tensor(clip)) for clip in picks])


def test_views(dataset, index=0):
    """All views of one video of a TestDataset, as the device cuts them."""
    frames, picks, place = dataset[0, index]
    assert place == index and frames.dtype == torch.uint8 and frames.is_contiguous()
    return torch.cat([dataset.transform.crops(frames, clip) for clip in picks])


test_views.__test__ = False


def write_flow(folder, flow, tmpl="flow_{}_{:05d}.jpg"):
    """Write uint8 ``[n, H, W, 2]`` as images of x and y, named by a template of two places."""
    folder.mkdir()
    for number, frame in enumerate(flow, 1):
        for channel, axis in enumerate("xy"):
            Image.fromarray(frame[..., channel]).save(
                folder / tmpl.format(axis, number), quality=95
            )


def videos_of(root, tmp_path, *lines):
    """The list of ``lines``, or of everything that make_root makes."""
    lines = lines or [*(f"v{i}.mp4 {i % 3}" for i in range(6)), "frames 12 2"]
    path = tmp_path / "list.txt"
    path.write_text("\n".join(lines) + "\n")
    return read_list(str(path), root_path=str(root), num_class=3)


@functools.cache
def _motion_files(videos, val_videos):
    """Path -> bytes of the motion dataset, which is made once: new interpreters take seconds."""
    with tempfile.TemporaryDirectory() as folder:
        made = launch(
            "tools/make_motion_dataset.py",
            *("--videos", videos, "--val_videos", val_videos, "--size", 48, "--frames", 12),
            *("--out", folder, "-j", 1),
        )
        if made.returncode:
            pytest.fail(made.stderr)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {path.relative_to(folder): path.read_bytes() for path in files}


def make_motion(folder, videos=16, val_videos=8):
    """The motion dataset, small, in a folder; returns the flags that name it."""
    for name, content in _motion_files(videos, val_videos).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [
        "--root_path",
        folder,
        "--class_names",
        folder / "classes.txt",
        "--train_list",
        folder / "train.txt",
        "--val_list",
        folder / "val.txt",
    ]


def make_flow(folder, videos, size=40, frames=9, template="flow_{}_{:05d}.jpg"):
    """Make folders of x and y flow for videos ``(id, label)``; returns the list file."""
    rng = np.random.default_rng(0)
    lines = []
    for video, label in videos:
        place = folder / video
        place.mkdir(parents=True)
        for number in range(1, frames + 1):
            for axis in "xy":
                level = 128 + (label * 9 if axis == "x" else -label * 5)
                picture = (rng.normal(level, 3, (size, size))).clip(0, 255).astype(np.uint8)
                Image.fromarray(picture).save(place / template.format(axis, number))
        lines.append(f"{video}\t{frames}\t{label}\n")
    (folder / "flow.txt").write_text("".join(lines))
    return folder / "flow.txt"
