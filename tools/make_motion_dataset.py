"""Generate a small action data set in which only motion tells the class.

    python tools/make_motion_dataset.py --videos 640 --size 64 --out data/motion

The photographs that ship inside scikit-learn, seen by a moving camera, as H.264 files: eight classes named after what a viewer
sees the picture do. Training videos show one photograph, validation videos the other. Every frame of every class
has the same distribution of position, scale and angle, and each class has its time-reverse, so single frames, in any order, say
nothing about the class; see `camera`. The same arguments give the same files. Writes DIR/videos/{train,val}/*.mp4,
DIR/train.txt,
DIR/val.txt (video and label, relative to DIR), DIR/classes.txt and, last, DIR/about.json.
"""
import argparse
import json
import multiprocessing
import os
import sys
from functools import lru_cache, partial
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ops.errors import UserError, run_front
from ops.files import atomic_write

# class -> (what moves, in which direction): x right and y down in the view, log of the magnification, clockwise angle
CLASSES = {
    "Moving left to right": ("x", 1), "Moving right to left": ("x", -1),
    "Moving up": ("y", -1), "Moving down": ("y", 1),
    "Zooming in": ("zoom", 1), "Zooming out": ("zoom", -1),
    "Turning clockwise": ("angle", 1), "Turning counterclockwise": ("angle", -1),
}
# How far each parameter goes in a video at speed 1: shares of the view, natural log, radians
REACH = {"x": 0.6, "y": 0.6, "zoom": 1.0, "angle": 1.2}
PHOTOS = {"train": 0, "val": 1}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--videos", type=int, required=True, help="number of training videos, at least 8")
    parser.add_argument("--val_videos", type=int, help="number of validation videos (default: a quarter, a multiple of 8)")
    parser.add_argument("--size", type=int, required=True, help="side of the videos in pixels, even")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument("--frames", type=int, default=24, help="frames of a video (default: 24)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random draw (default: 0)")
    parser.add_argument("-j", "--workers", type=int, default=os.cpu_count(), help="processes (default: all cores)")
    parser.add_argument("--force", action="store_true", help="write over a data set made with other arguments")
    args = parser.parse_args()
    if args.val_videos is None:
        args.val_videos = max(8, args.videos // 4 // 8 * 8)
    for flag, value, least in (("--videos", args.videos, 8), ("--val_videos", args.val_videos, 8), ("--size", args.size, 16),
                               ("--frames", args.frames, 2), ("-j", args.workers, 1), ("--seed", args.seed, 0)):
        if value < least:
            raise UserError(f"{flag} {value}: at least {least}")
    if args.size % 2:
        raise UserError(f"--size {args.size}: H.264 with 4:2:0 colour wants an even size")
    about = {key: getattr(args, key) for key in ("videos", "val_videos", "size", "frames", "seed")}
    try:
        make(args.out, about, args.workers, args.force)
    except OSError as error:
        raise UserError(f"--out {args.out}: cannot be written ({error.strerror})") from None


def make(out, about, workers, force):
    """Write the data set; a finished one with the same arguments is left alone, an unfinished one is completed."""
    note = out / "about.json"
    if note.exists():
        old = json.loads(note.read_text())
        if old == about:
            print(f"{out}: there already ({about['videos']} training and {about['val_videos']} validation videos)")
            return
        if not force:
            raise UserError(f"{out}: holds a data set made with other arguments ({old}); give another --out, or --force")
        note.unlink()
        for old_video in (out / "videos").rglob("*.mp4"):
            old_video.unlink()
    counts = {"train": about["videos"], "val": about["val_videos"]}
    jobs = [(split, index) for split, count in counts.items() for index in range(count)]
    for split in counts:
        (out / "videos" / split).mkdir(parents=True, exist_ok=True)
    write = partial(write_video, out=out, size=about["size"], frames=about["frames"], seed=about["seed"])
    # Spawned, not forked: PyTorch's threads do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs))) as pool:
        for _ in tqdm(pool.imap_unordered(write, jobs, chunksize=8), total=len(jobs), desc="motion videos", unit="video"):
            pass
    for split, count in counts.items():
        with atomic_write(out / f"{split}.txt", "w") as file:
            file.writelines(f"videos/{split}/{index:05d}.mp4 {index % len(CLASSES)}\n" for index in range(count))
    with atomic_write(out / "classes.txt", "w") as file:
        file.writelines(f"{name}\n" for name in CLASSES)
    with atomic_write(note, "w") as file:
        json.dump(about, file)
    print(f"{out}: {counts['train']} training and {counts['val']} validation videos")


def write_video(job, *, out, size, frames, seed):
    """One video, unless it is there: video ``index`` of a split shows class ``index % 8``."""
    split, index = job
    path = out / "videos" / split / f"{index:05d}.mp4"
    if path.exists():
        return
    torch.set_num_threads(1)
    rng = np.random.default_rng([seed, PHOTOS[split], index])
    photo = appearance(photographs()[PHOTOS[split]], rng)
    pixels = render(photo, camera(list(CLASSES.values())[index % len(CLASSES)], frames, rng), size, rng)
    with atomic_write(path) as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=24, options={"crf": "18", "g": "12"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the same bytes on any number of cores
        for frame in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())


@lru_cache
def photographs():
    """The photographs of scikit-learn, uint8 ``[427, 640, 3]`` each, once a process."""
    return load_sample_images().images


def appearance(photo, rng):
    """A photograph uint8 ``[H, W, 3]`` as float ``[1, 3, H/2, W/2]`` in [0, 1]: mirrored or not, recoloured."""
    x = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
    x = F.avg_pool2d(x, 2)  # at half size the camera's pixels are about the photograph's, so that sampling does not alias
    if rng.random() < 0.5:
        x = x.flip(-1)
    gain = torch.from_numpy(rng.uniform(0.7, 1.3, 3)).float()
    return x[:, rng.permutation(3)] ** float(rng.uniform(0.7, 1.4)) * gain[None, :, None, None]


def camera(motion, frames, rng):
    """The course of the four parameters over a video: dict of float64 ``[frames]``.

    Each parameter is ``reach * speed * phase``. The phase of the one that moves runs from -0.5 to 0.5 (or back); that of the
    others stands at a random place between the two. So at a random frame every parameter has the same
    distribution in every class.
    """
    moving, direction = motion
    course = {}
    for name, reach in REACH.items():
        phase = direction * np.linspace(-0.5, 0.5, frames) if name == moving else np.full(frames, rng.uniform(-0.5, 0.5))
        course[name] = reach * rng.uniform(0.6, 1.2) * phase
    return course


def render(photo, course, size, rng):
    """What the camera sees: uint8 ``[frames, size, size, 3]``. photo: float ``[1, 3, H, W]``; course: of :func:`camera`."""
    height, width = photo.shape[-2:]
    center = rng.uniform(0.3, 0.7, 2) * (width, height)
    scale = np.exp(rng.uniform(np.log(0.6), np.log(1.3))) * 64 / size  # the same field of view at any size
    tilt = rng.uniform(-np.pi, np.pi)
    side = np.arange(size) - (size - 1) / 2
    view = np.stack(np.meshgrid(side, side), axis=-1)  # [size, size, (x, y)]
    grids = []
    for x, y, zoom, angle in zip(course["x"], course["y"], course["zoom"], course["angle"], strict=True):
        # The picture moves by (x, y), grows by exp(zoom) and turns by angle: the camera does the opposite.
        a = tilt - angle
        turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
        points = center + scale * np.exp(-zoom) * ((view - size * np.array([x, y])) @ turn)
        grids.append((2 * points + 1) / (width, height) - 1)
    grid = torch.from_numpy(np.stack(grids)).float()
    # Reflected at the photograph's border: a black corner would tell the angle.
    pixels = F.grid_sample(photo.expand(len(grid), -1, -1, -1), grid, padding_mode="reflection", align_corners=False)
    pixels = pixels + torch.from_numpy(rng.normal(0, 0.01, pixels.shape)).float()
    return (pixels.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


if __name__ == "__main__":
    run_front(main)
